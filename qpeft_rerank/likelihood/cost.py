"""What a run will cost, from the model's shape and the machine's speed, without loading weights."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from qpeft_rerank.likelihood.language_model import DTYPES, context
from qpeft_rerank.likelihood.linears import replace_linears
from qpeft_rerank.likelihood.loading import read_config, read_tokenizer, refusal
from qpeft_rerank.likelihood.quiet import quiet_transformers
from qpeft_rerank.likelihood.sharing import Attention
from qpeft_rerank.likelihood.sources import ModelSource
from qpeft_rerank.prompt.pieces import Pieces

# A forward pass reaches this share of a large matrix product's speed, as measured on two CPUs.
_EFFICIENCY = 0.6


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What is known of a model before its weights are read.

    :param body: parameters that a token passes through: all but embeddings, head, and experts left aside.
    :param head: parameters that every scored token passes through as well.
    :param attention: what planning shared passages must know.
    """

    pieces: Pieces
    max_tokens: int
    body: int
    head: int
    attention: Attention

    def operations(self, tokens: int, scored: int) -> int:
        """Floating-point operations to score: a multiplication and an addition per parameter."""
        return 2 * (self.body * tokens + self.head * scored)


def model_shape(source: ModelSource) -> ModelShape:
    """Read a model's configuration and tokenizer, and count its parameters on the meta device.

    :raises InputError: if they are no causal language model's.
    """
    quiet_transformers()
    from transformers import AutoModelForCausalLM

    try:
        whole = read_config(source.folder)
        tokenizer = read_tokenizer(source.folder)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(whole, trust_remote_code=False)
    except Exception as error:  # a configuration that is wrong fails in as many ways as it has fields
        raise refusal(f"{source.folder}: not a causal language model", error) from None
    config = whole.get_text_config()
    embedding = model.get_input_embeddings().weight
    table, head = embedding.numel(), model.get_output_embeddings()
    outside = table if head is None or head.weight is embedding else 2 * table
    body = sum(parameter.numel() for parameter in model.parameters()) - outside
    body -= _idle(model, config)
    pieces = Pieces(tokenizer, config.model_type, int(embedding.shape[0]))
    return ModelShape(pieces, context(config), body, table, Attention.of(config))


def _idle(model: Any, config: Any) -> int:
    """Parameters of a mixture's experts that a token does not pass through."""
    experts = _first_of(config, "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    taken = _first_of(config, "num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "moe_top_k")
    if not experts or not taken or taken >= experts:
        return 0
    held = sum(parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name)
    return held - held * taken // experts


def _first_of(config: Any, *names: str) -> int | None:
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if isinstance(value, int)), None)


@torch.no_grad()
def operations_per_second(device: torch.device, precision: str) -> float:
    """Speed of a linear layer of a forward pass's size on this device, in operations a second."""
    rows, width = 1024, 1024
    dtype = DTYPES[precision]
    layer = torch.nn.Sequential(torch.nn.Linear(width, width, bias=False, device=device, dtype=dtype))
    if dtype == torch.float32:
        replace_linears(layer, torch.bfloat16 if precision == "mixed" else dtype, None)
    states = torch.randn(rows, width, device=device).to(dtype)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(4):
            product = layer(states)
        product[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 4 * 2 * rows * width * width / best


def estimated_seconds(operations: int, device: torch.device, precision: str) -> float:
    """A rough time for that many operations; expect it to be right within a factor of two."""
    return operations / (_EFFICIENCY * operations_per_second(device, precision))
