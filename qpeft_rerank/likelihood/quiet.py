"""Keep transformers' bars and advice off the terminal: stderr is for what the user must know."""

import importlib
import logging

from qpeft_rerank.console import unwarned


def quiet_transformers() -> None:
    """Import what loads models, show its errors only, and no bars of its own. Downloads keep theirs."""
    with unwarned():
        importlib.import_module("transformers.modeling_utils")  # which a model's class would import
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
