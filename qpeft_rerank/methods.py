"""From names of adapters to the scorers of one language model."""

from collections.abc import Callable, Iterable, Sequence

from qpeft_rerank.adapters.find import find_adapter, saved_template
from qpeft_rerank.errors import InputError, check_count
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.sources import EMBEDDED, embedded_gguf
from qpeft_rerank.prompt.templates import Template, load_template

DEFAULT_PROMPT = "plain"
#: What ``--adapter`` and ``--compare`` call the model without adapter.
NO_ADAPTER = "none"
#: What ``--adapter`` calls Q-PEFT where that is known to help: :data:`EMBEDDED_ADAPTER`, or none.
AUTO_ADAPTER = "auto"
#: The adapter that ships for the embedded model, and is its default.
EMBEDDED_ADAPTER = "smollm2-135m-a"


def named_adapter(name: str | None) -> str | None:
    """The name of an adapter; None where none is meant."""
    return None if name == NO_ADAPTER else name


def chosen_adapter(name: str | None, model: str, prompted: bool) -> str | None:
    """The name of the adapter that is meant, :data:`AUTO_ADAPTER` settled; None where none is.

    The embedded model takes the one that ships for it, unless a prompt is named, which that adapter may not know, or
    the model comes from the hub, whose weights are rounded otherwise than those that it was trained on.
    """
    if name != AUTO_ADAPTER:
        return named_adapter(name)
    return EMBEDDED_ADAPTER if model == EMBEDDED and not prompted and embedded_gguf() is not None else None


def check_compared(adapter: str | None, compare: Iterable[str]) -> None:
    """Refuse names that are no adapter's, and ways of scoring that are asked for twice.

    :param adapter: the adapter that is compared with the others, or None for the model alone.
    """
    main = find_adapter(adapter).resolve() if adapter else None
    taken = {main}
    for name in compare:
        place = None if name == NO_ADAPTER else find_adapter(name).resolve()
        if place in taken:
            why = "that is what the others are compared with" if place == main else "named twice"
            raise InputError(f"--compare {name}: {why}; leave it out")
        taken.add(place)


def check_prompt(adapter: str | None, prompt: Template | None) -> None:
    """Refuse a prompt that an adapter was not trained with, before anything is searched or loaded."""
    name = named_adapter(adapter)
    if name is not None and prompt is not None:
        _refuse_other(name, saved_template(find_adapter(name)), prompt)


def _refuse_other(adapter: str, own: Template | None, prompt: Template | None) -> None:
    # By what it says: its name may be that of a file.
    if own is not None and prompt is not None and prompt.content != own.content:
        raise InputError(f"adapter {adapter} was trained with the prompt {own.name}; leave --prompt out")


def checked_limit(max_passage_tokens: int | None) -> int | None:
    """A limit of passages as Python's own number, of which fingerprints are made; one that is none is refused."""
    if max_passage_tokens is None:
        return None
    check_count("--max-passage-tokens", max_passage_tokens)
    return int(max_passage_tokens)


def load_scorers(
    load: Callable[[bool], CausalModel],
    adapter: str | None,
    compare: Sequence[str],
    prompt: Template | None,
    max_passage_tokens: int | None,
) -> list[Scorer]:
    """The scorer of an adapter, then those that it is compared with, in their order.

    All share one model, unless several put something into its layers.

    :param load: loads the model anew, whole (with layers that an adapter may change) or for scoring alone.
    :param adapter: the main adapter, or None or :data:`NO_ADAPTER`; it must have been trained with ``prompt``, if that is given.
    :param compare: adapters, each under its own prompt, or :data:`NO_ADAPTER`.
    :param prompt: of the model alone and of adapters that know none; None is :data:`DEFAULT_PROMPT`.
    :raises InputError: for an adapter that is not found, is damaged, or belongs to another model.
    """
    names = [named_adapter(name) for name in (adapter, *compare)]
    whole = False
    if any(names):
        from qpeft_rerank.adapters.store import in_layers

        whole = any(in_layers(name) for name in names if name)
    model = load(whole)
    default = prompt or load_template(DEFAULT_PROMPT)
    scorers = []
    layered = False
    for place, name in enumerate(names):
        if name is None:
            scorers.append(Scorer(model, default, None, max_passage_tokens))
            continue
        from qpeft_rerank.adapters.store import load_adapter

        try:
            base, found = model, load_adapter(name, model)
        except InputError:
            if not layered:
                raise
            # A model takes one adapter in its layers. Any other fault shows again.
            base = load(whole)
            found = load_adapter(name, base)
        layered = layered or getattr(found.hinter, "in_layers", False)
        own = found.template
        if place == 0:
            _refuse_other(name, own, prompt)
        scorers.append(Scorer(base, own or default, found.hinter, max_passage_tokens))
    return scorers
