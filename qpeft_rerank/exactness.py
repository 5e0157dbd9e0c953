"""How exact a job's scores are: what ``--dtype`` and ``--certify`` come to on this machine, and what users should know."""

import argparse

import torch

from qpeft_rerank.certify import FEW
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import pick_device, pick_precision
from qpeft_rerank.likelihood.processor import multiplies_bfloat16, multiplies_float16


def settle(args: argparse.Namespace, processes: int = 1) -> None:
    """Refuse what does not go with ``--certify``, and decide the precision that it starts from.

    Where processor or GPU has no bfloat16 products, ``mixed`` costs as much as the float32 that it is checked by, and
    perhaps a second model in memory: asked for or not, it is not begun with.

    :param processes: that do the job together.
    """
    if args.certify is None:
        return
    if args.compare:
        raise InputError("--certify: makes sure of one way of scoring; leave --compare out")
    if args.alpha != 1.0:
        raise InputError("--certify: mixing in the first stage changes the first ranks; leave --alpha out")
    if args.dtype == "float32":
        raise InputError("--certify: float32 scores need no certificate; leave --dtype out")
    if processes > 1:
        raise InputError(f"--certify: works in one process, not in {processes}; leave it or the launcher out")
    if args.dtype in ("auto", "mixed"):
        device = pick_device(args.device)
        if device.type == "cpu" and not multiplies_bfloat16():
            _float32(args, "this processor does not multiply bfloat16 itself")
        elif device.type == "cuda" and pick_precision("auto", device) == "float32":
            _float32(args, "this GPU does not multiply bfloat16 itself")
        else:
            args.dtype = "mixed"


def settle_for(args: argparse.Namespace, pairs: int) -> None:
    """Leave ``--certify`` out where a run has no more pairs than the sample by which errors are measured."""
    if args.certify is not None and pairs <= FEW:
        _float32(args, f"no more than {FEW} pairs")


def _float32(args: argparse.Namespace, why: str) -> None:
    say(f"--certify {args.certify}: {why}, so all is scored in float32 at once, which needs no certificate")
    args.certify, args.dtype = None, "float32"


def notice(precision: str, device: torch.device) -> str | None:
    """What to know of a precision that the processor has no products of; None where it has."""
    if device.type != "cpu" or precision == "float32":
        return None
    if precision == "float16":
        if multiplies_float16():
            return None
        return "this processor does not multiply float16 itself: --dtype float16 takes several times as long as float32"
    if multiplies_bfloat16():
        return None
    said = (
        "saves no time here, float32 is quicker" if precision == "mixed" else "takes several times as long as float32"
    )
    return f"this processor does not multiply bfloat16 itself: --dtype {precision} {said}"
