"""What reranks where nothing is named: Q-PEFT on the embedded model."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from qpeft_rerank import Reranker, methods
from qpeft_rerank.adapters.find import shipped_adapters
from qpeft_rerank.likelihood import sources
from qpeft_rerank.rerank import _parser, main

needs_wheel = pytest.mark.skipif(sources.embedded_gguf() is None, reason=f"not installed: {sources.EMBEDDED_PIP}")


@pytest.mark.slow
@needs_wheel
def test_the_command_without_a_model_is_a_qpeft_reranker(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {}
    for place, more in enumerate([{}, {"adapter": "smollm2-135m-a"}, {"adapter": "none"}, {"prompt": "plain"}]):
        output = tmp_path / f"{place}.trec"
        assert main(command(model=None, limit=1, output=output, **more)) == 0
        runs[place] = [line.split() for line in output.read_text("utf-8").splitlines()]
    assert "with embedded, smollm2-135m-a" in capsys.readouterr().err
    assert runs[0] == runs[1] and runs[2] == runs[3]
    assert [{line[-1] for line in runs[place]} for place in (0, 2)] == [{"smollm2-135m-a"}, {"ql-plain"}]
    assert {line[4] for line in runs[0]}.isdisjoint(line[4] for line in runs[2])


@pytest.mark.slow
@needs_wheel
def test_so_is_the_library_s() -> None:
    scores = [
        Reranker.from_pretrained(dtype="float32", device="cpu", **given).score([("who wrote", "Ada wrote it.")])
        for given in ({}, {"adapter": "smollm2-135m-a"}, {"adapter": None}, {"prompt": "plain"})
    ]
    assert scores[0] == scores[1] and scores[2] == scores[3] and scores[0] != scores[2]


@pytest.mark.slow
@needs_wheel
def test_it_starts_without_what_it_has_no_use_for() -> None:
    code = (
        "import sys; from qpeft_rerank import Reranker; "
        "Reranker.from_pretrained(device='cpu').score([('who wrote', 'Ada wrote it.')]); "
        "print([name for name in ('sympy', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_named_model_or_prompt_is_taken_as_named(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setattr(methods, "embedded_gguf", lambda: Path("model.gguf"))
    asked = inspect.signature(Reranker.from_pretrained).parameters["adapter"].default
    assert _parser().get_default("adapter") == asked
    assert methods.chosen_adapter(asked, "embedded", False) == methods.EMBEDDED_ADAPTER
    assert methods.EMBEDDED_ADAPTER in shipped_adapters() and methods.EMBEDDED_ADAPTER in _parser().format_help()
    assert methods.chosen_adapter(asked, "embedded", True) is None
    assert methods.chosen_adapter(asked, model, False) is None
    for name in ("none", None):
        assert methods.chosen_adapter(name, "embedded", False) is None
    # The hub's copy of the model is another one to the adapter, which would refuse it.
    monkeypatch.setattr(methods, "embedded_gguf", lambda: None)
    assert methods.chosen_adapter(asked, "embedded", False) is None
    assert methods.chosen_adapter("smollm2-135m-r", model, True) == "smollm2-135m-r"
