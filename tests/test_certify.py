"""Nothing that could change the first ranks is left to a cheaper precision."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpeft_rerank import certify
from qpeft_rerank.certify import Certificate, open_places, sample


def brute(scores: list[float], exact: list[bool], bound: float, first: int) -> list[int]:
    spans = [(s - bound * (not e), s + bound * (not e)) for s, e in zip(scores, exact, strict=True)]
    within = [at for at, (_, most) in enumerate(spans) if sum(least > most for least, _ in spans) < first]
    return [
        at
        for at in within
        if not exact[at] and any(spans[at][0] <= spans[o][1] and spans[o][0] <= spans[at][1] for o in within if o != at)
    ]


TOPIC = st.lists(st.tuples(st.integers(-20, 20), st.booleans()), max_size=30)


@given(topic=TOPIC, bound=st.integers(0, 6), first=st.integers(1, 12))
def test_open_is_what_overlaps_within_reach(topic: list, bound: int, first: int) -> None:
    scores, exact = [float(score) for score, _ in topic], [sure for _, sure in topic]
    assert open_places(scores, exact, float(bound), first) == brute(scores, exact, float(bound), first)


@settings(max_examples=300)
@given(
    true=st.lists(st.floats(-10, 10), min_size=1, max_size=30, unique=True), first=st.integers(1, 12), data=st.data()
)
def test_within_the_bound_the_first_are_the_true_first(true: list[float], first: int, data: st.DataObject) -> None:
    bound = data.draw(st.floats(0, 3))
    errors = data.draw(st.lists(st.floats(-bound, bound), min_size=len(true), max_size=len(true)))
    found = [score + error for score, error in zip(true, errors, strict=True)]
    exact = [False] * len(true)
    # The width of an interval must not be lost to its rounding.
    while wanted := open_places(found, exact, bound + 1e-9, first):
        for place in wanted:
            found[place], exact[place] = true[place], True
    ranked, ranking = (sorted(range(len(true)), key=lambda at: -of[at])[:first] for of in (true, found))
    assert ranking == ranked


def test_the_sample_is_the_same_whatever_the_order() -> None:
    pairs = [(str(topic), str(docid)) for topic in range(20) for docid in range(20)]
    assert sample(pairs) == sample(reversed(pairs)) != sample(pairs, "another")
    assert len(sample(pairs)) == certify.FEW and sample(pairs[:3]) == set(pairs[:3])


@pytest.mark.parametrize(("again", "share"), [(0, "0.0%"), (25, "25.0%")])
def test_the_sentence_tells_cost_and_bound(again: int, share: str) -> None:
    said = Certificate(10, 0.125, again, 100).sentence
    assert said.startswith("first 10 of each topic") and share in said and "0.125 nats" in said
