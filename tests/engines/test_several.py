"""Several methods in one journal: each has its own scores, and interrupted = uninterrupted."""

from functools import cache
from pathlib import Path

import pytest
import tiny
from engines.test_local import alone, repeating
from hypothesis import given, settings
from hypothesis import strategies as st

import qpeft_rerank.engines.local as local
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.engines.local import LocalEngine
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.prompt import load_template
from tests.engines.resuming import Dying, until_done

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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shard", [15, 8192])
def test_each_method_has_its_own_scores(
    scorers: list[Scorer], monkeypatch: pytest.MonkeyPatch, mode: str, shard: int
) -> None:
    monkeypatch.setattr(local, "SHARD", shard)
    done: list[int] = []
    engine = LocalEngine(Methods(scorers, mode), 300)
    columns = list(zip(*engine.score(CANDIDATES, done.append), strict=True))
    for scorer, found in zip(scorers, columns, strict=True):
        for one, (other,) in zip(found, alone(scorer, 300).score(CANDIDATES), strict=True):
            assert one.mean == pytest.approx(other.mean, abs=1e-4)
            assert one.tokens == other.tokens
    assert sum(done) == len(scorers) * len(CANDIDATES)


def test_the_run_digest_covers_every_method_in_its_place(scorers: list[Scorer]) -> None:
    lists = [scorers[:1], scorers[1:2], scorers[:2], scorers[1::-1], scorers, [scorers[0], scorers[2], scorers[1]]]
    digests = [LocalEngine(Methods(some), 160).run_digest(IDS) for some in lists]
    assert len(set(digests)) == len(lists)


@cache
def uninterrupted(scorers: tuple[Scorer, ...], shard: int) -> tuple[list[tuple[Score, ...]], int]:
    """All methods' scores and the number of batches, in shards of the size that is set."""
    methods = Dying(list(scorers))
    return list(LocalEngine(methods, 300).score(CANDIDATES)), methods.batches


@pytest.mark.slow
@given(stops=st.lists(st.integers(0, 6), max_size=4), shard=st.sampled_from([15, 1000]))
@settings(max_examples=8)
def test_stopped_anywhere_and_resumed_gives_the_very_same_scores(
    scorers: list[Scorer], tmp_path_factory: pytest.TempPathFactory, stops: list[int], shard: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "SHARD", shard)
        expected, whole = uninterrupted(tuple(scorers), shard)
        path = tmp_path_factory.mktemp("resume") / "journal"

        def start(journal: Journal, dies_after: int):
            methods = Dying(scorers, "auto", dies_after)
            engine = LocalEngine(methods, 300, journal)
            journal.begin(engine.run_digest(IDS))
            return methods, lambda: list(engine.score(CANDIDATES))

        scores, batches = until_done(path, stops, start)
    assert scores == expected
    assert batches == whole > 0  # nothing that was written is computed again


def test_a_method_that_joins_later_is_the_only_one_scored(scorers: list[Scorer], tmp_path: Path) -> None:
    lines = []
    for some in (scorers[:1], scorers[:2], scorers[1:2]):
        with Journal(tmp_path / "journal") as journal:
            engine = LocalEngine(Methods(some), 300, journal)
            journal.begin(engine.run_digest(IDS))
            list(engine.score(CANDIDATES))
        lines.append((tmp_path / "journal").read_text("utf-8").count('"sum"'))
    assert lines[1] == 2 * lines[0] and lines[2] == lines[1]
