"""Log-probabilities with the passage's part computed once, and without gradients.

Where the hints follow the passage, the tokens before them meet nothing that learns: their states are
the frozen model's own. They are computed once for each distinct passage of a batch, with no
activations kept, or read from a :class:`~qpeft_rerank.training.prefix_store.PrefixStore`; only hints,
question and target go through the differentiable pass. On passages of 100 words the first halves the
work, the second leaves a quarter, and with in-batch negatives each passage serves every question. (The
scorer's rows, :mod:`~qpeft_rerank.likelihood.tree`, are cheaper still where nothing learns; here
gradients would have to pass through the beginnings that they hold.)
"""

from collections.abc import Sequence as ListLike
from pathlib import Path

import torch
from torch import Tensor

from qpeft_rerank.console import say
from qpeft_rerank.errors import REFUSALS
from qpeft_rerank.likelihood.causal_model import padded
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.float32 import whole_products
from qpeft_rerank.likelihood.kv_cache import cache_argument, compute_cache
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.precision import ROUNDING
from qpeft_rerank.likelihood.scorer import Hinter
from qpeft_rerank.likelihood.seeds import shaken
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.training.prefix_store import PrefixStore, States

# Of means over a target; keys and values in a cache are added up in another order than in a row.
_TOLERANCE = ROUNDING | {"float32": 1e-3}
# What half precision's rounding of the kept states may add to it.
_ROUNDED = 0.01


def means(model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter | None) -> Tensor:
    """Mean log-probability per target token of each sequence: float32 nats ``[batch]``, with gradients."""
    flat = model.target_log_probs(sequences, hinter)
    return _mean(flat, sequences)


def means_after_prefix(
    model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter | None, store: PrefixStore | None = None
) -> Tensor:
    """The same as :func:`means`, where :func:`prefix_works`.

    :param store: where the prefixes' states are kept; without it they are computed for the batch.
    """
    return _mean(log_probs_after_prefix(model, sequences, hinter, store), sequences)


