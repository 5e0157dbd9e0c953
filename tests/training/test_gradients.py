"""The gradient of a step does not depend on how it is cut into micro-batches."""

import pytest
import tiny
import torch

from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.sources import ModelSource
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.training import gradients, prefix, students
from qpeft_rerank.training.determinism import deterministic
from qpeft_rerank.training.gradients import GradientAccumulator
from qpeft_rerank.training.logbook import read_log
from qpeft_rerank.training.loop import Running, Trainer
from qpeft_rerank.training.losses import make_loss
from qpeft_rerank.training.recipe import Recipe
from qpeft_rerank.training.sampler import EpochSampler, Sampling
from qpeft_rerank.training.student import gradient_checkpointing


def grads(student, groups, batch_tokens, loss="pointwise+hinge", way=prefix.means, of=None, cut=False, scale=1.0):
    parameters = [part.parameter for part in student.parts.values()]
    accumulator = GradientAccumulator(
        lambda sequences: way(student.model, sequences, student.hinter),
        make_loss(loss, 0.5, 0.1),
        parameters,
        batch_tokens,
        cut=cut,
        scale=scale,
    )
    with student.training():
        added = accumulator.add(student.encode(groups), of or len(groups), 7)
    return added, [parameter.grad.clone() for parameter in parameters]


@pytest.fixture
def groups(examples):
    return EpochSampler(examples, Sampling(4, 2, in_batch=True, filter_answers=False), 1).epoch(1)[0]


