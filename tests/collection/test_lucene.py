"""Real Lucene: search, fetch, prebuilt indexes, topics by name, and each trap of Pyserini."""

import hashlib
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from qpeft_rerank.collection import evalfiles, lucene
from qpeft_rerank.collection.building import build_index
from qpeft_rerank.collection.index import sorted_ids
from qpeft_rerank.collection.lucene import LuceneIndex, load_qrels, load_topics, open_index
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.topics import Topic
from tests.forking import forks, status_of_fork
from tests.refusal import refusal

pytest.importorskip("jnius_config", reason="Pyserini is not installed")

NAME = "lucene-index.tiny"
PREBUILT = ("msmarco-v1-passage", "miracl-v1.0-en", "miracl-v1.0-yo")


@pytest.fixture(scope="module")
def index(tiny_index: Path) -> LuceneIndex:
    return open_index(str(tiny_index))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def catalogue(index: LuceneIndex, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Pyserini's catalogue, with ``msmarco-v1-passage`` and two of MIRACL's described as the tiny index is."""
    info: Any = lucene._catalogue()
    stats = index._searcher.index_reader.stats()
    entry = {
        "filename": f"{NAME}.tar.gz",
        "md5": "0" * 32,
        "urls": [f"http://127.0.0.1:9/{NAME}.tar.gz"],
        **{key: stats[key] for key in ("documents", "unique_terms", "total_terms")},
    }
    if isinstance(info, dict):
        for name in (*PREBUILT, "msmarco-passage"):
            monkeypatch.setitem(info, name, entry)
    else:
        # Since 2.4 a read-only mapping over lists from the network, with aliases of its own.
        monkeypatch.setattr(info, "_sources", (dict.fromkeys(PREBUILT, entry),))
    return entry


def test_fetch(index: LuceneIndex) -> None:
    found = index.fetch(["21", "absent", "40", "41", "42"])
    assert found["21"] == Passage("21", "Kurt Gödel", "Kurt Gödel proved that arithmetic is incomplete.")
    assert found["40"].text.count("\n") == 1
    assert found["41"] == Passage("41", "Empty", "")
    assert found["42"].title == ""
    assert "absent" not in found
    assert index.fetch([]) == {}


def test_an_integer_docid_is_the_collections_id(index: LuceneIndex) -> None:
    # Pyserini's own doc(7) would be the document with Lucene's number 7.
    assert index.fetch([7])["7"].title == "Alan Turing"  # type: ignore[list-item]
    assert index._searcher.doc(7).docid() != "7"


def test_search_orders_topics_and_hits_as_pyserini(index: LuceneIndex, topics: dict[str, Topic]) -> None:
    results = dict(index.search(topics, hits=3))
    assert list(results) == ["9", "10", "11", "12", "100"]
    assert [hit.rank for hit in results["10"]] == [1, 2, 3]
    assert results["12"] == []
    assert [hit.docid for hit in results["100"]][:2] in (["12", "3"], ["3", "12"])
    assert results["100"][0].score > results["100"][1].score  # Lucene's searcher separates ties itself


def test_search_options(index: LuceneIndex, topics: dict[str, Topic]) -> None:
    plain = dict(index.search(topics, hits=5))
    assert dict(index.search(topics, hits=5, threads=2)) == plain
    assert dict(index.search(topics, hits=5, k1=0.9, b=0.4)) == plain
    assert dict(index.search(topics, hits=5, k1=2.0, b=0.9)) != plain
    assert dict(index.search(topics, hits=5, rm3=True)) != plain
    assert dict(index.search(topics, hits=5)) == plain
    with pytest.raises(InputError, match="go together"):
        next(index.search(topics, k1=0.9))
    for k1, b in ((-1.0, 0.4), (float("nan"), 0.4), (0.9, 2.0)):
        with pytest.raises(InputError, match="give k1 from 0 and b from 0 to 1"):
            next(index.search(topics, k1=k1, b=b))
    with pytest.raises(InputError, match="Lucene finds 2147483647 at the most"):
        next(index.search(topics, hits=2**31))


def test_searches_in_turns_keep_their_own_parameters(index: LuceneIndex, topics: dict[str, Topic]) -> None:
    ways = [{}, {"k1": 2.0, "b": 0.9}, {"rm3": True}]
    alone = [list(index.search(topics, hits=5, **how)) for how in ways]
    in_turns = zip(*(index.search(topics, hits=5, **how) for how in ways), strict=True)
    assert [list(found) for found in zip(*in_turns, strict=True)] == alone


@pytest.mark.parametrize("threads", [1, 2])
def test_a_query_that_lucene_refuses_is_named(index: LuceneIndex, threads: int) -> None:
    topics = {"7": Topic("7", "radium"), "8": Topic("8", " ".join(f"word{number}" for number in range(2000)))}
    with pytest.raises(InputError, match=r"topic 8: Lucene cannot search for it .*shorten the query"):
        list(index.search(topics, threads=threads))


def test_mixed_ids_are_sorted_as_text() -> None:
    assert sorted_ids(["b", "10", "9"]) == ["10", "9", "b"]
    assert sorted_ids(["10", "9", "007"]) == ["007", "9", "10"]


@forks
def test_java_is_refused_in_a_forked_process(index: LuceneIndex, topics: dict[str, Topic], tiny_index: Path) -> None:
    """Its collector of garbage and its compiler did not come along: sooner or later a call would wait for them."""

    def work() -> None:
        for ask in (lambda: index.fetch(["7"]), lambda: dict(index.search(topics)), lambda: open_index(tiny_index)):
            assert refusal(ask).startswith("Java does not come along into a forked process; ")

    assert status_of_fork(work) == 0


def test_a_topic_set_that_keeps_its_files_order(index: LuceneIndex) -> None:
    fixed = lucene.fixed_order("msmarco-passage-dev-subset")
    topics = {key: Topic(key, "machine") for key in sorted(fixed)}
    assert index._order(topics, "msmarco-passage-dev-subset") == fixed
    assert fixed != sorted(fixed, key=int)
    assert index._order(topics, "my-topics.tsv") == sorted(fixed, key=int)


def test_bad_index_names(tmp_path: Path, tiny_corpus: Path, catalogue: dict[str, Any]) -> None:
    assert "not a Lucene index" in refusal(open_index, str(tmp_path))
    assert "a passage file is given with --corpus" in refusal(open_index, str(tiny_corpus))
    assert "no such folder" in refusal(open_index, "no/such/folder")
    assert "did you mean msmarco-v1-passage" in refusal(open_index, "msmarco-v1-pasage")


def test_a_damaged_index_is_one_line(tiny_index: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_index, tmp_path / "damaged")
    for path in (tmp_path / "damaged").glob("segments_*"):
        path.write_bytes(b"nonsense")
    said = refusal(open_index, str(tmp_path / "damaged"))
    assert "cannot read the index" in said and ".java:" not in said  # as in the stack that Java tells of


def test_prebuilt_index_planted_in_the_cache(
    catalogue: dict[str, Any], cache: Path, tiny_index: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_index, cache / "indexes" / f"{NAME}.{catalogue['md5']}")
    index = open_index("msmarco-passage")
    assert (index.name, len(index)) == ("msmarco-v1-passage", 11)
    assert index.fetch(["7"])["7"].title == "Alan Turing"
    assert capfd.readouterr().out == ""


def test_a_prebuilt_index_is_searched_in_its_own_language(
    catalogue: dict[str, Any], cache: Path, tiny_index: Path
) -> None:
    """That of words in Yoruba are words as they are written; this one's are of English, in lower case."""
    shutil.copytree(tiny_index, cache / "indexes" / f"{NAME}.{catalogue['md5']}")
    asked = {"1": Topic("1", "Enigma"), "2": Topic("2", "enigma")}
    found = {name: dict(open_index(name).search(asked)) for name in PREBUILT}
    assert {name: [len(hits) for hits in one.values()] for name, one in found.items()} == {
        "msmarco-v1-passage": [1, 1],
        "miracl-v1.0-en": [1, 1],
        "miracl-v1.0-yo": [0, 1],
    }


def test_old_name_where_pyserini_knows_only_the_new(
    catalogue: dict[str, Any], cache: Path, tiny_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Versions 0.22 to 0.35.
    info: Any = lucene._catalogue()
    if isinstance(info, dict):
        monkeypatch.delitem(info, "msmarco-passage")
    else:
        monkeypatch.setattr(info, "_aliases", {})
    shutil.copytree(tiny_index, cache / "indexes" / f"{NAME}.{catalogue['md5']}")
    assert len(open_index("msmarco-passage")) == 11


def test_prebuilt_index_is_downloaded(
    catalogue: dict[str, Any],
    cache: Path,
    tiny_index: Path,
    served: tuple[str, Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    url, root = served
    tarball = root / f"{NAME}.tar.gz"
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(tiny_index, arcname=NAME)
    catalogue["urls"] = [f"{url}/{tarball.name}"]
    catalogue["md5"] = hashlib.md5(tarball.read_bytes()).hexdigest()
    size = tarball.stat().st_size
    catalogue.update({"size compressed (bytes)": size, "size": size})
    index = open_index("msmarco-passage")
    assert index.fetch(["12"])["12"].title == "Grace Hopper"
    assert (cache / "indexes" / f"{NAME}.{catalogue['md5']}").is_dir()
    # What Pyserini says of it, if anything, goes to stderr.
    assert capfd.readouterr().out == ""

    # A second index with a wrong checksum, and one whose address is gone.
    catalogue["md5"] = "1" * 32
    assert "does not match checksum" in refusal(open_index, "msmarco-v1-passage")
    catalogue["urls"] = [f"{url}/gone.tar.gz"]
    assert f"unpack the index by hand as {cache}" in refusal(open_index, "msmarco-v1-passage")


def test_a_failed_download_is_no_none(catalogue: dict[str, Any], cache: Path) -> None:
    message = refusal(open_index, "msmarco-passage")
    assert "the download of http://127.0.0.1:9/" in message
    assert str(cache / "indexes" / f"{NAME}.{'0' * 32}") in message


def test_a_prebuilt_index_that_is_another(catalogue: dict[str, Any], cache: Path, tiny_index: Path) -> None:
    shutil.copytree(tiny_index, cache / "indexes" / f"{NAME}.{catalogue['md5']}")
    catalogue["documents"] = 8841823
    message = refusal(open_index, "msmarco-v1-passage")
    assert "consistency check" in message
    assert f"Remove {cache}" in message


def plant(cache: Path, name: str, text: str) -> None:
    (cache / "topics-and-qrels").mkdir(parents=True, exist_ok=True)
    (cache / "topics-and-qrels" / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["dpr-nq-test", "dpr.nq.test"])
def test_topics_by_name(cache: Path, name: str) -> None:
    plant(cache, "topics.dpr.nq.test.txt", "who is gödel\t['Kurt Gödel', \"a 'logician'\"]\nsecond\t['x']\n")
    topics = load_topics(name)
    # Pyserini would give integers.
    assert topics == {
        "0": Topic("0", "who is gödel", ("Kurt Gödel", "a 'logician'")),
        "1": Topic("1", "second", ("x",)),
    }


def test_topics_with_json_answers(cache: Path) -> None:
    plant(cache, "topics.dpr.wq.test.txt", '{"question": "what?", "answer": ["a", "it\'s"]}\n')
    assert load_topics("dpr-wq-test")["0"].answers == ("a", "it's")


def test_topics_without_a_title(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TREC-COVID's rounds have a query, a question and a narrative."""
    # From 2.4 on Pyserini learns of them on the network.
    rounds = {"path": "topics.covid-round1.xml", "reader_class": "io.anserini.search.topicreader.CovidTopicReader"}
    monkeypatch.setitem(evalfiles.OFFLINE["topics"], "covid-round1", rounds)
    topic = "<topic number='1'><query>origin</query><question>whence?</question><narrative>n</narrative></topic>"
    plant(cache, "topics.covid-round1.xml", f"<topics>{topic}</topics>")
    assert load_topics("covid-round1") == {"1": Topic("1", "origin")}


def test_topics_are_fetched_from_the_new_address(
    cache: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = served
    monkeypatch.setattr(evalfiles, "SOURCES", (url + "/{kind}/{file}",))
    (root / "topics").mkdir()
    (root / "topics" / "topics.dl19-passage.txt").write_text("1037798\twho is robert gray\n19335\tanthropology\n")
    assert list(load_topics("dl19-passage")) == ["19335", "1037798"]
    (root / "qrels").mkdir()
    (root / "qrels" / "qrels.dl19-passage.txt").write_text("19335 Q0 1017759 0\n19335 Q0 99 3\n")
    assert load_qrels("dl19-passage") == {"19335": {"1017759": 0, "99": 3}}
    assert "put the file into" in refusal(load_topics, "dl20-passage")


def test_renamed_reader_function(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(cache, "topics.dl19-passage.txt", "1\ta\n")
    base = lucene._search_base()
    old = getattr(base, "get_topics_with_reader", None)
    if old is None:
        pytest.skip("this Pyserini has the new name already")
    monkeypatch.delattr(base, "get_topics_with_reader")
    for name in ("load_topics_with_reader", "load_topics_from_file"):
        with monkeypatch.context() as patch:
            patch.setattr(base, name, lambda file, reader: old(reader, file), raising=False)
            assert list(load_topics("dl19-passage")) == ["1"]


def test_names_from_the_network_that_cannot_be_had(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Version 2.4: no mapping, and a function that asks the network for it.
    plant(cache, "topics.dpr.squad.test.txt", '{"question": "q", "answer": ["a"]}\n')
    base = lucene._search_base()
    monkeypatch.delattr(base, "topics_mapping", raising=False)

    def unreachable() -> None:
        raise OSError("no network")

    monkeypatch.setattr(base, "_get_topics_mapping", unreachable, raising=False)
    assert load_topics("dpr.squad.test")["0"].text == "q"
    assert "did you mean dpr-squad-test" in refusal(load_topics, "dpr-squad-tset")


def test_unknown_topics_and_qrels(cache: Path) -> None:
    assert "did you mean dpr-nq-test" in refusal(load_topics, "dpr-nq-tst")
    assert "did you mean dl19-passage" in refusal(load_qrels, "dl19-pasage")


@pytest.mark.slow
def test_miniwiki_gives_the_known_hit_rates(shared_data: Path, tmp_path: Path) -> None:
    from qpeft_rerank.trec.answers import AnswerMatcher
    from qpeft_rerank.trec.topics import read_topics

    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(shared_data / "miniwiki" / "corpus.jsonl", source)
    index = open_index(str(build_index(source, tmp_path / "index")))
    topics = read_topics(str(shared_data / "miniwiki" / "topics.squad.test.jsonl"))
    hit = dict.fromkeys((1, 5, 10, 20, 100), 0)
    for topic, hits in index.search(topics, hits=100):
        texts = index.fetch([one.docid for one in hits])
        right = [one.rank for one in hits if AnswerMatcher(topics[topic].answers).matches(texts[one.docid].text)]
        for depth in hit:
            hit[depth] += bool(right) and right[0] <= depth
    rates = {depth: 100 * count / len(topics) for depth, count in hit.items()}
    # The questions are those with an answer among BM25's first 100; the data's own figures are for more
    # questions than the 1,000 of the test file, hence the margin.
    assert rates.pop(100) == 100
    assert rates == pytest.approx({1: 40.2, 5: 57.4, 10: 66.1, 20: 75.0}, abs=1.0)
