"""What is scored: seeded samples that keep what decides a workload's cost."""

import random
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.pairs import listed
from qpeft_rerank.trec.runs import Hit, Run, read_run
from qpeft_rerank.trec.topics import Topic, read_topics

NAMES = ("dl19", "trivia", "long-passages", "long-queries", "dl19-topics")
DEPTH = 100
# Pairs of one topic in a sample of dl19: enough to tell a ranking.
_OF_TOPIC = 16
# Passages, or questions, that are joined into a long one.
_JOINED = 8
# Draws of the trivia sample, of which the one nearest to the size asked for is taken.
_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """One candidate as texts."""

    topic: str
    query: str
    docid: str
    title: str
    text: str

    @property
    def texts(self) -> tuple[str, str, str]:
        """The passage: id, title and text."""
        return self.docid, self.title, self.text


@dataclass(frozen=True, slots=True)
class Workload:
    """A sample, and the run that it stands for.

    :param pairs: the sample.
    :param whole: the run, passage by passage, cut into what the engine tokenises and plans at a time.
    """

    name: str
    about: str
    pairs: list[Pair]
    whole: list[list[Pair]]


def repeats(shards: Iterable[ListLike[Pair]]) -> float:
    """Pairs to a passage, where a passage counts anew in each shard."""
    pairs, passages = 0, 0
    for shard in shards:
        pairs += len(shard)
        passages += len({pair.docid for pair in shard})
    return pairs / passages


