"""Layers whose weights are kept in 8 bits, through torchao: a quarter of float32's memory, half of bfloat16's."""

from importlib.util import find_spec
from typing import Any

from torch import nn

from qpeft_rerank.console import unwarned
from qpeft_rerank.errors import InputError

_FIX = "run: pip install qpeft_rerank[int8]"


def check_int8(dtype: str) -> None:
    """Refuse ``int8`` where torchao is not installed, without loading anything.

    :raises InputError: with the command that installs it.
    """
    if dtype == "int8" and find_spec("torchao") is None:
        raise InputError(f"--dtype int8: needs torchao, which is not installed; {_FIX}")


def quantize_layers(model: Any) -> None:
    """Keep a frozen model's linear layers as int8 with a scale a row, in place; products stay in its own dtype.

    Embeddings and the output layer are left as they are: the rounding of a logit would be the score's. So is what
    ``transformers`` makes of something else than linear layers: the experts of a mixture, GPT-2's layers.

    :raises InputError: if torchao is not installed.
    """
    try:
        with unwarned():
            from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise InputError(f"--dtype int8: needs torchao ({error}); {_FIX}") from None
    head = model.get_output_embeddings()
    quantize_(
        model, Int8WeightOnlyConfig(version=2), lambda module, name: type(module) is nn.Linear and module is not head
    )
