"""What is a fault of the machine's, and what an answer to whether it can compute something."""

import pytest
import tiny
import torch

from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.body import Body
from qpeft_rerank.likelihood.device_faults import faults_told, is_device_fault, pass_on_faults
from qpeft_rerank.likelihood.language_model import LanguageModel

FAULTS = [
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("HIP error: the operation cannot be performed in the present state"),
]
ANSWERS = [
    torch.AcceleratorError("CUDA error: invalid configuration argument"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`"),
]
OTHERS = [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("CUDA error: by name alone")]


@pytest.fixture(scope="module")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.mark.parametrize("error", [*FAULTS, *ANSWERS, *OTHERS, MemoryError()], ids=str)
def test_which_is_told_and_which_is_passed_on(error: Exception) -> None:
    assert is_device_fault(error) == (error in [*FAULTS, *ANSWERS])
    with pytest.raises(InputError if error in [*FAULTS, *ANSWERS] else type(error)), faults_told("all is kept"):
        raise error
    if error in FAULTS or isinstance(error, MemoryError):
        with pytest.raises(type(error)):
            pass_on_faults(error)
    else:
        pass_on_faults(error)


def test_a_device_that_fails_while_a_model_is_tried_is_no_answer(tiny_model_folder, monkeypatch) -> None:
    def failing(self: Body) -> bool:
        raise FAULTS[2]

    monkeypatch.setattr(Body, "agrees", failing)
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        LanguageModel.load(tiny_model_folder, "float32", "cpu")


def test_memory_that_runs_out_while_a_model_is_tried_is_told_as_such(tiny_model_folder, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr("transformers.LlamaForCausalLM.forward", full)
    with pytest.raises(InputError, match="does not fit into the memory of cpu in float32"):
        LanguageModel.load(tiny_model_folder, "float32", "cpu")
