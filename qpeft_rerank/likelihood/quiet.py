"""Keep transformers' bars and advice off the terminal: stderr is for what the user must know."""

import logging


def quiet_transformers() -> None:
    """Show transformers' errors only, and no bars of its own. Downloads keep theirs."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
