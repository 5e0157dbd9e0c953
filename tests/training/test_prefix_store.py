"""Kept states of passages: equal results with and without, whoever wrote them, whatever became of the files."""

import os
import shutil
import time
from types import SimpleNamespace

import pytest
import tiny
import torch

from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.sources import ModelSource
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.training import prefix
from qpeft_rerank.training.dev import dev_from_examples, score_dev
from qpeft_rerank.training.loop import Running, Trainer
from qpeft_rerank.training.prefix_scorer import PrefixScorer, plan_suffixes
from qpeft_rerank.training.prefix_store import PrefixStore
from qpeft_rerank.training.recipe import Recipe
from qpeft_rerank.training.sampler import EpochSampler, Sampling
from qpeft_rerank.training.students import make_student as real_student

RECIPE = Recipe(epochs=3, sampling=Sampling(2, 1), lr=3e-3, patience=3)
MODELS = {
    "llama": ({"kind": "llama"}, True),
    "gpt2": ({"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}, True),
    # Passages of several windows: distances must be right, whatever the padding.
    "gemma3": ({"kind": "gemma", "model_type": "gemma3_text", "sliding_window": 16}, True),
    "gemma2": ({"kind": "gemma", "model_type": "gemma2"}, False),  # caps its logits
    "mamba": ({"model_type": "mamba", "state_size": 4}, False),  # has no keys and values
}


@pytest.fixture
def student(make_student):
    return make_student()


@pytest.fixture
def sequences(student, examples):
    groups = EpochSampler(examples, Sampling(4, 2), 1).epoch(1)[0]
    return [sequence for group in student.encode(groups) for sequence in group]


def prefix_of(sequence):
    return tuple(sequence.ids[: prefix.prefix_length(sequence)])


@pytest.mark.parametrize("adapter", ["qpeft-r", "qpeft-a"])
@pytest.mark.parametrize("name", MODELS)
def test_same_values_and_gradients(tmp_path, examples, name, adapter):
    settings, works = MODELS[name]
    model = LanguageModel.load(ModelSource(name, tiny.save_model(tmp_path / "model", **settings)), "float32", "cpu")
    student = real_student(adapter, model, load_template("plain"), "corrected", {}, examples, 1)
    groups = student.encode(EpochSampler(examples, Sampling(4, 2), 1).epoch(1)[0])
    sequences = [sequence for group in groups for sequence in group]
    store = PrefixStore(tmp_path / "kept", model)
    assert prefix.prefix_works(model, sequences, student.hinter, store) == works
    if not works:
        return
    assert len({prefix.prefix_length(sequence) for sequence in sequences}) > 2
    values, grads = [], []
    for kept in (None, store):
        for part in student.parts.values():
            part.parameter.grad = None
        found = prefix.means_after_prefix(model, sequences, student.hinter, kept)
        found.sin().sum().backward()
        values.append(found.detach())
        grads.append(torch.cat([part.parameter.grad.flatten() for part in student.parts.values()]))
    torch.testing.assert_close(values[1], values[0], rtol=0, atol=2e-3)
    assert (grads[1] - grads[0]).norm() < 1e-2 * grads[0].norm()


def test_used_is_what_is_kept(tmp_path, student, sequences):
    store = PrefixStore(tmp_path, student.model)
    first, again = (store.states(prefix_of(sequences[0])) for _ in range(2))
    assert all(part.dtype == torch.float16 for part in first)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    # The same numbers whatever it is read beside, and from a store that never wrote.
    values = prefix.means_after_prefix(student.model, sequences, student.hinter, store)
    anew = PrefixStore(tmp_path / "other", student.model)
    assert torch.equal(values, prefix.means_after_prefix(student.model, sequences, student.hinter, anew))
    assert torch.equal(values, prefix.means_after_prefix(student.model, sequences, student.hinter, store))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_half_precision_only_where_it_holds_everything(tmp_path, model_folder, sequences, dtype, monkeypatch):
    model = LanguageModel.load(ModelSource("tiny", model_folder), dtype, "cpu")
    store = PrefixStore(tmp_path, model)
    expected = [part.clone() for part in store._compute(prefix_of(sequences[0]))]
    expected[1][0, 0, 0] = 7e4
    monkeypatch.setattr(store, "_compute", lambda tokens: expected)
    for _ in range(2):
        found = store.states(prefix_of(sequences[0]))
        assert all(part.dtype == model.dtype for part in found)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_models_share_a_folder_without_mixing(tmp_path, student, sequences):
    other_folder = tiny.save_model(tmp_path / "other", seed=5)
    other = LanguageModel.load(ModelSource("tiny", other_folder), "float32", "cpu")
    stores = [PrefixStore(tmp_path / "kept", model) for model in (student.model, other)]
    one, two = (store.states(prefix_of(sequences[0])) for store in stores)
    assert not torch.equal(one[0], two[0])
    assert torch.equal(stores[0].states(prefix_of(sequences[0]))[0], one[0])


def never(self, tokens):
    raise AssertionError("to be read, not computed")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path):
    path.write_bytes(b"")


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-50] ^= 0x40
    path.write_bytes(data)


