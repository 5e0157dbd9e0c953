"""Several methods in one journal: interrupted = uninterrupted, and one method alone is the local engine."""

from functools import cache
from pathlib import Path

import pytest
import tiny
from engines.test_local import repeating
from hypothesis import given, settings
from hypothesis import strategies as st

import qpeft_rerank.engines.local as local
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.engines.joint import JointEngine
from qpeft_rerank.engines.local import LocalEngine
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.prompt import load_template
from tests.engines.resuming import until_done

CANDIDATES = repeating(54)
IDS = [(candidate.topic.id, candidate.passage.docid) for candidate in CANDIDATES]
MODES = ["auto", "on", "off"]


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> list[Scorer]:
    """An adapter, the model alone, and the model alone under another prompt."""
    model = LanguageModel.load(str(tiny.save_model(tmp_path_factory.mktemp("model"))), "float32", "cpu")
    plain = load_template("plain")
    hinter = create_adapter("qpeft-a", model, plain)
    return [Scorer(model, plain, hinter), Scorer(model, plain), Scorer(model, load_template("upr"))]


class Dying(Methods):
    """Counts the batches that it scores, and may die after some."""

    def __init__(self, scorers: list[Scorer], mode: str = "auto", dies_after: int = 10**9) -> None:
        super().__init__(scorers, mode)
        self.dies_after, self.batches = dies_after, 0

    def score(self, batch, sequences):
        if self.batches == self.dies_after:
            raise KeyboardInterrupt
        self.batches += 1
        return super().score(batch, sequences)


@pytest.mark.parametrize("mode", MODES)
def test_one_method_is_the_local_engine(scorers: list[Scorer], tmp_path: Path, mode: str) -> None:
    scorer = scorers[0]
    with Journal(tmp_path / "local") as journal:
        engine = LocalEngine(scorer, 160, journal, SharedScorer(scorer, mode))
        journal.begin(engine.run_digest(IDS))
        expected = list(engine.score(CANDIDATES))
    with Journal(tmp_path / "joint") as journal:
        engine = JointEngine(Methods([scorer], mode), 160, journal)
        journal.begin(engine.run_digest(IDS))
        assert list(engine.score_all(CANDIDATES)) == [(score,) for score in expected]
    assert (tmp_path / "joint").read_bytes() == (tmp_path / "local").read_bytes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shard", [15, 8192])
def test_each_method_has_its_own_scores(
    scorers: list[Scorer], monkeypatch: pytest.MonkeyPatch, mode: str, shard: int
) -> None:
    monkeypatch.setattr(local, "SHARD", shard)
    done: list[int] = []
    engine = JointEngine(Methods(scorers, mode), 300)
    columns = list(zip(*engine.score_all(CANDIDATES, done.append), strict=True))
    for scorer, found in zip(scorers, columns, strict=True):
        for one, other in zip(found, LocalEngine(scorer, 300).score(CANDIDATES), strict=True):
            assert one.mean == pytest.approx(other.mean, abs=1e-4)
            assert one.tokens == other.tokens
    assert sum(done) == len(scorers) * len(CANDIDATES)
    assert list(engine.score(CANDIDATES)) == list(JointEngine(Methods(scorers[:1], mode), 300).score(CANDIDATES))


def test_the_run_digest_covers_every_method_in_its_place(scorers: list[Scorer]) -> None:
    lists = [scorers[:1], scorers[1:2], scorers[:2], scorers[1::-1], scorers, [scorers[0], scorers[2], scorers[1]]]
    digests = [JointEngine(Methods(some), 160).run_digest(IDS) for some in lists]
    assert len(set(digests)) == len(lists)
    assert digests[0] == LocalEngine(scorers[0], 160, shared=SharedScorer(scorers[0])).run_digest(IDS)


@cache
def uninterrupted(scorers: tuple[Scorer, ...], shard: int) -> tuple[list[tuple[Score, ...]], int]:
    """All methods' scores and the number of batches, in shards of the size that is set."""
    methods = Dying(list(scorers))
    return list(JointEngine(methods, 300).score_all(CANDIDATES)), methods.batches


@given(stops=st.lists(st.integers(0, 6), max_size=4), shard=st.sampled_from([15, 1000]))
@settings(max_examples=8, deadline=None)
def test_stopped_anywhere_and_resumed_gives_the_very_same_scores(
    scorers: list[Scorer], tmp_path_factory: pytest.TempPathFactory, stops: list[int], shard: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "SHARD", shard)
        expected, whole = uninterrupted(tuple(scorers), shard)
        path = tmp_path_factory.mktemp("resume") / "journal"

        def start(journal: Journal, dies_after: int):
            methods = Dying(scorers, "auto", dies_after)
            engine = JointEngine(methods, 300, journal)
            journal.begin(engine.run_digest(IDS))
            return methods, lambda: list(engine.score_all(CANDIDATES))

        scores, batches = until_done(path, stops, start)
    assert scores == expected
    assert batches == whole > 0  # nothing that was written is computed again


def test_a_method_that_joins_later_is_the_only_one_scored(scorers: list[Scorer], tmp_path: Path) -> None:
    lines = []
    for some in (scorers[:1], scorers[:2], scorers[1:2]):
        with Journal(tmp_path / "journal") as journal:
            engine = JointEngine(Methods(some), 300, journal)
            journal.begin(engine.run_digest(IDS))
            list(engine.score_all(CANDIDATES))
        lines.append((tmp_path / "journal").read_text("utf-8").count('"sum"'))
    assert lines[1] == 2 * lines[0] and lines[2] == lines[1]
