"""What an adapter is asked for by: a folder, the name of one that ships, a name on the hub."""

import shutil
import types

import pytest

from qpeft_rerank.adapters import find
from qpeft_rerank.adapters.store import load_adapter, push_to_hub
from qpeft_rerank.errors import InputError
from tests.adapters.refusal import refused


def test_names(folder, model, monkeypatch, tmp_path):
    assert "did you mean" in refused(folder.parent / "mines", model)
    assert "no adapter_config.json" in refused(tmp_path, model)
    assert "is a file" in refused(folder / "README.md", model)
    shipped = tmp_path / "package"
    monkeypatch.setattr(find, "_shipped_folder", lambda: shipped)
    assert find.shipped_adapters() == []
    shutil.copytree(folder, shipped / "tiny-r")
    assert find.shipped_adapters() == ["tiny-r"]
    assert load_adapter("tiny-r", model).hinter.config.name == "qpeft-r"
    assert "did you mean tiny-r?" in refused("tiny-rr", model)


def test_a_name_that_ships_is_no_folder_of_the_working_directory(folder, monkeypatch):
    """The default adapter is asked for by such a name."""
    (name, *_) = find.shipped_adapters()
    beside = folder.rename(folder.parent / name)
    monkeypatch.chdir(beside.parent)
    assert find.find_adapter(name).samefile(find._shipped_folder() / name)
    for path in (f"./{name}", str(beside)):
        assert find.find_adapter(path).samefile(beside)


def test_hub_names(folder, model, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError

    asked = {}

    def download(name, allow_patterns, **_):
        asked.update(name=name, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_adapter("someone/adapter", model).hinter.config.name == "qpeft-r"
    assert asked["name"] == "someone/adapter" and not any("bin" in pattern for pattern in asked["patterns"])
    for error, words in (
        (LocalEntryNotFoundError("x"), "cannot be reached"),
        (HFValidationError("x"), "no adapter"),
        (GatedRepoError.__new__(GatedRepoError), "ask for it at https://huggingface.co/someone/adapter"),
        (Exception("peer closed the connection\nat byte 7"), "cannot be fetched: peer closed the connection"),
    ):

        def fail(name, error=error, **_):
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        assert words in refused("someone/adapter", model)


def test_push(folder, monkeypatch, tmp_path):
    import huggingface_hub

    calls = []

    class Hub:
        def create_repo(self, name, **options):
            calls.append(("create", name, options))
            return types.SimpleNamespace(repo_id=name if "/" in name else f"me/{name}")

        def upload_folder(self, **options):
            calls.append(("upload", options["repo_id"], options["folder_path"]))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert push_to_hub(folder, "someone/adapter", private=True) == "https://huggingface.co/someone/adapter"
    assert calls == [
        ("create", "someone/adapter", {"private": True, "exist_ok": True}),
        ("upload", "someone/adapter", str(folder)),
    ]
    # A name without owner is the user's own.
    assert push_to_hub(str(folder), "adapter") == "https://huggingface.co/me/adapter"
    assert calls[-1] == ("upload", "me/adapter", str(folder))
    with pytest.raises(InputError, match="no adapter to upload"):
        push_to_hub(tmp_path / "none", "someone/adapter")
    monkeypatch.setattr(Hub, "create_repo", lambda self, name, **options: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(InputError, match="no network"):
        push_to_hub(folder, "someone/adapter")
