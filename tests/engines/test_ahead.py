"""Reading ahead changes neither order, nor faults, nor how much is held."""

import threading
from collections.abc import Iterator

import pytest

from qpeft_rerank.engines.ahead import ahead


def numbers(made: list[int], fails_at: int | None = None) -> Iterator[int]:
    for number in range(10):
        if number == fails_at:
            raise ValueError(f"no {number}")
        made.append(number)
        yield number


def threads() -> int:
    return sum(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_the_items_come_in_order_and_one_is_made_ahead() -> None:
    made: list[int] = []
    for number in ahead(numbers(made)):
        assert len(made) <= number + 2
    assert made == list(range(10))
    assert threads() == 0


@pytest.mark.parametrize("fails_at", [0, 1, 7])
def test_a_fault_comes_where_its_item_would_have_come(fails_at: int) -> None:
    seen = []
    with pytest.raises(ValueError, match=f"no {fails_at}"):
        for number in ahead(numbers([], fails_at)):
            seen.append(number)
    assert seen == list(range(fails_at))
    assert threads() == 0


def test_an_interrupted_reader_leaves_no_thread() -> None:
    made: list[int] = []

    def read() -> None:
        stream = ahead(numbers(made))
        try:
            for number in stream:
                if number == 3:
                    raise KeyboardInterrupt
        finally:
            stream.close()

    with pytest.raises(KeyboardInterrupt):
        read()
    assert made[-1] <= 4
    assert threads() == 0
