"""Topics and qrels files: the cache, the new address, the old one, by hand."""

from pathlib import Path

import pytest

from qpeft_rerank.collection import evalfiles
from qpeft_rerank.collection.evalfiles import evaluation_file
from qpeft_rerank.errors import InputError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("folder", ["cache/topics-and-qrels", "cache/topics", "home/.cache/pyserini/topics-and-qrels"])
def test_a_file_put_there_by_hand_is_found(cache: Path, folder: str) -> None:
    place = cache.parent / folder
    place.mkdir(parents=True)
    (place / "topics.x.txt").write_text("1\ta\n")
    assert evaluation_file("topics", "topics.x.txt") == place / "topics.x.txt"


@pytest.mark.parametrize("folder", ["topics", "topics-and-qrels"])
def test_download_from_the_new_folder_else_the_old(
    cache: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    url, root = served
    monkeypatch.setattr(evalfiles, "SOURCES", (url + "/{kind}/{file}", url + "/topics-and-qrels/{file}"))
    (root / folder).mkdir()
    (root / folder / "topics.x.txt").write_text("1\ta\n")
    path = evaluation_file("topics", "topics.x.txt")
    assert path == cache / "topics-and-qrels" / "topics.x.txt"
    assert path.read_text() == "1\ta\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["topics.x.txt"]
    monkeypatch.setattr(evalfiles, "SOURCES", ())
    assert evaluation_file("topics", "topics.x.txt") == path


def test_a_failed_download_names_the_folder(
    cache: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evalfiles, "SOURCES", (served[0] + "/{kind}/{file}",))
    with pytest.raises(InputError) as caught:
        evaluation_file("qrels", "qrels.x.txt")
    message = str(caught.value)
    assert f"{served[0]}/qrels/qrels.x.txt" in message
    assert f"put the file into {cache / 'topics-and-qrels'} by hand" in message
    assert "\n" not in message