@pytest.mark.parametrize("loss", ["pointwise+hinge", "contrastive"])
@pytest.mark.parametrize("batch_tokens", [60, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 300, 1200))])
def test_split_invariance(make_student, groups, batch_tokens, loss):
    whole, expected = grads(make_student(), groups, 10**6, loss)
    added, found = grads(make_student(), groups, batch_tokens, loss)
    assert added.loss == pytest.approx(whole.loss, rel=1e-5)
    assert added.tokens == whole.tokens
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("loss", ["pointwise+hinge", "contrastive"])
@pytest.mark.parametrize("batch_tokens", [60, 10**6])
def test_passes_of_like_length_give_the_same(make_student, groups, batch_tokens, loss, monkeypatch):
    whole, expected = grads(make_student(), groups, 10**6, loss)
    monkeypatch.setattr(gradients, "_PASS_TOKENS", 150)
    read = []

    def way(model, sequences, hinter):
        read.append([len(sequence) for sequence in sequences])
        return prefix.means(model, sequences, hinter)

    added, found = grads(make_student(), groups, batch_tokens, loss, way, cut=True)
    assert len(read) > 2 and all(len(rows) * max(rows) <= 150 or len(rows) == 1 for rows in read)
    assert added.loss == pytest.approx(whole.loss, rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_processes_add_up(make_student, groups):
    _, expected = grads(make_student(), groups, 10**6)
    shares = [grads(make_student(), groups[rank::3], 10**6, of=len(groups))[1] for rank in range(3)]
    for one, other in zip(map(sum, zip(*shares, strict=True)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("prompt", ["plain", "qpeft", "upr"])
def test_prefix_computed_once_gives_the_same(make_student, groups, prompt):
    student = make_student(prompt=prompt)
    sequences = [sequence for group in student.encode(groups) for sequence in group]
    assert prefix.prefix_works(student.model, sequences[:4], student.hinter)
    whole, expected = grads(student, groups, 10**6)
    added, found = grads(student, groups, 700, way=prefix.means_after_prefix)
    assert added.loss == pytest.approx(whole.loss, rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_prefix_is_not_shared_where_the_adapter_changes_it(make_student, groups):
    student = make_student(prompt="qpeft")

    class Everywhere(type(student.hinter)):
        def forward(self, sequences, ids, embedded):
            return super().forward(sequences, ids, embedded) * 1.5

    student.hinter.__class__ = Everywhere
    sequences = [sequence for group in student.encode(groups) for sequence in group]
    assert not prefix.prefix_works(student.model, sequences[:4], student.hinter)
    assert not prefix.prefix_works(student.model, sequences[:4], None)


def test_gradient_checkpointing_gives_the_same(make_student, groups):
    student = make_student()
    _, expected = grads(student, groups, 10**6)
    with gradient_checkpointing(student.model, True):
        _, found = grads(student, groups, 10**6)
    assert not student.model.model.training
    assert not any(module.training for module in student.model.model.modules())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_checkpointed_layers_are_read_twice_as_they_are(model_folder, examples, groups, tmp_path, kind):
    """Without their dropout, which layers of OPT's kind have by the flag that checkpointing goes by, and without hooks."""
    settings = {"model_type": "opt", "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.5}
    folder = tiny.save_model(tmp_path / kind, **settings) if kind == "opt" else model_folder
    model = LanguageModel.load(ModelSource(kind, folder), "float32", "cpu")
    student = students.make_student("lora", model, load_template("plain"), "corrected", {}, examples, seed=1)
    _, expected = grads(student, groups, 10**6)
    read = []
    within = next(module for name, module in model.model.named_modules() if name.endswith("k_proj.base_layer"))
    within.register_forward_hook(lambda *given: read.append(1))
    for times in (1, 2):
        with gradient_checkpointing(model, True):
            _, found = grads(student, groups, 10**6)
        assert len(read) == 2 * times
    assert not model.embedding._forward_hooks
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_same_seed_same_dropout(make_student, groups):
    first, second = (grads(make_student(dropout=0.3), groups, 400)[1] for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_dropout_in_parts_of_one_group_is_consistent(make_student, groups):
    # The derivative is taken at the values that the same draws gave: a repeat finds the same.
    first, second = (grads(make_student(dropout=0.3), groups[:1], 1) for _ in range(2))
    assert first[0] == second[0]
    assert all(torch.equal(one, other) for one, other in zip(first[1], second[1], strict=True))


def test_slopes_belong_to_the_values_that_dropout_in_layers_gave(model, examples, groups):
    """Each part of a group is read twice: for the loss, and for its gradient."""
    values = []

    def way(model, sequences, hinter):
        found = prefix.means(model, sequences, hinter)
        values.append(found.detach().clone())
        return found

    student = students.make_student(
        "lora", model, load_template("plain"), "corrected", {"lora_dropout": 0.5}, examples, seed=1
    )
    grads(student, groups[:1], 200, way=way)
    half = len(values) // 2
    assert half > 1
    for first, second in zip(values[:half], values[half:], strict=True):
        assert torch.equal(first, second)


def test_only_the_adapter_gets_gradients(make_student, groups):
    student = make_student()
    grads(student, groups, 500)
    assert all(parameter.grad is None for parameter in student.model.model.parameters())
    assert not any(parameter.requires_grad for parameter in student.model.model.parameters())
    assert all(part.parameter.grad.abs().sum() > 0 for part in student.parts.values())


def limited(most_rows):
    """A computation that runs out of memory above so many rows."""

    def way(model, sequences, hinter):
        if len(sequences) > most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return prefix.means(model, sequences, hinter)

    return way


@pytest.mark.parametrize("batch_tokens", [60, 10**6], ids=["in parts", "at once"])
def test_gradients_survive_the_way_through_float16(model_folder, examples, groups, batch_tokens):
    def made(dtype, **settings):
        model = LanguageModel.load(ModelSource("tiny", model_folder), dtype, "cpu")
        student = students.make_student("qpeft-a", model, load_template("plain"), "corrected", {}, examples, seed=1)
        # As in a step of many questions: each one's share is small.
        added, found = grads(student, groups, batch_tokens, of=10_000, **settings)
        return added, torch.cat([gradient.flatten() for gradient in found])

    expected, whole = made("float32")
    scale = gradients.loss_scale(torch.float16)
    (_, plain), (added, scaled) = (made("float16", scale=one) for one in (1.0, scale))
    assert added.loss == pytest.approx(expected.loss, rel=1e-2)
    assert (scaled - whole).norm() < 0.02 * whole.norm() < 0.2 * (plain - whole).norm()


@pytest.mark.parametrize(("dtype", "scaled"), [("float16", True), ("bfloat16", False), ("float32", False)])
def test_a_training_scales_where_the_model_is_float16(model_folder, examples, tmp_path, monkeypatch, dtype, scaled):
    slopes, means = [], prefix.means

    def hooked(*given):
        values = means(*given[:3])
        if values.requires_grad:
            values.register_hook(lambda gradient: slopes.append(float(gradient.abs().max())))
        return values

    for way in ("means", "means_after_prefix"):
        monkeypatch.setattr(prefix, way, hooked)
    model = LanguageModel.load(ModelSource("tiny", model_folder), dtype, "cpu")
    student = students.make_student("qpeft-a", model, load_template("plain"), "corrected", {}, examples, seed=1)
    recipe = Recipe(epochs=1, sampling=Sampling(8, 1))
    Trainer(student, EpochSampler(examples, recipe.sampling, 1), recipe, Running(tmp_path), "x").train()
    # A question's share is an eighth; what is logged and learnt is not scaled.
    assert slopes and (max(slopes) > 100) == scaled
    assert all(float(row["grad_norm"]) < 100 for row in read_log(tmp_path / "log.csv"))


def test_a_gradient_that_float16_cannot_hold_is_no_finite_number(make_student, groups):
    def way(model, sequences, hinter):
        values = prefix.means(model, sequences, hinter)
        values.register_hook(lambda gradient: gradient * float("inf"))
        return values

    _, found = grads(make_student(), groups, 10**6, way=way, scale=gradients.loss_scale(torch.float16))
    assert not any(gradient.isfinite().all() for gradient in found)


def test_out_of_memory_halves_and_goes_on(make_student, groups, capsys):
    whole, expected = grads(make_student(), groups, 10**6)
    added, found = grads(make_student(), groups, 10**6, way=limited(3))
    assert "out of memory: micro-batches of" in capsys.readouterr().err
    assert added.loss == pytest.approx(whole.loss, rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_out_of_memory_on_one_sequence_is_the_users(make_student, groups):
    with pytest.raises(InputError, match="out of memory on one sequence of"):
        grads(make_student(), groups, 10**6, way=limited(0))


def test_gradients_without_memory_are_the_users(make_student, groups, monkeypatch, capsys):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "zeros_like", full)
    with pytest.raises(InputError, match="out of memory for the gradients"):
        grads(make_student(), groups, 10**6)
    # No smaller micro-batches were tried.
    assert not capsys.readouterr().err


def test_no_order_of_adding_up_is_left_to_chance(make_student, groups):
    """As attention's own kernels on a GPU would leave it, unless they are told not to."""
    asked = []

    def way(model, sequences, hinter):
        asked.append(torch.is_deterministic_algorithms_warn_only_enabled())
        return prefix.means(model, sequences, hinter)

    accumulator, sequences = on_gpu(make_student(), groups, way)
    with deterministic():
        accumulator.add(sequences, len(groups), 7)
        assert asked == [False]
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_has_no_such_order_is_told_once(make_student, groups, capsys):
    def way(model, sequences, hinter):
        # PyTorch has no other way for it, on no device.
        torch.zeros(4).put_(torch.tensor([1, 1]), torch.ones(2))
        return prefix.means(model, sequences, hinter)

    _, expected = grads(make_student(), groups, 10**6)
    accumulator, sequences = on_gpu(make_student(), groups, way)
    with deterministic(), pytest.warns(UserWarning, match="put_"):
        for _ in range(2):
            accumulator.add(sequences, len(groups), 7)
    said = capsys.readouterr().err
    assert said.count("equal steps will not give equal bits here (put_") == 1
    for parameter, gradient in zip(accumulator.parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def on_gpu(student, groups, way):
    """An accumulator as for a GPU, and the sequences that it adds up the gradients of."""
    parameters = [part.parameter for part in student.parts.values()]
    accumulator = GradientAccumulator(
        lambda sequences: way(student.model, sequences, student.hinter),
        make_loss("pointwise+hinge", 0.5, 0.1),
        parameters,
        10**6,
    )
    assert not accumulator.strict
    accumulator.strict = True
    return accumulator, student.encode(groups)
