"""What a training leaves beside its output, however it ends."""

import shutil

import pytest

from qpeft_rerank import train
from qpeft_rerank.training import workfolder
from qpeft_rerank.training.workfolder import Kept, WorkFolder, checked_output
from tests.train.words import command


class Stop(BaseException):
    """As sudden as SIGKILL."""


@pytest.mark.parametrize("again", [[], ["--overwrite"]])
def test_killed_after_the_output_was_made_it_is_cleared_away(files, model_folder, again, monkeypatch, capsys):
    words = command(files, model_folder, "--epochs", 1)

    def stop(*given):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(workfolder, "_remove", stop)
        with pytest.raises(Stop):
            train.main(words)
    assert (files / "out" / "adapter_config.json").is_file() and (files / "out.training" / "prefixes").is_dir()
    capsys.readouterr()
    assert train.main([*words, *again]) == (0 if again else 2)
    said = capsys.readouterr().err
    assert "going on" not in said and (again or "out: exists; add --overwrite" in said)
    assert not (files / "out.training").exists()


@pytest.mark.parametrize("left", ["finished", "finished lock", "finished checkpoints"])
def test_killed_while_it_cleared_away(tmp_path, left):
    for name in left.split():
        (tmp_path / "out.training" / name).mkdir(parents=True) if name == "checkpoints" else _touch(tmp_path, name)
    checked_output(tmp_path / "out", overwrite=False)
    assert not (tmp_path / "out.training").exists()


def _touch(folder, name):
    (folder / "out.training").mkdir(exist_ok=True)
    (folder / "out.training" / name).touch()


def test_killed_just_before_the_output_has_its_name_it_goes_on(files, model_folder, monkeypatch, capsys):
    words = command(files, model_folder, "--epochs", 1)
    rename = workfolder.os.rename

    def stopping(old, new):
        if new == files / "out":
            raise Stop
        rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(workfolder.os, "rename", stopping)
        with pytest.raises(Stop):
            train.main(words)
    assert (files / "out.training" / Kept.FINISHED).is_file() and not (files / "out").exists()
    assert train.main(words) == 0 and "going on after step" in capsys.readouterr().err
    assert not (files / "out.training").exists()


def test_what_another_training_holds_is_left(tmp_path):
    with WorkFolder(tmp_path / "out", overwrite=False) as work:
        (work.path / Kept.FINISHED).touch()
        checked_output(tmp_path / "out", overwrite=False)
        assert (work.path / Kept.LOCK).is_file()
        shutil.rmtree(work.path)


def test_a_training_that_is_refused_leaves_nothing(files, model_folder, capsys):
    (files / "run.trec").write_text("sun Q0 nowhere 1 1 x\n")
    assert train.main(command(files, model_folder, dev="--dev-run")) == 2
    assert "docid nowhere" in capsys.readouterr().err and not (files / "out.training").exists()
