"""Samples are seeded and keep what decides the cost."""

import pytest

from eval.benchmarks import workloads
from eval.benchmarks.workloads import Pair, build, from_json, repeats, to_json
from qpeft_rerank.errors import InputError


@pytest.mark.parametrize("name", workloads.NAMES)
def test_samples_are_seeded(name, data):
    one, same, other = (build(name, data, data / "trivia.trec", 48, seed) for seed in (1, 1, 2))
    assert one.pairs == same.pairs != other.pairs
    assert from_json(to_json(one)) == one.pairs
    everything = [pair for shard in one.whole for pair in shard]
    places = [everything.index(pair) for pair in one.pairs]
    assert places == sorted(set(places))


def test_dl19_takes_few_topics_and_as_many_pairs_as_asked(data):
    found = build("dl19", data, None, 48, 0)
    assert len(found.pairs) == 48
    assert len({pair.topic for pair in found.pairs}) == 3
    assert repeats([found.pairs]) == repeats(found.whole) == 1
    assert len(build("dl19", data, None, 10_000, 0).pairs) == 240


def test_trivia_takes_whole_passages_with_the_runs_repeats(data, monkeypatch):
    monkeypatch.setattr("qpeft_rerank.engines.local.FIRST", 4096)
    found = build("trivia", data, data / "trivia.trec", 30, 0)
    (whole,) = found.whole
    assert abs(len(found.pairs) - 60) <= 6
    assert repeats([found.pairs]) == pytest.approx(repeats([whole]), rel=0.15)
    chosen = {pair.docid for pair in found.pairs}
    assert found.pairs == [pair for pair in whole if pair.docid in chosen]
    counts = [sum(pair.docid == docid for pair in found.pairs) for docid in chosen]
    assert min(counts) < repeats([whole]) < max(counts)


def test_trivia_has_each_passage_in_one_shard(data, monkeypatch):
    monkeypatch.setattr("qpeft_rerank.engines.local.FIRST", 20)
    monkeypatch.setattr("qpeft_rerank.engines.local.SHARD", 20)
    found = build("trivia", data, data / "trivia.trec", 30, 0)
    assert len(found.whole) > 1
    every = [pair for shard in found.whole for pair in shard]
    assert repeats(found.whole) == repeats([every]) > 1


def test_long_ones_are_joined(data):
    plain = {(pair.topic, pair.docid): pair for pair in build("dl19", data, None, 10_000, 0).pairs}
    for pair in build("long-passages", data, None, 80, 0).pairs:
        short = plain[pair.topic, pair.docid]
        assert pair.query == short.query
        assert pair.text.startswith(short.text + " ")
        assert len(pair.text) > 4 * len(short.text) or len(pair.text) > 120
    for pair in build("long-queries", data, None, 80, 0).pairs:
        short = plain[pair.topic, pair.docid]
        assert pair.text == short.text
        assert pair.query.startswith(short.query + "? ")
        assert pair.query.count("? ") == 7


def test_faults(data, tmp_path):
    with pytest.raises(InputError, match=r"no such file; --data"):
        build("dl19", tmp_path, None, 8, 0)
    with pytest.raises(InputError, match="needs a first stage"):
        build("trivia", data, None, 8, 0)
    with pytest.raises(InputError, match="is no run of"):
        build("trivia", data, data / "dl19" / "run.bm25.txt", 8, 0)


def test_repeats():
    pair = Pair("1", "q", "d", "", "t")
    assert repeats([[pair, pair], [pair, Pair("1", "q", "e", "", "t")]]) == pytest.approx(4 / 3)
