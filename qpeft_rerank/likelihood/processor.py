"""What this machine's processor multiplies by itself."""

import platform
from functools import cache

import torch


@cache
def multiplies_bfloat16() -> bool:
    """Whether products of bfloat16 numbers are the processor's own. Elsewhere PyTorch imitates them one conversion at a
    time, several times slower than float32's. True where PyTorch cannot tell.
    """
    if not _x86():
        return True
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(tell is None or tell() for tell in asked)


@cache
def multiplies_float16() -> bool:
    """The same of float16. True where PyTorch cannot tell."""
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", None)
    return not _x86() or asked is None or bool(asked())


def _x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def as_multiplied(products: torch.dtype) -> torch.dtype:
    """The dtype in which this processor computes products of another one best."""
    return torch.float32 if products == torch.bfloat16 and not multiplies_bfloat16() else products
