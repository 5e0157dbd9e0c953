"""The local engine: order kept, nothing scored twice, interrupted = uninterrupted."""

from functools import cache
from pathlib import Path

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import qpeft_rerank.engines.local as local
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.engines.local import Candidate, LocalEngine
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.prompt import load_template
from qpeft_rerank.trec.topics import Topic
from tests.engines.resuming import Dying, until_done


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tiny.save_model(tmp_path_factory.mktemp("model"))
    return Scorer(LanguageModel.load(str(folder), "float32", "cpu"), load_template("plain"))


def alone(scorer: Scorer, batch_tokens: int, journal: Journal | None = None, mode: str = "off") -> LocalEngine:
    return LocalEngine(Methods([scorer], mode), batch_tokens, journal)


def some(count: int, same: int = 1000) -> list[Candidate]:
    words = "alpha beta gamma delta".split()
    return [
        Candidate(
            Topic(str(n % 5), f"query {words[n % 4]}"),
            Passage(str(n), "", " ".join(words[(n % same) % 4 :] * (n % same % 7))),
        )
        for n in range(count)
    ]


class Counting:
    """A scorer that counts what it is asked to score, and may die after some batches."""

    def __init__(self, scorer: Scorer, dies_after: int = 10**9) -> None:
        self.inner, self.dies_after = scorer, dies_after
        self.sizes: list[int] = []
        self.model, self.hinter = scorer.model, scorer.hinter
        self.fingerprint, self.encode = scorer.fingerprint, scorer.encode

    def score(self, sequences):
        if self.batches == self.dies_after:
            raise KeyboardInterrupt
        self.sizes.append(len(sequences))
        return self.inner.score(sequences)

    @property
    def batches(self) -> int:
        return len(self.sizes)

    @property
    def sequences(self) -> int:
        return sum(self.sizes)


@pytest.mark.parametrize("shard", [7, 8192])
def test_scores_come_in_the_order_given(scorer: Scorer, monkeypatch: pytest.MonkeyPatch, shard: int) -> None:
    monkeypatch.setattr(local, "SHARD", shard)
    given_candidates = some(40)
    done: list[int] = []
    scores = list(alone(scorer, 128).score(given_candidates, done.append))
    for candidate, (score,) in zip(given_candidates, scores, strict=True):
        reference = scorer.score(scorer.encode([candidate.texts]))[0]
        assert score.total == pytest.approx(reference.total, abs=1e-3)
    assert sum(done) == len(given_candidates)


def test_equal_texts_of_a_shard_are_scored_once(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "FIRST", 60)
    counting = Counting(scorer)
    candidates = some(60, same=3)
    scores = list(alone(counting, 256).score(candidates))
    assert counting.sequences == len({candidate.texts for candidate in candidates}) < len(candidates)
    assert len(scores) == 60


@cache
def uninterrupted(scorer: Scorer, shard: int) -> tuple[list[tuple[Score, ...]], int]:
    """The scores and the number of batches, in shards of the size that is set."""
    counting = Counting(scorer)
    return list(alone(counting, 160).score(some(50, same=11))), counting.batches


@given(stops=st.lists(st.integers(0, 12), max_size=5), shard=st.sampled_from([9, 25, 1000]))
@settings(max_examples=12)
def test_stopped_anywhere_and_resumed_gives_the_very_same_scores(
    scorer: Scorer, tmp_path_factory: pytest.TempPathFactory, stops: list[int], shard: int
) -> None:
    candidates = some(50, same=11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "SHARD", shard)
        expected, whole = uninterrupted(scorer, shard)
        path = tmp_path_factory.mktemp("resume") / "journal"

        def start(journal: Journal, dies_after: int):
            counting = Counting(scorer, dies_after)
            engine = alone(counting, 160, journal)
            journal.begin(engine.run_digest((c.topic.id, c.passage.docid) for c in candidates))
            return counting, lambda: list(engine.score(candidates))

        scores, batches = until_done(path, stops, start)
        assert scores == expected
        assert batches == whole  # nothing that was written is computed again


