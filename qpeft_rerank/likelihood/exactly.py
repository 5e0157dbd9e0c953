"""What a decoder computes in float32 with the weights that it has, be they narrower."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from qpeft_rerank.likelihood.linears import frozen, plain_products


def exact_states(decoder: Any, ids: Tensor, meanwhile: Callable[[int], object]) -> Tensor:
    """States of a few tokens after the last norm, float32 ``[rows, tokens, d]``.

    Layers become float32 one after the other, while they are read, so it takes the memory of one.

    :param decoder: what ``transformers`` calls the base model.
    :param meanwhile: called with the number of each layer while that is float32.
    """
    held = ExitStack()

    def hold(part: nn.Module, number: int) -> None:
        held.enter_context(float32_weights(part))
        if number < len(decoder.layers):
            meanwhile(number)

    handles = [decoder.embed_tokens.register_forward_hook(lambda module, given, made: made.float())]
    for number, part in enumerate([*decoder.layers, decoder.norm]):
        handles.append(part.register_forward_pre_hook(lambda module, given, number=number: hold(module, number)))
        handles.append(part.register_forward_hook(lambda module, given, made: held.close()))
    try:
        made: Tensor = decoder(input_ids=ids, use_cache=False).last_hidden_state
        return made
    finally:
        held.close()
        for handle in handles:
            handle.remove()


@contextmanager
def exact_layers(model: nn.Module) -> Iterator[None]:
    """Inside the context, a model of any kind computes in float32, each layer's weights made so while it is read.

    Embeddings are widened once they are looked up. What a model multiplies by outside of its layers stays as it is.
    """
    held = ExitStack()

    def hold(part: nn.Module, given: object) -> None:
        held.enter_context(float32_weights(part))

    handles = []
    for part in _parts(model):
        if isinstance(part, nn.Embedding):
            handles.append(part.register_forward_hook(lambda module, given, made: made.float()))
        else:
            handles.append(part.register_forward_pre_hook(hold))
            handles.append(part.register_forward_hook(lambda module, given, made: held.close()))
    try:
        yield
    finally:
        held.close()
        for handle in handles:
            handle.remove()


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Layers, each once, and what is beside the lists of them."""
    if not any(isinstance(inner, nn.ModuleList) for inner in module.modules()):
        yield module
        return
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _parts(child)


@contextmanager
def float32_weights(module: nn.Module) -> Iterator[None]:
    """Inside the context, a module has float32 weights, and its linear layers multiply in float32."""
    kept = [
        (owner, name, weight) for owner in module.modules() for name, weight in owner.named_parameters(recurse=False)
    ]
    with plain_products(module):
        try:
            for owner, name, weight in kept:
                setattr(owner, name, frozen(_exact(weight)))
            yield
        finally:
            for owner, name, weight in kept:
                setattr(owner, name, weight)


def _exact(weight: Tensor) -> Tensor:
    # Of a dtype like any other, weights in 8 bits are another class of tensors.
    whole = weight.dequantize() if type(weight.data) is not Tensor else weight
    return whole.float()
