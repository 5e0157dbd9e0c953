"""Log-probabilities with the passage's part computed once, and without gradients.

Where the hints follow the passage, the tokens before them meet nothing that learns: their states are
the frozen model's own. They are computed once for each distinct passage of a batch, with no
activations kept; only hints, question and target go through the differentiable pass. On passages of
100 words that halves the work, and with in-batch negatives each passage serves every question. (The
scorer's rows, :mod:`~qpeft_rerank.likelihood.tree`, are cheaper still where nothing learns; here
gradients would have to pass through the beginnings that they hold.)
"""

from collections.abc import Sequence as ListLike

import torch
from torch import Tensor

from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Hinter
from qpeft_rerank.likelihood.tree import padded
from qpeft_rerank.prompt.segments import Sequence

# Largest difference, in nats, that rounding may make between this way and the plain one.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}


def means(model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter | None) -> Tensor:
    """Mean log-probability per target token of each sequence: float32 nats ``[batch]``, with gradients."""
    flat = model.target_log_probs(sequences, hinter)
    return _mean(flat, sequences)


def means_after_prefix(model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter) -> Tensor:
    """The same as :func:`means`, where :func:`prefix_works`."""
    device = model.device
    rows = [sequence.ids for sequence in sequences]
    ids = padded(rows, device)
    with torch.no_grad():
        embedded = model.embedding(ids)
    filled = hinter(sequences, ids, embedded)
    starts = [sequence.shared_length for sequence in sequences]
    cache, mask = _prefix_cache(model, rows, starts)
    width = max(len(row) - start for row, start in zip(rows, starts, strict=True))
    at = torch.tensor(starts, device=device)[:, None] + torch.arange(width, device=device)
    inside = at.clamp(max=ids.shape[1] - 1)
    suffix = filled.gather(1, inside[..., None].expand(-1, -1, filled.shape[2]))
    states = model.model.base_model(
        inputs_embeds=suffix,
        past_key_values=cache,
        attention_mask=torch.cat([mask, mask.new_ones(len(rows), width)], dim=1),
        position_ids=at,
        use_cache=True,
    ).last_hidden_state
    # State t predicts token t + 1.
    scored = [
        (row, place - start - 1)
        for row, (tokens, start, sequence) in enumerate(zip(rows, starts, sequences, strict=True))
        for place in range(len(tokens) - len(sequence.target), len(tokens))
    ]
    where = torch.tensor(scored, device=device)
    targets = torch.tensor([token for sequence in sequences for token in sequence.target], device=device)
    return _mean(model.head_log_probs(states[where[:, 0], where[:, 1]], targets), sequences)


def _prefix_cache(model: LanguageModel, rows: list[list[int]], starts: list[int]) -> tuple[object, Tensor]:
    """Keys and values of each row's prefix, each distinct prefix computed once, and their mask ``[batch, prefix]``."""
    from transformers import DynamicCache

    prefixes = [tuple(row[:start]) for row, start in zip(rows, starts, strict=True)]
    distinct = list(dict.fromkeys(prefixes))
    place = {prefix: index for index, prefix in enumerate(distinct)}
    with torch.no_grad():
        ids = padded(distinct, model.device)
        computed = model.model.base_model(input_ids=ids, past_key_values=DynamicCache(), use_cache=True).past_key_values
        chosen = torch.tensor([place[prefix] for prefix in prefixes], device=model.device)
        cache = DynamicCache()
        for number, layer in enumerate(computed.layers):
            cache.update(layer.keys[chosen], layer.values[chosen], number)
    lengths = torch.tensor(starts, device=model.device)
    return cache, (torch.arange(ids.shape[1], device=model.device) < lengths[:, None]).long()


def prefix_works(model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter | None) -> bool:
    """Whether :func:`means_after_prefix` gives what :func:`means` gives for this model and adapter.

    Asked of the model itself, on a few sequences: architectures and adapters for which it does not
    hold need no list. The answer depends on nothing else, so a resumed training gets the same.
    """
    if hinter is None or any(parameter.requires_grad for parameter in model.model.parameters()):
        return False
    if not model.plain_head or any(sequence.shared_length < 2 for sequence in sequences):
        return False
    if any(sequence.span("hints") is None for sequence in sequences):
        return False
    with torch.no_grad():
        if _changes_prefix(model, sequences, hinter):
            return False
        try:
            found = means_after_prefix(model, sequences, hinter)
        # A probe: an architecture whose cache cannot be used so says it in its own way, and trains plainly.
        except (ValueError, TypeError, AttributeError, NotImplementedError, IndexError, RuntimeError):
            return False
        gap = (found - means(model, sequences, hinter)).abs().max()
    return bool(gap <= _TOLERANCE.get(model.dtype, 1e-3))


def _changes_prefix(model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter) -> bool:
    """Whether the adapter touches tokens before the hints, now or once it is trained.

    A soft prompt starts as the prompt's own embeddings, so parameters are shaken for the question.
    """
    ids = padded([sequence.ids for sequence in sequences], model.device)
    embedded = model.embedding(ids)
    parameters = list(hinter.parameters()) if isinstance(hinter, torch.nn.Module) else []
    kept = [parameter.clone() for parameter in parameters]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape).to(parameter) * 0.1)
    filled = hinter(sequences, ids, embedded)
    for parameter, value in zip(parameters, kept, strict=True):
        parameter.copy_(value)
    if filled.shape != embedded.shape:
        return True
    starts = [sequence.shared_length for sequence in sequences]
    return any(not torch.equal(filled[row, :start], embedded[row, :start]) for row, start in enumerate(starts))


def _mean(flat: Tensor, sequences: ListLike[Sequence]) -> Tensor:
    return torch.stack([part.mean() for part in flat.split([len(sequence.target) for sequence in sequences])])
