"""A device that fails in the middle of a run: one line, and the same command goes on."""

from pathlib import Path

import pytest
import torch

from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.rerank import main

FAULTS = {
    "assert": torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb`"),
    "triton": RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("output", ["out.trec", "-"])
def test_it_is_one_line_and_what_was_scored_is_kept(
    command, tmp_path: Path, kind: str, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "cache"))
    assert main(command(batch_tokens=1)) == 0
    whole = (tmp_path / "out.trec").read_text()
    for path in tmp_path.glob("out.trec*"):
        path.unlink()
    words = command(batch_tokens=1, output=output if output == "-" else tmp_path / output)
    score, calls = Methods.score, []

    def failing(self: Methods, *given: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise FAULTS[kind]
        return score(self, *given)

    monkeypatch.setattr(Methods, "score", failing)
    capsys.readouterr()
    assert main(words) == 2
    told = capsys.readouterr()
    said = told.err.splitlines()[-1]
    assert said.startswith(f"error: the device failed ({str(FAULTS[kind]).splitlines()[0]}); what was scored is kept")
    assert "Traceback" not in told.err and not told.out
    assert main(words) == 0
    assert (capsys.readouterr().out if output == "-" else (tmp_path / output).read_text()) == whole
    assert len(calls) == 3 + 4