def build(name: str, data: Path, run: Path | None, pairs: int, seed: int, depth: int = DEPTH) -> Workload:
    """Draw a workload's sample.

    :param data: the folder with ``dl19/`` and ``miniwiki/``.
    :param run: the first stage of miniwiki's trivia questions; the others have their own.
    :param pairs: about how many; of trivia, whose passages repeat, twice as many, of long passages a quarter, of
        long queries half.
    :param depth: how many passages a topic has in the run.
    :raises InputError: for a file that is absent or damaged, or a run without the depth.
    """
    chance = random.Random(f"{seed} {name}")
    if name == "trivia":
        if run is None:
            raise InputError("workload trivia needs a first stage")
        folder = data / "miniwiki"
        whole = _shards(_read(folder, run, folder / "topics.trivia.test.jsonl", depth))
        about = f"TriviaQA on 14,597 Wikipedia passages, BM25 top {depth}"
        return Workload(name, about, _repeated(whole, 2 * pairs, chance), whole)
    folder = data / "dl19"
    every = _read(folder, folder / "run.bm25.txt", folder / "topics.tsv", depth)
    if name == "dl19":
        about, sample = f"TREC 2019 DL, BM25 top {depth}", _few_topics(every, pairs, chance)
        return Workload(name, about, sample, _shards(every))
    if name == "dl19-topics":
        about = f"TREC 2019 DL, whole topics, BM25 top {depth}"
        return Workload(name, about, _whole_topics(every, pairs, chance), _shards(every))
    if name == "long-passages":
        every = _long_passages(every)
        return Workload(
            name, f"dl19, {_JOINED} passages in one", _few_topics(every, pairs // 4, chance), _shards(every)
        )
    every = _long_queries(every, chance)
    return Workload(name, f"dl19, {_JOINED} questions in one", _few_topics(every, pairs // 2, chance), _shards(every))


def _read(folder: Path, run_file: Path, topics_file: Path, depth: int) -> list[Pair]:
    from qpeft_rerank.collection.jsonl import CorpusFile

    for path in (folder / "corpus.jsonl", run_file, topics_file):
        if not path.is_file():
            raise InputError(f"{path}: no such file; --data is the folder that holds dl19 and miniwiki")
    topics: dict[str, Topic] = read_topics(str(topics_file))
    run: Run = {topic: hits[:depth] for topic, hits in read_run(str(run_file)).items() if topic in topics}
    wanted = list({hit.docid for hits in run.values() for hit in hits})
    found = CorpusFile(str(folder / "corpus.jsonl")).fetch(wanted)
    if len(found) < len(wanted) or not run:
        raise InputError(f"{run_file}: is no run of {topics_file.name} over {folder / 'corpus.jsonl'}")
    return [
        Pair(topic, topics[topic].text, hit.docid, found[hit.docid].title, found[hit.docid].text)
        for topic, hits in run.items()
        for hit in hits
    ]


def _shards(pairs: list[Pair]) -> list[list[Pair]]:
    """Order and cut a run as the engine does where passages are shared."""
    from qpeft_rerank.collection.passages import Passage
    from qpeft_rerank.engines.local import Candidate, shards

    run: Run = {}
    for pair in pairs:
        run.setdefault(pair.topic, []).append(Hit(pair.docid, 0.0, 0))
    found = {(pair.topic, pair.docid): pair for pair in pairs}
    ordered = [found[name] for name in listed(run, len(pairs), by_passage=True)]
    candidates = [Candidate(Topic(p.topic, p.query), Passage(p.docid, p.title, p.text)) for p in ordered]
    rest = iter(ordered)
    return [[next(rest) for _ in shard] for shard in shards(candidates, True)]


def _few_topics(every: ListLike[Pair], count: int, chance: random.Random) -> list[Pair]:
    """Random passages of random topics, about 16 of each, in the run's order."""
    count = max(count, 2)
    listed: dict[str, list[Pair]] = {}
    for pair in every:
        listed.setdefault(pair.topic, []).append(pair)
    number = min(len(listed), max(1, round(count / _OF_TOPIC)))
    chosen = set(chance.sample(sorted(listed), number))
    sample = []
    for place, topic in enumerate(topic for topic in listed if topic in chosen):
        share = (place + 1) * count // number - place * count // number
        pairs = listed[topic]
        sample += [pairs[at] for at in sorted(chance.sample(range(len(pairs)), min(share, len(pairs))))]
    return sample


def _whole_topics(every: ListLike[Pair], count: int, chance: random.Random) -> list[Pair]:
    """All passages of as many random topics as reach that many pairs."""
    topics = list(dict.fromkeys(pair.topic for pair in every))
    chance.shuffle(topics)
    sample: list[Pair] = []
    while topics and len(sample) < count:
        topic = topics.pop()
        sample += [pair for pair in every if pair.topic == topic]
    return sample


def _repeated(whole: ListLike[ListLike[Pair]], count: int, chance: random.Random) -> list[Pair]:
    """Whole passages with all their topics of one shard, spread evenly over the number of topics.

    So the sample has the repeats that the engine meets in the whole run, the rare and the frequent.
    """
    topics_of: Counter[tuple[int, str]] = Counter()
    for number, shard in enumerate(whole):
        topics_of.update((number, pair.docid) for pair in shard)
    order = list(topics_of)
    chance.shuffle(order)
    order.sort(key=lambda unit: topics_of[unit])
    mean = topics_of.total() / len(order)
    number = max(1, round(count / mean))
    draws = []
    for _ in range(_DRAWS):
        first = chance.random()
        chosen = [order[int((place + first) * len(order) / number)] for place in range(number)]
        draws.append((abs(sum(topics_of[unit] for unit in chosen) - number * mean), chosen))
    kept = set(min(draws, key=lambda draw: draw[0])[1])
    return [pair for at, shard in enumerate(whole) for pair in shard if (at, pair.docid) in kept]


def _long_passages(every: ListLike[Pair]) -> list[Pair]:
    """Every passage with the next ones of its topic's ranking behind it."""
    joined = []
    for at, pair in enumerate(every):
        rest = [other for other in every[at : at + _JOINED] if other.topic == pair.topic]
        if len(rest) == _JOINED:
            text = " ".join(other.text for other in rest)
            joined.append(Pair(pair.topic, pair.query, pair.docid, pair.title, text))
    return joined


def _long_queries(every: ListLike[Pair], chance: random.Random) -> list[Pair]:
    """Every question with others of the set behind it."""
    queries = dict.fromkeys(pair.query for pair in every)
    others = {query: chance.sample(list(queries), min(_JOINED, len(queries))) for query in queries}
    long = {
        query: "? ".join([query, *(other for other in others[query] if other != query)][:_JOINED]) for query in queries
    }
    return [Pair(pair.topic, long[pair.query], pair.docid, pair.title, pair.text) for pair in every]


def to_json(workload: Workload) -> dict[str, Any]:
    """The sample as a worker takes it."""
    return {
        "name": workload.name,
        "pairs": [[p.topic, p.query, p.docid, p.title, p.text] for p in workload.pairs],
    }


def from_json(record: dict[str, Any]) -> list[Pair]:
    """The sample of :func:`to_json`."""
    return [Pair(*pair) for pair in record["pairs"]]
