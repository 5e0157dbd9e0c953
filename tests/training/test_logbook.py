"""The record of a training that goes on, and of one that starts where another left its own."""

import pytest

from qpeft_rerank.training.logbook import Logbook, read_log

VALUES = {"epoch": 1, "loss": 0.5, "lr": 0.1}


@pytest.mark.parametrize(("step", "judged", "rows"), [(0, 0, 0), (0, 1, 0), (2, 0, 2)])
def test_nothing_stays_of_what_nothing_goes_on_from(tmp_path, step, judged, rows):
    first = Logbook(tmp_path / "log.csv", 0, 0)
    for number in range(1, 4):
        first.write(VALUES | {"step": number})
    first.close()
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events").write_bytes(b"x")
    Logbook(tmp_path / "log.csv", step, judged).close()
    assert len(read_log(tmp_path / "log.csv")) == rows
    # An untrained adapter that was judged is a beginning.
    assert (tmp_path / "tensorboard").exists() == bool(step or judged)
