"""Libraries that a model is loaded with say nothing on the terminal."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_loading_is_silent() -> None:
    pytest.importorskip("torchao", reason="comes with the [int8] extra")
    code = "from qpeft_rerank.likelihood.quiet import quiet_transformers; quiet_transformers(); "
    code += "from transformers import AutoModelForCausalLM; import torchao.quantization"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
