"""What each optimizer step trains on, as a pure function of seed and epoch (method section 5)."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.training.examples import Example
from qpeft_rerank.trec.answers import AnswerMatcher


@dataclass(frozen=True, slots=True)
class Group:
    """One question with a positive passage, which comes first, and its negatives."""

    query: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How questions become groups.

    :param queries_per_step: questions drawn together; in-batch negatives come from among them.
    :param negatives: hard negatives of each question.
    :param in_batch: also take, as the paper does, the other questions' positives and hard negatives.
    :param any_positive: draw the positive at random; False takes the first listed, as the authors do.
    :param filter_answers: leave out negatives that hold one of the question's answers or are one of
        its positives; False does not check, as the authors do not.
    :param pairs_per_step: split the groups into pairs and take so many in an optimizer step (the
        authors take 2); None makes one step of all the groups drawn together.
    """

    queries_per_step: int = 4
    negatives: int = 1
    in_batch: bool = False
    any_positive: bool = False
    filter_answers: bool = True
    pairs_per_step: int | None = None


class EpochSampler:
    """The optimizer steps of every epoch.

    An epoch's steps depend on the examples, the sampling, the seed and the epoch's number alone, so
    a training that was restarted draws what it would have drawn.

    :param compares: whether the loss looks at negatives; where it does not, none are given to be read.
    """

    def __init__(self, examples: Sequence[Example], sampling: Sampling, seed: int, compares: bool = True) -> None:
        self.examples = examples
        self.compares = compares
        self.sampling = sampling
        self.seed = seed

    def epoch(self, number: int) -> list[list[Group]]:
        """The steps of epoch ``number`` (from 1): each a list of groups, every question once."""
        draw = random.Random(f"{self.seed} {number}")
        order = list(range(len(self.examples)))
        draw.shuffle(order)
        size = self.sampling.queries_per_step
        steps = []
        for start in range(0, len(order), size):
            groups = self._groups([self.examples[index] for index in order[start : start + size]], draw)
            steps += self._split(groups)
        return (
            steps if self.compares else [[Group(group.query, group.passages[:1]) for group in step] for step in steps]
        )

    def _groups(self, batch: list[Example], draw: random.Random) -> list[Group]:
        positives = [
            draw.choice(example.positives) if self.sampling.any_positive else example.positives[0] for example in batch
        ]
        drawn = [self._hard(example, draw) for example in batch]
        groups = []
        for place, example in enumerate(batch):
            if self.sampling.in_batch:
                negatives = [other for at, other in enumerate(positives) if at != place]
                negatives += [passage for hard in drawn for passage in hard]
            else:
                negatives = drawn[place]
            if self.sampling.filter_answers:
                negatives = list(_without_false(example, negatives))
            groups.append(Group(example.query, (positives[place], *negatives)))
        return groups

    def _hard(self, example: Example, draw: random.Random) -> list[Passage]:
        # The pool is shuffled at every draw.
        pool = negatives_of(example, self.sampling)
        draw.shuffle(pool)
        return pool[: self.sampling.negatives]

    def _split(self, groups: list[Group]) -> list[list[Group]]:
        size = self.sampling.pairs_per_step
        if size is None:
            return [groups]
        pairs = []
        for group in groups:
            positive, *negatives = group.passages
            # A question without negatives stays as it is.
            pairs += [Group(group.query, (positive, negative)) for negative in negatives] or [group]
        return [pairs[start : start + size] for start in range(0, len(pairs), size)]


def negatives_of(example: Example, sampling: Sampling) -> list[Passage]:
    """What a question's own negatives are drawn from: ordinary ones stand in where no hard one is left."""
    if not sampling.filter_answers:
        return list(example.hard or example.plain)
    return list(_without_false(example, example.hard)) or list(_without_false(example, example.plain))


def drawn_from(example: Example, sampling: Sampling) -> Example:
    """The example without what :func:`negatives_of` never gives: DPR's files list 50 ordinary negatives a question."""
    hard: Iterable[Passage] = _without_false(example, example.hard) if sampling.filter_answers else example.hard
    return replace(example, plain=()) if example.plain and any(True for _ in hard) else example


def _without_false(example: Example, passages: Iterable[Passage]) -> Iterator[Passage]:
    """Leave out passages that are not surely irrelevant to the question, and repeated ones."""
    matcher = AnswerMatcher(example.answers)
    seen = {(passage.title, passage.text) for passage in example.positives}
    for passage in passages:
        if (passage.title, passage.text) not in seen and not matcher.matches(passage.text):
            seen.add((passage.title, passage.text))
            yield passage
