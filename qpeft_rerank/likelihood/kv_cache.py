"""A model's pass over tokens whose keys and values are kept, whatever its version of ``transformers`` calls them."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn


def cache_argument(module: nn.Module, cache: Any) -> dict[str, Any]:
    """``cache`` as the argument by which ``module.forward`` takes it: its old name ``past_key_values`` is to go from
    ``transformers`` 5.40, and older versions do not know the new one.
    """
    known = inspect.signature(module.forward).parameters
    return {"cache" if "cache" in known else "past_key_values": cache}


@torch.no_grad()
def compute_cache(module: nn.Module, ids: Tensor) -> list[Tensor]:
    """Keys and values of all tokens.

    :param module: a body without output layer (``model.base_model``).
    :param ids: ``[batch, tokens]``, padded on the right if at all.
    :returns: keys, then values, of each layer: ``[batch, heads, tokens, head_dim]``.
    """
    from transformers import DynamicCache

    cache: Any = DynamicCache()
    module(input_ids=ids, use_cache=True, **cache_argument(module, cache))
    return [part for layer in cache.layers for part in (layer.keys, layer.values)]
