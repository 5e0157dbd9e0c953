"""A file's digest is its content's, remembered where reading it again would take long, until it changes."""

import hashlib
from pathlib import Path

import pytest

from qpeft_rerank.likelihood.identity import file_digest, model_identity
from qpeft_rerank.likelihood.sources import ModelSource


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "weights"
    path.write_bytes(b"a" * (16 << 20))
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("size", "kept"), [(3, 0), (16 << 20, 1)])
def test_large_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, kept: int) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "weights"
    path.write_bytes(b"a" * size)
    assert file_digest(path) == file_digest(path) == hashlib.sha256(b"a" * size).hexdigest()
    notes = list((tmp_path / "cache").rglob("*-*"))
    assert len(notes) == kept
    for note in notes:  # a remembered one is believed
        note.write_text("0" * 64)
        assert file_digest(path) == "0" * 64
    path.write_bytes(b"b" * (size + 1))
    assert file_digest(path) == hashlib.sha256(b"b" * (size + 1)).hexdigest()


def test_weights_that_lie_there_twice_are_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    once = model_identity(tmp_path)
    (tmp_path / "consolidated.safetensors").write_bytes(b"the same in another layout")
    assert model_identity(tmp_path) == once
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert model_identity(tmp_path) != once


def test_what_a_release_writes_beside_converted_weights_makes_no_other_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"rope_theta": 100000.0}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "model.gguf").write_bytes(b"GGUF weights")
    source = ModelSource("model", tmp_path, gguf=tmp_path / "model.gguf")
    once, folder = source.identity, ModelSource("model", tmp_path).identity
    (tmp_path / "config.json").write_text('{"rope_parameters": {"rope_theta": 100000.0}}')
    assert source.identity == once
    # Of a folder that somebody gives, nobody knows what a change means.
    assert ModelSource("model", tmp_path).identity != folder
    (tmp_path / "model.gguf").write_bytes(b"GGUF other weights")
    assert source.identity != once


def test_an_adapter_in_a_model_s_folder_is_part_of_the_model(tmp_path: Path) -> None:
    """As transformers loads it; how strong it is says its configuration alone."""
    (tmp_path / "config.json").write_text("{}")
    seen = {model_identity(tmp_path)}
    for alpha in (8, 16):
        (tmp_path / "adapter_config.json").write_text(f'{{"peft_type": "LORA", "lora_alpha": {alpha}}}')
        seen.add(model_identity(tmp_path))
    assert len(seen) == 3


def test_a_folder_is_the_model_that_the_hub_gives(tmp_path: Path) -> None:
    """Of which no pickles are fetched where there are safetensors; in a trainer's folder they lie beside."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    once = model_identity(tmp_path)
    for name in ("training_args.bin", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"pickle")
    assert model_identity(tmp_path) == once
    (tmp_path / "model.safetensors").unlink()
    assert model_identity(tmp_path) != once
