"""A stopped training whose files were damaged meanwhile ends as one that never stopped, or says what is damaged."""

import pytest

from qpeft_rerank import train
from qpeft_rerank.training.checkpoints import Checkpoints
from qpeft_rerank.training.logbook import read_log
from qpeft_rerank.training.loop import Trainer
from qpeft_rerank.training.workfolder import WorkFolder
from tests.train.words import command

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def stopped(files, model_folder, monkeypatch):
    """The work folder of a training that was stopped in its second epoch."""
    step, done = Trainer._step, []

    def failing(self, *arguments):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(1)
        step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", failing)
        assert train.main(command(files, model_folder, "--checkpoint-steps", 1)) == 130
    return files / "out.training"


def uninterrupted(files, model_folder):
    assert train.main(command(files, model_folder, "--output", files / "whole")) == 0
    return files / "whole"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("zero-shot.json", b"{"),
        ("zero-shot.json", b'{"of": 1}'),
        ("zero-shot.json", b"\xff\xfe"),
        ("zero-shot.json", b"[]"),
        ("log.csv", b""),
        ("log.csv", b"\xff\xfe\x00"),
        ("log.csv", b"step,epoch,loss,lr,grad_norm,tokens,seconds,dev\n1,1,often,,,,,\n2,1\n"),
    ],
)
def test_what_can_be_made_again_is(files, model_folder, stopped, name, damage):
    (stopped / name).write_bytes(damage)
    assert train.main(command(files, model_folder, "--checkpoint-steps", 1)) == 0
    whole = uninterrupted(files, model_folder)
    assert (files / "out" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    # What the log has lost is lost; what came after it is there.
    steps = [int(row["step"]) for row in read_log(files / "out" / "log.csv") if row["loss"]]
    assert steps == ([5, 6] if name == "log.csv" else [1, 2, 3, 4, 5, 6])


@pytest.mark.slow
def test_kept_weights_that_are_damaged(files, model_folder, stopped, capsys, monkeypatch):
    (kept,) = (stopped / "checkpoints").glob("best-*")
    kept.write_bytes(b"no weights")
    # The epoch that ends now is no better, so that the damaged one is wanted.
    monkeypatch.setattr("qpeft_rerank.training.dev.DevSet.metric", lambda *given: 0.0)
    assert train.main(command(files, model_folder, "--checkpoint-steps", 1)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: {kept}: cannot be read") and said.endswith("train again with --overwrite")
    monkeypatch.undo()
    assert train.main(command(files, model_folder, "--overwrite")) == 0
    whole = uninterrupted(files, model_folder)
    assert (files / "out" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_the_newest_checkpoint_is_damaged(files, model_folder, stopped, capsys):
    newest = Checkpoints(stopped / "checkpoints")._complete()[-1]
    (newest / "weights.safetensors").write_bytes(b"no weights")
    assert train.main(command(files, model_folder, "--checkpoint-steps", 1)) == 2
    assert f"error: {newest}: damaged" in capsys.readouterr().err


def test_what_a_killed_training_moved_away_does_not_stop_the_next(tmp_path):
    for place in ("out", "out.training/replaced", "out.training/made/out"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "adapter_config.json").write_text(place)
    with WorkFolder(tmp_path / "out", overwrite=True) as work:
        work.finish()
    assert (tmp_path / "out" / "adapter_config.json").read_text() == "out.training/made/out"
    assert not (tmp_path / "out.training").exists()


def test_what_others_keep_beside_the_output_is_not_removed(files, model_folder, stopped, capsys):
    """By the name that a training's own folder has."""
    (stopped / "notes.txt").write_text("years of work")
    for more in ([], ["--overwrite"]):
        assert train.main(command(files, model_folder, *more)) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"is made in {stopped}, which holds something else (notes.txt)" in said
    (stopped / "notes.txt").unlink()
    assert train.main(command(files, model_folder)) == 0
