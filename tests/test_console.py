"""Every command's faults are one line and status 2."""

import pytest

from qpeft_rerank.console import run
from qpeft_rerank.errors import InputError


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (InputError("run.trec:3: odd"), "error: run.trec:3: odd\n"),
        (PermissionError(13, "Permission denied", "/closed/out"), "error: /closed/out: Permission denied\n"),
        (OSError("the disk\nis gone"), "error: the disk\n"),
    ],
)
def test_one_line(fault: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise fault

    assert run(command) == 2
    assert capsys.readouterr().err == said