@given(share=st.floats(0, 1))
@settings(max_examples=12)
def test_a_journal_torn_inside_a_batch_becomes_what_it_was(
    scorer: Scorer, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    """SIGKILL ends a write at the end of a page: some lines of the batch in flight are on disk, some not."""
    candidates = some(50, same=11)
    path = tmp_path_factory.mktemp("torn") / "journal"

    def run(counting: Counting) -> list[tuple[Score, ...]]:
        with Journal(path) as journal:
            engine = alone(counting, 160, journal)
            journal.begin(engine.run_digest((c.topic.id, c.passage.docid) for c in candidates))
            scores = list(engine.score(candidates))
            assert journal.spared == len(candidates) - counting.sequences
            return scores

    first, again = Counting(scorer), Counting(scorer)
    expected = run(first)
    whole = path.read_bytes()
    start = whole.index(b'"sum"')  # in the first batch's first line
    at = start + round(share * (len(whole) - start))
    path.write_bytes(whole[:at])
    lines_lost = whole.count(b"\n") - whole[:at].count(b"\n")
    assert run(again) == expected
    assert path.read_bytes() == whole  # each score once, and in its place
    assert (
        lines_lost <= again.sequences < lines_lost + max(first.sizes)
    )  # the batch in flight, and what it had not reached


def test_a_deeper_run_reuses_what_a_shallow_one_scored(scorer: Scorer, tmp_path: Path) -> None:
    for count, fresh in ((20, 20), (50, 30)):
        counting = Counting(scorer)
        candidates = [Candidate(Topic("1", "query"), Passage(str(n), "", f"text {n}")) for n in range(count)]
        with Journal(tmp_path / "journal") as journal:
            engine = alone(counting, 128, journal)
            journal.begin(engine.run_digest((c.topic.id, c.passage.docid) for c in candidates))
            scores = list(engine.score(candidates))
        assert counting.sequences == fresh
        assert journal.spared == count - fresh
        assert len(scores) == count


def test_nan_stops_the_run_with_the_pair_named_and_keeps_the_batches_before(scorer: Scorer, tmp_path: Path) -> None:
    class Broken(Counting):
        def score(self, sequences):
            scores = super().score(sequences)
            return scores if self.batches < 3 else [Score(float("nan"), 1) for _ in scores]

    with Journal(tmp_path / "journal") as journal, pytest.raises(InputError, match=r"nan for topic \d+, passage \d+"):
        list(alone(Broken(scorer), 128, journal).score(some(40)))
    assert (tmp_path / "journal").read_text("utf-8").count('"sum"') > 0
    assert "NaN" not in (tmp_path / "journal").read_text("utf-8")


def repeating(count: int) -> list[Candidate]:
    """Topics that find the same nine passages, each in its own order, some of them twice."""
    return [
        Candidate(Topic(str(n // 9), f"query number {n // 9}"), Passage(str(n * 4 % 9), "", f"text {n * 4 % 9} " * 4))
        for n in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "on"])
@given(stops=st.lists(st.integers(0, 5), max_size=4), shard=st.sampled_from([12, 15, 1000]))
@settings(max_examples=8)
def test_shared_passages_resume_to_the_very_same_scores(
    scorer: Scorer, tmp_path_factory: pytest.TempPathFactory, mode: str, stops: list[int], shard: int
) -> None:
    candidates = repeating(72)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "SHARD", shard)
        uninterrupted = Dying([scorer], mode)
        expected = list(LocalEngine(uninterrupted, 160).score(candidates))
        path = tmp_path_factory.mktemp("resume") / "journal"

        def start(journal: Journal, dies_after: int):
            methods = Dying([scorer], mode, dies_after)
            engine = LocalEngine(methods, 160, journal)
            journal.begin(engine.run_digest((c.topic.id, c.passage.docid) for c in candidates))
            return methods, lambda: list(engine.score(candidates))

        scores, batches = until_done(path, stops, start)
    assert scores == expected
    assert batches == uninterrupted.batches > 0  # nothing that was written is computed again
    plain = alone(scorer, 160).score(candidates)
    for (one,), (other,) in zip(scores, plain, strict=True):
        assert one.mean == pytest.approx(other.mean, abs=1e-4)


def test_the_run_digest_tells_how_passages_are_shared_and_scores_serve_either_way(
    scorer: Scorer, tmp_path: Path
) -> None:
    candidates = repeating(36)
    ids = [(c.topic.id, c.passage.docid) for c in candidates]
    digests = {alone(scorer, 160, mode=mode).run_digest(ids) for mode in ("auto", "on", "off")}
    assert len(digests) == 3
    found = {}
    for mode in ("on", "off"):
        methods = Dying([scorer], mode)
        with Journal(tmp_path / "journal") as journal:
            engine = LocalEngine(methods, 160, journal)
            journal.begin(engine.run_digest(ids))
            found[mode] = list(engine.score(candidates))
    assert found["on"] == found["off"]
    assert methods.batches == 0


def test_shards_end_with_a_passage_where_that_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SHARD", 10)
    monkeypatch.setattr(local, "FIRST", 3)
    candidates = sorted(repeating(72), key=lambda candidate: candidate.passage.docid)  # nine passages of eight topics
    for shared, sizes in ((False, [3] + [10] * 6 + [9]), (True, [6] + [10] + [16] * 3 + [8])):
        cut = list(local.shards(candidates, shared))
        assert [len(shard) for shard in cut] == sizes
        assert [candidate for shard in cut for candidate in shard] == candidates
    assert [len(shard) for shard in local.shards(candidates[:1] * 50, True)] == [6, 20, 20, 4]
