"""A job that stops while it writes its results: the same command goes on."""

import json
from functools import partial
from pathlib import Path

import pytest

from qpeft_rerank import outputs
from qpeft_rerank.rerank import main


class Stop(BaseException):
    """As sudden as SIGKILL."""


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("query", ["a query", "one\n\nof \u2028 <several>\nlines"])
def test_stopped_between_its_outputs_it_goes_on(
    command, tmp_path: Path, place: int, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = tmp_path / "topics.jsonl"
    topics.write_text("".join(json.dumps({"id": topic, "question": query}) + "\n" for topic in ("10", "9")), "utf-8")
    command = partial(command, topics=topics)
    files = [tmp_path / name for name in ("scores.jsonl.gz", "page.html", "out.trec")]
    options = {"scores": files[0], "explain": files[1]}
    assert main(command(**options)) == 0
    whole = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()

    def stopping(write):
        def stop(path: str, *what: object) -> None:
            if path == str(files[place]):
                raise Stop
            write(path, *what)

        return stop

    with monkeypatch.context() as patch:
        for name in ("write_lines", "write_run"):
            patch.setattr(outputs, name, stopping(getattr(outputs, name)))
        with pytest.raises(Stop):
            main(command(**options))
    assert [path.exists() for path in files] == [number < place for number in range(3)]
    assert main(command(**options)) == 0
    assert [path.read_bytes() for path in files] == whole


@pytest.mark.parametrize("flag", ["scores", "explain"])
@pytest.mark.parametrize("text", ["precious\n", "5\n", '{"qid": "10"}\n', "<title>mine – ql-plain</title>\n"])
def test_what_no_stopped_job_wrote_is_kept(
    command, tmp_path: Path, flag: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.trec.journal").touch()
    (tmp_path / "mine").write_text(text, "utf-8")
    assert main(command(**{flag: tmp_path / "mine"})) == 2
    assert f"--{flag} {tmp_path / 'mine'}: exists; add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text("utf-8") == text


def test_another_job_s_scores_are_kept_beside_a_stopped_one(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, theirs = tmp_path / "mine.jsonl", tmp_path / "theirs.jsonl"
    assert main(command(output=tmp_path / "done.trec", scores=theirs)) == 0
    kept = theirs.read_bytes()

    def stop(*of: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "write_run", stop)
        with pytest.raises(Stop):
            main(command(scores=mine))
    assert main(command(scores=theirs, depth=1)) == 2
    assert f"--scores {theirs}: exists; add --overwrite" in capsys.readouterr().err
    assert theirs.read_bytes() == kept
    assert main(command(scores=mine)) == 0


def test_beside_a_finished_run_scores_need_overwrite(command, tmp_path: Path) -> None:
    assert main(command(scores=tmp_path / "scores")) == 0
    (tmp_path / "other.trec").write_text("10 Q0 42 1 1 x\n")
    (tmp_path / "other.trec.journal").touch()
    assert main(command(output=tmp_path / "other.trec", scores=tmp_path / "scores")) == 2
    assert main(command(output=tmp_path / "new.trec", scores=tmp_path / "scores")) == 2