def test_a_file_that_goes_away_meanwhile_is_no_fault(tmp_path, student):
    (tmp_path / ".renamed.tmp").symlink_to(tmp_path / "absent")  # listed, but not there when looked at
    assert PrefixStore(tmp_path, student.model).folder == tmp_path


@pytest.mark.parametrize("damage", [cut, emptied, flipped])
def test_damaged_file_is_computed_again(tmp_path, student, sequences, damage, monkeypatch):
    tokens = prefix_of(sequences[0])
    whole = [part.clone() for part in PrefixStore(tmp_path, student.model).states(tokens)]
    path = PrefixStore(tmp_path, student.model).path(tokens)
    damage(path)
    found = PrefixStore(tmp_path, student.model).states(tokens)
    assert all(torch.equal(one, other) for one, other in zip(found, whole, strict=True))
    # And whole from then on.
    monkeypatch.setattr(PrefixStore, "_compute", never)
    assert torch.equal(PrefixStore(tmp_path, student.model).states(tokens)[0], whole[0])


def test_full_disk_changes_no_result(tmp_path, student, sequences, monkeypatch, capsys):
    expected = prefix.means_after_prefix(
        student.model, sequences, student.hinter, PrefixStore(tmp_path / "room", student.model)
    )
    usage = SimpleNamespace(total=100 * 2**30, free=4 * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    store = PrefixStore(tmp_path / "full", student.model)
    assert torch.equal(expected, prefix.means_after_prefix(student.model, sequences, student.hinter, store))
    assert not list((tmp_path / "full").iterdir())
    said = capsys.readouterr().err
    assert said.count("takes no more passages (the disk is nearly full)") == 1


def test_failing_writes_change_no_result(tmp_path, student, sequences, monkeypatch, capsys):
    def failing(*arguments):
        raise OSError(28, "No space left on device")

    expected = PrefixStore(tmp_path / "room", student.model).states(prefix_of(sequences[0]))
    monkeypatch.setattr(os, "replace", failing)
    store = PrefixStore(tmp_path / "full", student.model)
    for _ in range(2):
        assert torch.equal(store.states(prefix_of(sequences[0]))[0], expected[0])
    assert not list((tmp_path / "full").iterdir())
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_folder_that_goes_away_changes_no_result(tmp_path, student, sequences, capsys):
    store = PrefixStore(tmp_path / "kept", student.model)
    expected = store.states(prefix_of(sequences[0]))
    shutil.rmtree(tmp_path / "kept")
    for _ in range(2):
        found = store.states(prefix_of(sequences[0]))
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert capsys.readouterr().err.count("takes no more passages (No such file or directory)") == 1


def test_unfinished_files_of_the_dead_are_removed(tmp_path, student):
    dead, alive = tmp_path / ".a.1.tmp", tmp_path / ".b.2.tmp"
    dead.write_bytes(b"x")
    alive.write_bytes(b"x")
    os.utime(dead, (time.time() - 9999,) * 2)
    PrefixStore(tmp_path, student.model)
    assert not dead.exists() and alive.exists()


def test_a_folder_that_cannot_be_made(tmp_path, student):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"--prefix-cache .*file.*: cannot be made"):
        PrefixStore(tmp_path / "file", student.model)


