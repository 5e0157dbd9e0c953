"""Topics, qrels and passages by ids of ir_datasets: through the real library, with data sets registered here."""

import gzip
import json
import sys
from typing import NamedTuple

import pytest

from eval import judge
from qpeft_rerank import evaluate, sources
from qpeft_rerank.collection.irdatasets import IrPassages
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError, MissingError
from qpeft_rerank.trec.qrels import read_qrels
from qpeft_rerank.trec.topics import Topic
from tests.refusal import refusal

ir_datasets = pytest.importorskip("ir_datasets", reason="not installed; pip install ir_datasets")


class Question(NamedTuple):
    query_id: str
    text: str
    answers: tuple[str, ...]

    def default_text(self) -> str:
        return self.text


class Article(NamedTuple):
    doc_id: str
    text: str
    title: str

    def default_text(self) -> str:
        return f"{self.title} {self.text}"


class Plate(NamedTuple):
    doc_id: str
    colour: str


class Queries(ir_datasets.formats.BaseQueries):
    def __init__(self, queries):
        self.queries = queries

    def queries_iter(self):
        return iter(self.queries)


class Store:
    def __init__(self, documents):
        self.documents = documents

    def get_many(self, ids):
        return {document.doc_id: document for document in self.documents if document.doc_id in ids}


class Documents(ir_datasets.formats.BaseDocs):
    def __init__(self, documents):
        self.documents = documents

    def docs_store(self):
        if not self.documents:
            raise ConnectionError("no network\nat all")
        return Store(self.documents)


@pytest.fixture
def register():
    """Register data sets for a test; return the name that commands take."""
    made = []

    def add(id_, *parts):
        ir_datasets.registry.register(id_, ir_datasets.Dataset(*parts))
        made.append(id_)
        return f"ir_datasets:{id_}"

    yield add
    for id_ in made:
        del ir_datasets.registry._registered[id_]


def test_files_of_the_library(tmp_path, register, capsys):
    (tmp_path / "docs.tsv").write_text("7\tGrace Hopper wrote the first compiler.\n12\tKurt Gödel proved it.\n")
    (tmp_path / "queries.tsv").write_text("q1\twho wrote it\nq2\twho proved it\n")
    (tmp_path / "qrels").write_text("q1 0 7 2\nq1 0 12 0\nq2 0 12 1\n")
    paths = {"docs_tsv": "docs.tsv", "queries_tsv": "queries.tsv", "qrels_trec": "qrels"}
    name = register("made/small", ir_datasets.create_dataset(**{k: str(tmp_path / v) for k, v in paths.items()}))
    assert sources.find_topics(name) == {"q1": Topic("q1", "who wrote it"), "q2": Topic("q2", "who proved it")}
    passages = sources.find_passages(None, name)
    assert sources.find_qrels(name, {}, {}, passages) == {"q1": {"7": 2, "12": 0}, "q2": {"12": 1}}
    assert passages.fetch(["12", "99"]) == {"12": Passage("12", "", "Kurt Gödel proved it.")}
    assert sources.label(name) == "made-small"
    (tmp_path / "run").write_text("q1 Q0 7 1 1 x\nq2 Q0 12 1 1 x\n")
    assert evaluate.main(["--qrels", name, "--run", str(tmp_path / "run"), "--measures", "P@1"]) == 0
    assert "1.0000" in capsys.readouterr().out


def test_titles_and_answers_are_kept(tmp_path, register):
    """As in dpr-w100, whose documents have titles and whose queries have answers."""
    articles = [Article("1", "She wrote the first compiler.", "Grace Hopper"), Article("2", "He did not.", "Hopper")]
    questions = [Question("q", "who wrote the first compiler", ("hopper", "compiler"))]
    name = register("made/titled", Queries(questions), Documents(articles))
    assert sources.find_topics(name)["q"].answers == ("hopper", "compiler")
    assert IrPassages(name).fetch(["1"])["1"] == Passage("1", "Grace Hopper", "She wrote the first compiler.")
    (tmp_path / "run").write_text("q Q0 1 1 2 x\nq Q0 2 2 1 x\n")
    words = ["--run", tmp_path / "run", "--topics", name, "--corpus", name, "--output", tmp_path / "qrels"]
    assert judge.main(list(map(str, words))) == 0
    assert read_qrels(str(tmp_path / "qrels")) == {"q": {"1": 1, "2": 0}}


def qrels_of(name):
    return sources.find_qrels(name, {}, {}, IrPassages(name))


def passage_of(name):
    return IrPassages(name).fetch(["1"])


@pytest.mark.parametrize(
    ("parts", "call", "said"),
    [
        ([Queries([])], sources.find_topics, "has no topics"),
        ([Queries([Question("q", "", ())])], sources.find_topics, "empty query for topic q"),
        ([Queries([Question("q 1", "who", ())])], sources.find_topics, "'q 1' is empty or has white space"),
        ([Queries([Question("q", "who", ()), Question("q", "what", ())])], sources.find_topics, "topic q occurs twice"),
        ([Queries([])], passage_of, "has no passages; give the id"),
        ([Documents([])], sources.find_topics, "has no topics; give the id"),
        ([Documents([])], qrels_of, "has no qrels; give the id"),
        ([Documents([])], passage_of, "cannot read it (no network)"),
        ([Documents([Plate("1", "blue")])], passage_of, "(fields: colour, doc_id)"),
    ],
)
def test_faults_are_one_line(register, parts, call, said):
    name = register("made/faulty", *parts)
    with pytest.raises(InputError) as caught:
        call(name)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_gzip_is_one_line(tmp_path, register):
    packed = bytearray(gzip.compress(b"1\twho wrote it\n"))
    packed[10] = 0xFF  # the first byte after gzip's own: a block of no kind that there is
    (tmp_path / "queries.tsv.gz").write_bytes(packed)
    file = ir_datasets.util.GzipExtract(ir_datasets.util.LocalDownload(tmp_path / "queries.tsv.gz"))
    name = register("made/damaged", ir_datasets.formats.TsvQueries(file))
    assert "ir_datasets cannot read it (Error -3 while decompressing" in refusal(sources.find_topics, name)


def test_an_unknown_id_gets_a_suggestion():
    with pytest.raises(InputError, match="no such data set; did you mean vaswani"):
        sources.find_topics("ir_datasets:vaswany")


def test_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(MissingError, match=r"^ir_datasets:vaswani: .* pip install qpeft_rerank\[ir_datasets\]$"):
        sources.find_topics("ir_datasets:vaswani")


def test_nothing_else_imports_it(tmp_path):
    import subprocess

    (tmp_path / "topics.jsonl").write_text(json.dumps({"id": "1", "question": "who"}) + "\n")
    code = "import sys; from qpeft_rerank import sources; sources.find_topics(sys.argv[1]); "
    code += "assert 'ir_datasets' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "topics.jsonl")], check=True)
