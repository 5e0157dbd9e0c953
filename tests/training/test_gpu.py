"""Training on a GPU: the processor's gradients, and no more waits for it where more learns."""

import pytest
import tiny
import torch

from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.sources import ModelSource
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.training import prefix
from qpeft_rerank.training.gradients import GradientAccumulator
from qpeft_rerank.training.loop import Running, Trainer
from qpeft_rerank.training.losses import make_loss
from qpeft_rerank.training.recipe import Recipe
from qpeft_rerank.training.sampler import EpochSampler, Sampling
from qpeft_rerank.training.students import make_student
from tests.gpu import NAME, gpu
from tests.slow import slow_but

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
RECIPE = Recipe(epochs=1, sampling=Sampling(2, 1), lr=3e-3)


def student_on(device, adapter, folder, examples, dtype="float32"):
    model = LanguageModel.load(ModelSource("tiny", folder), dtype, device)
    assert str(model.device) == device
    return make_student(adapter, model, load_template("qpeft"), "corrected", {}, examples, 1)


@pytest.mark.parametrize(
    "adapter", slow_but(["qpeft-r", "qpeft-a", "soft-prompt", "lora", "prefix-tuning", "p-tuning"], "qpeft-a", "lora")
)
def test_gradients_are_the_processor_s(adapter, model_folder, examples, monkeypatch):
    def added(device):
        student = student_on(device, adapter, model_folder, examples)
        groups = student.encode(EpochSampler(examples, Sampling(2, 1), 1).epoch(1)[0])
        shared = prefix.prefix_works(student.model, groups[0], student.hinter)
        assert shared == adapter.startswith("qpeft")
        way = prefix.means_after_prefix if shared else prefix.means
        accumulator = GradientAccumulator(
            lambda sequences: way(student.model, sequences, student.hinter),
            make_loss("pointwise+hinge", 0.5, 0.1),
            [part.parameter for part in student.parts.values()],
            10**6,
        )
        loss = accumulator.add(groups, len(groups), 7).loss
        assert accumulator.strict == (device == NAME)
        return loss, [parameter.grad.cpu() for parameter in accumulator.parameters]

    expected, gradients = added("cpu")
    with gpu(monkeypatch):
        loss, found = added(NAME)
    assert loss == pytest.approx(expected, rel=1e-4)
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_steps_wait_as_often_where_more_learns(examples, tmp_path, monkeypatch):
    steps = []
    for layers in (2, 4):
        folder = tiny.save_model(tmp_path / f"model-{layers}", num_hidden_layers=layers)
        with gpu(monkeypatch) as waits:
            student = student_on(NAME, "lora", folder, examples[:2])
            waits.clear()
            sampler = EpochSampler(examples[:2], RECIPE.sampling, 1)
            running = Running(tmp_path / f"work-{layers}")
            made = Trainer(student, sampler, RECIPE, running, "x")
            step, counts = Trainer._step, []

            def counted(self, *given, step=step, counts=counts, waits=waits):
                before = len(waits)
                step(self, *given)
                counts.append(len(waits) - before)

            monkeypatch.setattr(Trainer, "_step", counted)
            assert made.train().steps == 1
            monkeypatch.undo()
        steps.append(counts)
    assert steps[0] == steps[1]
