"""Keep transformers' bars and advice off the terminal: stderr is for what the user must know."""

import logging

# They tell of kernels that are not for this machine, and of torch's own calls.
_TALKATIVE = ("accelerate", "torchao", "torch.utils._pytree")


def quiet_transformers() -> None:
    """Show transformers' errors only, and no bars of its own. Downloads keep theirs."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
