"""The next item of a stream made while the current one is worked on."""

from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")


def ahead(items: Iterable[_Item]) -> Generator[_Item, None, None]:
    """The same items in the same order, one more than was asked for being made in a thread.

    Whatever making an item raises comes where the item would have come. The thread has ended when the stream is
    exhausted or closed.
    """
    stream = iter(items)
    end = object()

    def following() -> object:
        return next(stream, end)

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waited: Future[object] = pool.submit(following)
        while (item := waited.result()) is not end:
            waited = pool.submit(following)
            yield item  # type: ignore[misc]
