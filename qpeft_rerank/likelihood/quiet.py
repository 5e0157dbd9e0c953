"""Keep transformers' bars and advice off the terminal: stderr is for what the user must know."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def quiet_transformers() -> None:
    """Show transformers' errors only, and no bars of its own. Downloads keep theirs."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)


@contextmanager
def unwarned() -> Iterator[None]:
    """No warnings logged within the block: for imports. Where torchao is installed, transformers imports it, and it
    tells about each GPU kernel that this machine has no use for.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