@whole_products()
def log_probs_after_prefix(
    model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter | None, store: PrefixStore | None = None
) -> Tensor:
    """Log-probability of every target token, float32 nats ``[scored]``, where :func:`prefix_works`."""
    device = model.device
    rows = [sequence.ids for sequence in sequences]
    prefixes = [tuple(row[: sequence.passage_length]) for row, sequence in zip(rows, sequences, strict=True)]
    starts = [prefix_length(sequence) for sequence in sequences]
    if min(starts) == 0:  # a template may begin with a passage, and a passage may be empty
        return model.target_log_probs(sequences, hinter)
    ids = padded(rows, device)
    width = max(len(row) - start for row, start in zip(rows, starts, strict=True))
    at = torch.tensor(starts, device=device)[:, None] + torch.arange(width, device=device)
    inside = at.clamp(max=ids.shape[1] - 1)
    if hinter is None:
        suffix = model.embedding(ids.gather(1, inside))
    else:
        with torch.no_grad():
            embedded = model.embedding(ids)
        filled = hinter(sequences, ids, embedded)
        suffix = filled.gather(1, inside[..., None].expand(-1, -1, filled.shape[2]))
    cache, mask = _prefix_cache(model, prefixes, starts, store)
    body = model.model.base_model
    states = body(
        **cache_argument(body, cache),
        inputs_embeds=suffix,
        attention_mask=torch.cat([mask, mask.new_ones(len(rows), width)], dim=1),
        # Of padding, too, they stay within the context: learned positions end there.
        position_ids=at.clamp(max=model.max_tokens - 1),
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
    return model.head_log_probs(states[where[:, 0], where[:, 1]], targets)


def prefix_length(sequence: Sequence) -> int:
    """Leading tokens of which keys and values suffice: to the passage's end, but what predicts the target's first."""
    return min(sequence.passage_length, len(sequence) - len(sequence.target) - 1)


def size_after_prefix(sequence: Sequence) -> int:
    """Tokens that a row takes in memory for the gradient: a token of the prefix keeps its keys and values
    only, of which a layer holds some copies, and those are about a quarter of a suffix token's activations.
    """
    prefix = prefix_length(sequence)
    return len(sequence) - prefix + prefix // 4


def _prefix_cache(
    model: LanguageModel, prefixes: list[tuple[int, ...]], used: list[int], store: PrefixStore | None
) -> tuple[object, Tensor]:
    """Keys and values of the first ``used`` tokens of each row's prefix, and their mask ``[batch, prefix]``.

    Padded on the left: distances to the suffix, by which sliding windows go, are then the true ones.
    """
    from transformers import DynamicCache

    distinct = list(dict.fromkeys(prefixes))
    found = [store.states(prefix) for prefix in distinct] if store else _compute(model, distinct)
    states = dict(zip(distinct, found, strict=True))
    longest = max(used)
    parts = []
    for number, part in enumerate(found[0]):
        heads, _, width = part.shape
        batch = torch.zeros((len(prefixes), heads, longest, width), dtype=model.dtype, device=model.device)
        for row, (prefix, tokens) in enumerate(zip(prefixes, used, strict=True)):
            batch[row, :, longest - tokens :] = states[prefix][number][:, :tokens]
        parts.append(batch)
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        cache.update(keys, values, layer)
    empty = longest - torch.tensor(used, device=model.device)
    return cache, (torch.arange(longest, device=model.device) >= empty[:, None]).long()


def _compute(model: LanguageModel, prefixes: list[tuple[int, ...]]) -> list[States]:
    """The states of prefixes, in one forward pass."""
    parts = compute_cache(model.model.base_model, padded(prefixes, model.device))
    return [[part[row, :, : len(prefix)] for part in parts] for row, prefix in enumerate(prefixes)]


@whole_products()
def prefix_works(
    model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter | None, store: PrefixStore | None = None
) -> bool:
    """Whether :func:`means_after_prefix` gives what :func:`means` gives for this model and adapter.

    Asked of the model itself, on a few sequences: architectures and adapters for which it does not
    hold need no list. The answer depends on nothing else, so a resumed training gets the same.
    """
    if hinter is None or any(parameter.requires_grad for parameter in model.model.parameters()):
        return False
    # A sequence that is longer than the boundary has other states of its passage.
    if model.attention.boundary is not None:
        return False
    if not model.plain_head or any(prefix_length(sequence) < 2 for sequence in sequences):
        return False
    if any(sequence.span("hints") is None for sequence in sequences):
        return False
    with torch.no_grad():
        if _changes_prefix(model, sequences, hinter):
            return False
        try:
            found = means_after_prefix(model, sequences, hinter, store)
        # transformers refuses a cache made elsewhere in as many ways as it has architectures; whichever it is,
        # such a model trains plainly, and a fault of its own then shows in that training.
        except REFUSALS as error:
            pass_on_faults(error)
            return False
        gap = (found - means(model, sequences, hinter)).abs().max()
    return bool(gap <= _TOLERANCE.get(model.precision, _TOLERANCE["float32"]) + (_ROUNDED if store else 0.0))


def open_store(
    folder: Path, model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter, announce: bool
) -> PrefixStore | None:
    """A store in ``folder``, for a model and an adapter of which :func:`prefix_works`; None if rounding spoils it.

    :param announce: whether to say where it is and how large it may get.
    :raises InputError: if the folder cannot be made.
    """
    store = PrefixStore(folder, model)
    works = prefix_works(model, sequences, hinter, store)
    if announce and works:
        kept = [store.states(tuple(sequence.ids[: sequence.passage_length])) for sequence in sequences]
        size = max(sum(part.nbytes for part in states) for states in kept)
        say(f"the states of passages are kept in {folder}, about {size / 1e6:.1f} MB each")
    elif announce:
        say("the states of passages lose too much where they are kept, so they are computed each time")
    return store if works else None


def _changes_prefix(model: LanguageModel, sequences: ListLike[Sequence], hinter: Hinter) -> bool:
    """Whether the adapter touches tokens before the hints, now or once it is trained.

    A soft prompt starts as the prompt's own embeddings, so parameters are shaken for the question.
    """
    ids = padded([sequence.ids for sequence in sequences], model.device)
    embedded = model.embedding(ids)
    with shaken(hinter.parameters() if isinstance(hinter, torch.nn.Module) else (), 0.1):
        filled = hinter(sequences, ids, embedded)
    if filled.shape != embedded.shape:
        return True
    starts = [sequence.shared_length for sequence in sequences]
    return any(not torch.equal(filled[row, :start], embedded[row, :start]) for row, start in enumerate(starts))


def _mean(flat: Tensor, sequences: ListLike[Sequence]) -> Tensor:
    return torch.stack([part.mean() for part in flat.split([len(sequence.target) for sequence in sequences])])
