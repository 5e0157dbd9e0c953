"""A thread that asks an index is known to Java only while it does."""

import threading
from pathlib import Path

import pytest

from qpeft_rerank.collection.lucene import open_index
from qpeft_rerank.trec.topics import Topic

pytest.importorskip("jnius_config", reason="Pyserini is not installed")


@pytest.mark.slow
def test_java_forgets_a_thread_that_asked_and_ended(tiny_index: Path, topics: dict[str, Topic]) -> None:
    index = open_index(str(tiny_index))
    from jnius import autoclass

    known = autoclass("java.lang.management.ManagementFactory").getThreadMXBean()

    def ask() -> None:
        assert index.fetch(["21"]) and index.first_absent(["21"]) is None and list(index.search(topics, hits=2))

    before = known.getThreadCount()
    for _ in range(6):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert known.getThreadCount() < before + 6
