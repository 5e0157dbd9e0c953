"""The modules of a decoder of Llama's kind, as :class:`~qpeft_rerank.likelihood.body.Body` reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qpeft_rerank.likelihood.linears import frozen, linear_of
from qpeft_rerank.likelihood.narrow import as_kept

# Ways to scale rotary positions whose angles do not depend on how long a sequence is.
_STATIC_ROPE = {"default", "linear", "llama3", "yarn"}
_PREFIX = "model."
_HEAD = "lm_head"
# Positions whose angles are compared.
_POSITIONS = 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """What weights do not say.

    :param head_dim: width of an attention head.
    :param scaling: of attention's logits.
    :param epsilon: of the norms.
    :param frequencies: of rotary positions, ``head_dim / 2`` of them.
    :param rope_scaling: of their cosines and sines.
    """

    head_dim: int
    scaling: float
    epsilon: float
    frequencies: list[float]
    rope_scaling: float

    @classmethod
    def of(cls, decoder: Any) -> "Shape | None":
        """Read a decoder of ``transformers`` that a :class:`Body` was made of; None where this says not all."""
        rope, attentions = decoder.rotary_emb, [layer.self_attn for layer in decoder.layers]
        if getattr(rope, "rope_type", None) not in _STATIC_ROPE or not hasattr(rope, "inv_freq"):
            return None
        first = attentions[0]
        found = cls(
            int(first.head_dim),
            float(first.scaling),
            _epsilon(decoder.norm),
            rope.inv_freq.float().tolist(),
            float(rope.attention_scaling),
        )
        norms = [module for module in decoder.modules() if type(module) is type(decoder.norm)]
        alike = all((of.head_dim, of.scaling) == (first.head_dim, first.scaling) for of in attentions)
        return found if alike and all(_epsilon(norm) == found.epsilon for norm in norms) else None


class Norm(nn.Module):
    """Weights of a root-mean-square norm."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = frozen(weight)
        self.variance_epsilon = epsilon


class Rotary(nn.Module):
    """Cosines and sines of rotary positions."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        super().__init__()
        self.frequencies = torch.tensor(shape.frequencies, dtype=torch.float32, device=device)
        self.scaling = shape.rope_scaling

    def forward(self, vectors: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions ``[rows, tokens]`` to two of ``[rows, tokens, head_dim]``."""
        angles = positions[..., None].float() * self.frequencies
        angles = torch.cat((angles, angles), -1)
        return angles.cos() * self.scaling, angles.sin() * self.scaling


class Decoder(nn.Module):
    """Everything between tokens and head; :class:`Body` runs it."""

    def __init__(self, weights: dict[str, Tensor], shape: Shape) -> None:
        super().__init__()
        table = weights.pop("embed_tokens.weight")
        self.embed_tokens = nn.Embedding.from_pretrained(table, freeze=True)
        self.norm = Norm(weights.pop("norm.weight"), shape.epsilon)
        self.rotary_emb = Rotary(shape, table.device)
        count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
        self.layers = nn.ModuleList(_layer(weights, f"layers.{number}.", shape) for number in range(count))


def read_weights(folder: Path, device: torch.device) -> dict[str, Tensor]:
    """All weights of a model folder in float32, those of the processor mapped from the file where they are that.

    :raises OSError: if there are none, or a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    weights = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  (no mapping, though it has keys)
                    weights[name] = file.get_tensor(name).to(device, torch.float32)
    except SafetensorError as error:
        raise OSError(f"{folder}: {error}") from None
    if not weights:
        raise OSError(f"{folder}: no safetensors")
    return weights


def decoder_from(weights: dict[str, Tensor], shape: Shape, tied: bool) -> tuple[Decoder, nn.Linear]:
    """A decoder, and the output layer.

    :param weights: by their names in a checkpoint.
    :raises KeyError: if one is missing.
    :raises ValueError: if some are of no use here.
    """
    inner = {name.removeprefix(_PREFIX): tensor for name, tensor in weights.items() if name.startswith(_PREFIX)}
    outer = {name: tensor for name, tensor in weights.items() if not name.startswith(_PREFIX)}
    decoder = Decoder(inner, shape)
    if tied:
        outer[f"{_HEAD}.weight"] = decoder.embed_tokens.weight
    head = _linear(outer, _HEAD)
    if inner or outer:
        raise ValueError(f"no place for {next(iter(inner or outer))}")
    return decoder, head


def same_decoder(ours: tuple[Decoder, nn.Linear], theirs: tuple[Any, Any]) -> bool:
    """Whether two decoders with their heads hold the same numbers, and turn positions by the same angles."""
    for one, other in zip(ours, theirs, strict=True):
        made, found = dict(one.named_parameters()), dict(other.named_parameters())
        if made.keys() != found.keys():
            return False
        layers = dict(other.named_modules())
        for name, tensor in made.items():
            owner, _, part = name.rpartition(".")
            if not torch.equal(as_kept(layers[owner], part, tensor), found[name]):
                return False
    places = torch.arange(_POSITIONS, device=ours[0].embed_tokens.weight.device)[None]
    vectors = ours[0].embed_tokens.weight[None, :1]
    angles = zip(ours[0].rotary_emb(vectors, places), theirs[0].rotary_emb(vectors, places), strict=True)
    ids = torch.arange(8, device=places.device)
    embedded = torch.equal(ours[0].embed_tokens(ids), theirs[0].embed_tokens(ids))
    return embedded and all(torch.equal(one, other.float()) for one, other in angles)


def _layer(weights: dict[str, Tensor], name: str, shape: Shape) -> nn.Module:
    layer = nn.Module()
    layer.self_attn, layer.mlp = nn.Module(), nn.Module()
    for norm in ("input_layernorm", "post_attention_layernorm"):
        setattr(layer, norm, Norm(weights.pop(f"{name}{norm}.weight"), shape.epsilon))
    for norm in ("q_norm", "k_norm"):
        if f"{name}self_attn.{norm}.weight" in weights:
            setattr(layer.self_attn, norm, Norm(weights.pop(f"{name}self_attn.{norm}.weight"), shape.epsilon))
    for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
        setattr(layer.self_attn, part, _linear(weights, f"{name}self_attn.{part}"))
    for part in ("gate_proj", "up_proj", "down_proj"):
        setattr(layer.mlp, part, _linear(weights, f"{name}mlp.{part}"))
    layer.mlp.act_fn = nn.SiLU()
    for number in ("head_dim", "scaling"):
        setattr(layer.self_attn, number, getattr(shape, number))
    return layer


def _linear(weights: dict[str, Tensor], name: str) -> nn.Linear:
    return linear_of(weights.pop(f"{name}.weight"), weights.pop(f"{name}.bias", None))


def _epsilon(norm: Any) -> float:
    return float(getattr(norm, "variance_epsilon", None) or norm.eps)
