"""A process forked from one that scores, as ``multiprocessing`` makes them on Linux, comes to an end."""

from pathlib import Path

import torch

from qpeft_rerank import Reranker
from tests.forking import forks, status_of_fork
from tests.threads import threads
from tests.tiny import save_model


@forks
def test_scoring_does_not_wait_for_threads_that_stayed_behind(tmp_path: Path) -> None:
    reranker = Reranker.from_pretrained(save_model(tmp_path), "none", dtype="float32", device="cpu")
    texts = ["Ada wrote a program", "Alan broke a cipher"]
    with threads(2):
        torch.ones(1 << 20).sum()  # a loop for both
        expected = reranker.rerank("who wrote it", texts)

        def work() -> None:
            torch.ones(1 << 20).sum()
            found = reranker.rerank("who wrote it", texts)
            assert [one.place for one in found] == [one.place for one in expected]

        assert status_of_fork(work) == 0