@pytest.mark.parametrize("hints", [True, False])
@pytest.mark.parametrize("prompt", ["plain", "qpeft", "upr"])
def test_dev_scores_are_the_reference_scorers(tmp_path, make_student, examples, prompt, hints):
    student = make_student(prompt=prompt)
    dev = dev_from_examples(examples)
    hinter = student.hinter if hints else None
    reference = Scorer(student.model, student.template, hinter)
    store = PrefixStore(tmp_path, student.model)
    found = score_dev(dev, PrefixScorer(student.model, student.template, hinter, None, store), 400)
    expected = score_dev(dev, reference, 400)
    targets = [len(sequence.target) for sequence in reference.encode(c.texts for c in dev.candidates)]
    assert max(abs(a - b) / n for a, b, n in zip(found, expected, targets, strict=True)) < 2e-3
    assert dev.metric(found) == pytest.approx(dev.metric(expected), abs=0.05)
    # With hints and without, the same passage has one file.
    passages = len({(c.passage.title, c.passage.text) for c in dev.candidates})
    assert len(list(tmp_path.iterdir())) == passages
    if hints:
        score_dev(dev, PrefixScorer(student.model, student.template, None, None, store), 400)
        assert len(list(tmp_path.iterdir())) == passages


def test_batches_of_suffixes(sequences):
    batches = plan_suffixes(sequences, 250)
    assert sorted(index for batch in batches for index in batch.indices) == list(range(len(sequences)))
    assert len(batches) > 1
    own = [len(sequence) - prefix.prefix_length(sequence) for sequence in sequences]
    order = [own[index] for batch in batches for index in batch.indices]
    assert order == sorted(order, reverse=True)
    for batch in batches:
        longest = max(prefix.prefix_length(sequences[index]) for index in batch.indices)
        assert batch.width == own[batch.indices[0]]
        assert len(batch.rows) == 1 or len(batch.rows) * (longest + batch.width) <= 250
    assert [batch.indices for batch in plan_suffixes(sequences, 1)] == [[i] for b in batches for i in b.indices]


def trained(student, examples, folder, kept):
    sampler = EpochSampler(examples, RECIPE.sampling, RECIPE.seed)
    running = Running(folder, batch_tokens=300, checkpoint_steps=3, prefixes=kept)
    return Trainer(student, sampler, RECIPE, running, "data", dev_from_examples(examples))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("stop_at", "files_too"),
    [(1, False), pytest.param(6, True, marks=pytest.mark.slow), pytest.param(10, False, marks=pytest.mark.slow)],
)
def test_interrupted_training_ends_with_the_same_bits(
    make_student, examples, tmp_path, interrupted, stop_at, files_too
):
    whole = make_student(dropout=0.2)
    expected = trained(whole, examples, tmp_path / "whole", tmp_path / "kept").train()
    kept = tmp_path / "others"
    first = trained(make_student(dropout=0.2), examples, tmp_path / "broken", kept)
    assert first.store is not None
    interrupted(first, stop_at)
    if files_too:
        shutil.rmtree(kept)
    again = make_student(dropout=0.2)
    assert trained(again, examples, tmp_path / "broken", kept).train() == expected
    assert same(again.weights(), whole.weights())


def test_second_training_reads_what_the_first_wrote(make_student, examples, tmp_path, monkeypatch):
    one, two, alone = make_student(), make_student(), make_student()
    outcome = trained(one, examples, tmp_path / "one", tmp_path / "kept").train()
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert len(files) == 8
    assert trained(alone, examples, tmp_path / "alone", None).train().steps == outcome.steps

    monkeypatch.setattr(PrefixStore, "_compute", never)
    assert trained(two, examples, tmp_path / "two", tmp_path / "kept").train() == outcome
    assert same(one.weights(), two.weights())
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == files
    for name, value in alone.weights().items():
        torch.testing.assert_close(one.weights()[name], value, rtol=0, atol=5e-3)


def test_no_store_where_rounding_spoils_the_scores(make_student, examples, tmp_path, monkeypatch, capsys):
    rounded = PrefixStore._rounded
    monkeypatch.setattr(PrefixStore, "_rounded", lambda self, states: [part * 0 for part in rounded(self, states)])
    found = trained(make_student(), examples, tmp_path / "one", tmp_path / "kept")
    assert found.store is None and "computed each time" in capsys.readouterr().err
