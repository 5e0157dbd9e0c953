"""A model and its tokenizer as ``transformers`` reads them from their files: whole, or not at all.

What a file lacks ``transformers`` draws at random, and says so in a warning; what a repository brings as code of its own
it asks on the terminal to run, be stdin a run or not. Neither is done here.
"""

from pathlib import Path
from typing import Any

from qpeft_rerank.errors import InputError, first_line

_CODE = "trust_remote_code"


def read_config(folder: Path) -> Any:
    """The configuration of a model folder."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def read_tokenizer(folder: Path, **how: Any) -> Any:
    """The tokenizer of a model folder.

    :param how: further settings of ``from_pretrained``.
    :raises ValueError: if it knows no words: some kinds are made empty where their files are not there.
    """
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **how)
    if made.vocab_size <= len(made.all_special_ids):
        raise ValueError("its tokenizer has no words; put tokenizer.json, or the files that it is made of, beside it")
    return made


def read_model(folder: Path, dtype: Any, **how: Any) -> Any:
    """The causal language model of a model folder.

    :param how: further settings of ``from_pretrained``.
    :raises ValueError: if the files lack some of its weights, or hold them in other shapes.
    """
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True, **how
    )
    model, told = loaded
    if other := sorted((name, tuple(found), tuple(shape)) for name, found, shape in told["mismatched_keys"]):
        name, found, shape = other[0]
        raise ValueError(f"{name} has the shape {found} in the file, but {shape} by config.json{_more(other)}")
    if missing := sorted(told["missing_keys"]):
        raise ValueError(
            f"its files lack {missing[0]}{_more(missing)}, which would be random numbers; take a whole one, with the "
            "head that predicts words"
        )
    return model


def said(error: BaseException) -> str:
    """What ended the reading of a model, in one line."""
    if _CODE in str(error):
        return "it is computed by code of its own, which is not run; take a model that transformers has a class for"
    return first_line(error)


def refusal(what: str, error: BaseException) -> InputError:
    """What to say of a model that cannot be read.

    :param what: file or folder, and that it is none.
    """
    return InputError(f"{what} ({said(error)})")


def _more(names: list[Any]) -> str:
    return f" and {len(names) - 1:,} more" if names[1:] else ""
