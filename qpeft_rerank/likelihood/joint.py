"""Several scorers of the same candidates: those whose sequences begin alike read a passage together."""

from collections.abc import Iterable
from collections.abc import Sequence as ListLike
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from qpeft_rerank.likelihood.causal_model import CausalModel, Embedder, ModelChanger
from qpeft_rerank.likelihood.scorer import BatchScorer, Scorer
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.likelihood.shared import PROBE, Mode, SharedScorer
from qpeft_rerank.likelihood.sharing import Batch, same_passage
from qpeft_rerank.prompt.segments import Sequence


class JointHinter:
    """Fills each sequence's hint slots as its owner does.

    :param hinters: by owner; None leaves embeddings as they are.
    """

    def __init__(self, hinters: dict[int, Embedder | None]) -> None:
        self.hinters = hinters

    def __call__(self, sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
        """``[batch, tokens, d]`` in and out."""
        filled = embedded
        for owner, hinter in self.hinters.items():
            at = [place for place, sequence in enumerate(sequences) if sequence.owner == owner]
            if hinter is not None and at:
                where = torch.tensor(at, device=ids.device)
                own = hinter([sequences[place] for place in at], ids[where], embedded[where])
                filled = filled.index_copy(0, where, own)
        return filled


class JointScorer(BatchScorer):
    """Scores batches in which several scorers' sequences are mixed.

    :param members: by owner, all of them on one :class:`CausalModel`.
    """

    def __init__(self, members: dict[int, Scorer]) -> None:
        hinters: dict[int, Embedder | None] = {owner: scorer.hinter for owner, scorer in members.items()}
        super().__init__(next(iter(members.values())).model, JointHinter(hinters))
        self.members = members

    def encode(self, pairs: Iterable[tuple[str, str, str]]) -> list[Sequence]:
        """Segments of candidates given as ``(query, title, text)``, of all members one after another."""
        pairs = list(pairs)
        return [sequence for owner, scorer in self.members.items() for sequence in owned(scorer, pairs, owner)]


def _alone(scorer: Scorer) -> bool:
    """Whether a method changes the model, or puts tokens before each sequence."""
    hinter = scorer.hinter
    return isinstance(hinter, ModelChanger) or int(getattr(hinter, "virtual_tokens", 0)) > 0


def owned(scorer: Scorer, pairs: Iterable[tuple[str, str, str]], owner: int) -> list[Sequence]:
    """A scorer's sequences, marked as its own."""
    return [replace(sequence, owner=owner) for sequence in scorer.encode(pairs)]


class Methods:
    """Several ways of scoring the same candidates, in as few readings of each passage as they allow.

    One alone is planned and scored exactly as by its :class:`SharedScorer`.

    :param scorers: the ways; an owner is a place in this list.
    :param mode: when passages are shared, between topics and between methods.
    """

    def __init__(self, scorers: ListLike[Scorer], mode: Mode = "auto") -> None:
        self.scorers = list(scorers)
        self.mode = mode
        #: Each by itself.
        self.apart = [SharedScorer(scorer, mode) for scorer in self.scorers]

    @cached_property
    def teams(self) -> list[tuple[set[int], SharedScorer]]:
        """Owners whose sequences may stand in the same rows, with what scores such rows.

        Asked of model and adapters on a few short texts: a method joins a team if it begins as they do, and
        all then get the reference's scores. One that changes the model, or puts tokens before it, stays alone.
        """
        made: list[tuple[set[int], SharedScorer]] = []
        for owner in range(len(self.scorers)):
            for at, (owners, _) in enumerate(made):
                grown = self._joined(sorted(owners | {owner}))
                if grown is not None:
                    made[at] = owners | {owner}, grown
                    break
            else:
                made.append(({owner}, self.apart[owner]))
        return made

    @property
    def divisible(self) -> CausalModel | None:
        """The model with which several threads may score batches at the same time; None where they may not."""
        model = self.scorers[0].model
        allowed = all(scorer.model is model and model.divisible(scorer.hinter) for scorer in self.scorers)
        return model if allowed else None

    def _joined(self, owners: ListLike[int]) -> SharedScorer | None:
        """What scores the last of these owners in the same rows as the others; None if that cannot be."""
        members = {owner: self.scorers[owner] for owner in owners}
        models = {id(scorer.model) for scorer in members.values()}
        if self.mode == "off" or len(models) > 1 or any(map(_alone, members.values())):
            return None
        joint = JointScorer(members)
        sequences = joint.encode(PROBE)
        mixed = [{sequences[index].owner for index in group} for group in same_passage(sequences)]
        if not any(owners[-1] in group and len(group) > 1 for group in mixed):
            return None
        shared = SharedScorer(joint, self.mode)
        return shared if shared.works else None

    def encode(self, candidates: Iterable[tuple[int, tuple[str, str, str]]]) -> list[Sequence]:
        """Segments of ``(owner, (query, title, text))``, in the order given."""
        candidates = list(candidates)
        made: dict[int, list[Sequence]] = {}
        for owner, scorer in enumerate(self.scorers):
            made[owner] = owned(scorer, (texts for which, texts in candidates if which == owner), owner)
        streams = {owner: iter(sequences) for owner, sequences in made.items()}
        return [next(streams[owner]) for owner, _ in candidates]

    def plan(self, sequences: ListLike[Sequence], batch_tokens: int) -> list[Batch]:
        """The batches of one shard, team after team; each batch is of one team."""
        plan = []
        for owners, shared in self.teams:
            places = [place for place, sequence in enumerate(sequences) if sequence.owner in owners]
            for batch in shared.plan([sequences[place] for place in places], batch_tokens):
                plan.append(Batch([[places[index] for index in row] for row in batch.rows], batch.width))
        return plan

    def score(self, batch: Batch, sequences: ListLike[Sequence]) -> list[Score]:
        """The scores of a planned batch, row after row.

        :param sequences: those that it was planned from.
        """
        owner = sequences[batch.rows[0][0]].owner
        shared = next(shared for owners, shared in self.teams if owner in owners)
        if batch.shares:
            return shared.score([[sequences[index] for index in row] for row in batch.rows])
        return shared.scorer.score([sequences[index] for index in batch.indices])
