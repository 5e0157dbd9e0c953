"""Faults of a GPU and its libraries while they compute: no fault of the job's, and no answer to what can be computed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.likelihood.out_of_memory import is_out_of_memory

# What errors of no kind of their own say: of CUDA's libraries, ROCm, Triton and what joins processes.
_TOLD = ("CUDA error", "CUDA driver error", "HIP error", "cuDNN error", "Triton Error", "NCCL error")
# Of one call, and so an answer: a precision that the GPU does not have, a shape that a kernel does not take.
_OF_A_CALL = ("_NOT_SUPPORTED", "not supported", "invalid argument", "invalid configuration argument")


def is_device_fault(error: BaseException) -> bool:
    """Whether an error is one of the device or its libraries."""
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _TOLD)


def pass_on_faults(error: BaseException) -> None:
    """Raise an error again that tells of the machine, its memory or its device, and not of what was tried on it.

    Taken for an answer, it would make what a job computes depend on how the machine was when it was asked.
    """
    of_a_call = any(words in str(error) for words in _OF_A_CALL)
    if is_out_of_memory(error) or (is_device_fault(error) and not of_a_call):
        raise error


@contextmanager
def faults_told(kept: str) -> Iterator[None]:
    """Inside the context, a device that fails is told in one line.

    :param kept: what is not lost by it, and how to go on.
    :raises InputError: saying so.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_device_fault(error):
            raise
        raise InputError(
            f"the device failed ({first_line(error)}); {kept}; where it fails again, take another --device"
        ) from None
