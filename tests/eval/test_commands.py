"""The small commands: sample, candidates, judge, untrained, fetch, and DPR's JSON there and back."""

import errno
import http.server
import json
import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval import candidates, dpr_json, fetch, judge, sample, untrained
from qpeft_rerank.trec.qrels import read_qrels
from qpeft_rerank.trec.runs import read_run
from qpeft_rerank.trec.topics import Topic, read_topics


def call(main, *words):
    return main([str(word) for word in words])


def one_line(capsys):
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


def test_the_seeded_sample_is_the_authors():
    """Sorted by question text, then ``random.sample`` with the seed (openqa_dataset.py)."""
    topics = {str(n): Topic(str(n), f"question {(n * 37) % 101}", ("a",)) for n in range(101)}
    theirs = random.Random(42).sample(sorted(topics.values(), key=lambda topic: topic.text), 30)
    assert {topic.id for topic in sample.sample(topics, 30, "seeded", 42)} == {topic.id for topic in theirs}
    turned = dict(reversed(topics.items()))
    assert {t.id for t in sample.sample(turned, 30, "seeded", 42)} == {t.id for t in theirs}
    assert [t.id for t in sample.sample(topics, 3, "first", 42)] == ["0", "1", "2"]
    assert len(sample.sample(topics, 0, "seeded", 42)) == len(sample.sample(topics, 500, "seeded", 1)) == 101


def test_sample_command(data, tmp_path, capsys):
    out = tmp_path / "topics.jsonl"
    words = ("--topics", data / "topics.nq.test.jsonl", "--output", out)
    assert call(sample.main, *words, "--count", 4) == 0 and len(read_topics(str(out))) == 4
    assert next(iter(read_topics(str(out)).values())).answers
    capsys.readouterr()
    assert call(sample.main, *words) == 2 and "--overwrite" in one_line(capsys)
    assert call(sample.main, *words, "--overwrite", "--count", -1) == 2 and "0 for all" in one_line(capsys)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "topics.jsonl").write_text(
        '{"id": "t1", "question": "one", "answers": ["Paris"]}\n{"id": "t2", "question": "two", "answers": ["x"]}\n'
    )
    (tmp_path / "run").write_text("t1 Q0 a 1 3 x\nt1 Q0 b 2 2 x\nt1 Q0 c 3 1 x\nt2 Q0 a 1 1 x\nt9 Q0 a 1 1 x\n")
    texts = {"a": ("Paris", "A city."), "b": ("City", "It is paris, of course."), "c": ("", "Parisian.")}
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": d, "title": t, "text": x}) + "\n" for d, (t, x) in texts.items())
    )
    return tmp_path


@pytest.mark.parametrize("taken", ["run", "topics.jsonl", "corpus.jsonl"])
def test_no_input_is_overwritten(files, capsys, taken):
    before = (files / taken).read_bytes()
    given = ["--run", files / "run", "--topics", files / "topics.jsonl", "--corpus", files / "corpus.jsonl"]
    assert call(judge.main, *given, "--output", files / taken, "--overwrite") == 2
    assert "is an input of this job" in one_line(capsys)
    assert (files / taken).read_bytes() == before


@pytest.mark.parametrize("command", [candidates, dpr_json, fetch, judge, sample, untrained])
def test_bad_arguments_are_one_line(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--no-such"])
    assert stopped.value.code == 2
    one_line(capsys)


def test_candidates(files, capsys):
    words = ("--run", files / "run", "--topics", files / "topics.jsonl", "--output", files / "out")
    assert call(candidates.main, *words, "--depth", 2) == 0
    assert "1 topics have fewer than 2" in capsys.readouterr().err
    found = read_run(str(files / "out"))
    assert {t: [h.docid for h in hits] for t, hits in found.items()} == {"t1": ["a", "b"], "t2": ["a"]}
    assert call(candidates.main, *words, "--overwrite", "--depth", 10) == 2
    assert "has 3 passages a topic at most" in one_line(capsys)
    (files / "topics.jsonl").write_text('{"id": 5, "question": "five"}\n')
    assert call(candidates.main, *words, "--overwrite") == 2 and "none of its topics" in one_line(capsys)


def test_judgements_exclude_the_title(files, capsys):
    words = ("--run", files / "run", "--topics", files / "topics.jsonl", "--output", files / "qrels")
    assert call(judge.main, *words, "--corpus", files / "corpus.jsonl") == 0
    assert read_qrels(str(files / "qrels")) == {"t1": {"a": 0, "b": 1, "c": 0}, "t2": {"a": 0}}
    assert "1 of 2 topics" in capsys.readouterr().err
    (files / "corpus.jsonl").write_text('{"id": "a", "text": "only"}\n')
    assert call(judge.main, *words, "--corpus", files / "corpus.jsonl", "--overwrite") == 2
    assert "docid b (topic t1) is not in" in one_line(capsys)
    assert call(judge.main, *words, "--overwrite") == 2 and "--corpus" in one_line(capsys)


def test_answers_may_be_regular_expressions(files):
    (files / "topics.jsonl").write_text('{"id": "t1", "question": "one", "answers": ["par(is|os)\\\\b", "("]}\n')
    words = ("--run", files / "run", "--topics", files / "topics.jsonl", "--corpus", files / "corpus.jsonl")
    assert call(judge.main, *words, "--output", files / "regex", "--regex") == 0
    assert read_qrels(str(files / "regex")) == {"t1": {"a": 0, "b": 1, "c": 0}}
    assert call(judge.main, *words, "--output", files / "plain") == 0
    assert read_qrels(str(files / "plain")) == {"t1": {"a": 0, "b": 0, "c": 0}}


@pytest.mark.parametrize("preset", ["textual", "random", "corrected"])
def test_untrained_adapters_load_again(model, tmp_path, preset, capsys):
    from qpeft_rerank import Reranker

    words = ("--adapter", "qpeft-r", "--preset", preset, "--model", model, "--output", tmp_path / "a")
    assert call(untrained.main, *words, "--option", "k=3") == 0
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())["adapter"]
    assert config["k"] == 3 and (config["source"] == "random") == (preset == "random")
    reranker = Reranker.from_pretrained(str(model), str(tmp_path / "a"), device="cpu")
    assert len(reranker.rerank("who wrote the first program", ["Ada wrote it", "a dog"])) == 2
    capsys.readouterr()
    assert call(untrained.main, *words) == 2 and "exists" in one_line(capsys)
    other = ("--adapter", "qpeft-r", "--model", model, "--output", tmp_path / "b")
    assert call(untrained.main, *other, "--preset", "best") == 2 and "no preset 'best'" in one_line(capsys)
    assert call(untrained.main, *other, "--option", "k") == 2 and "NAME=VALUE" in one_line(capsys)


def test_an_untrained_adapter_that_does_not_fit_is_one_line(model, tmp_path, monkeypatch, capsys):
    def full(*given, **settings):
        raise MemoryError

    monkeypatch.setattr("qpeft_rerank.adapters.qpeft_r.module.QPeftR.__init__", full)
    words = ("--adapter", "qpeft-r", "--model", model, "--output", tmp_path / "a")
    assert call(untrained.main, *words) == 2
    assert one_line(capsys).startswith("error: --adapter qpeft-r: does not fit into the memory of cpu beside the model")


def test_fetch(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "*")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/absent":
                self.send_error(404)
                return
            self.send_response(200)
            if self.path == "/chunks":
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", "4" if self.path == "/whole" else "40")
            self.end_headers()
            self.wfile.write(b"9\r\ntext" if self.path == "/chunks" else b"text")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert call(fetch.main, f"{address}/whole", "--output", tmp_path / "a") == 0
        assert (tmp_path / "a").read_bytes() == b"text"
        capsys.readouterr()
        for name in ("short", "absent", "chunks", "a b"):
            assert call(fetch.main, f"{address}/{name}", "--output", tmp_path / "b") == 2
            assert f"{address}/{name}" in one_line(capsys)
        server.shutdown()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert call(fetch.main, "nonsense", "--output", tmp_path / "b") == 2 and "cannot be fetched" in one_line(capsys)


def test_a_full_disk_is_no_networks_fault(tmp_path, monkeypatch, capsys):
    def full(source, target, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    (tmp_path / "a").write_text("text")
    assert call(fetch.main, (tmp_path / "a").as_uri(), "--output", tmp_path / "b") == 2
    assert (
        one_line(capsys)
        == f"error: {tmp_path / 'b'}: cannot be written (No space left on device); free some space and try again\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


entries = st.lists(
    st.tuples(
        st.sampled_from(["who?", "what is it", "who?"]),
        st.lists(st.sampled_from(["a b", "c"]), max_size=2),
        st.lists(
            st.tuples(st.integers(0, 30), st.floats(-1e3, 1e3), st.booleans()), unique_by=lambda c: c[0], max_size=5
        ),
    ),
    min_size=1,
    max_size=5,
).filter(lambda found: any(contexts for _, _, contexts in found))


@given(entries)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_dpr_json_there_and_back(tmp_path, found):
    """Order, answers and labels come back, whatever the scores, and equal questions stay apart."""
    records = [
        {
            "question": question,
            "answers": answers,
            "ctxs": [{"id": str(d), "score": str(s), "has_answer": a, "text": "t"} for d, s, a in contexts],
        }
        for question, answers, contexts in found
    ]
    (tmp_path / "in.json").write_text(json.dumps(records))
    run, topics, qrels = tmp_path / "run", tmp_path / "topics.jsonl", tmp_path / "qrels"
    words = ("--run", run, "--topics", topics, "--qrels", qrels, "--overwrite")
    assert call(dpr_json.main, "to-trec", tmp_path / "in.json", *words) == 0
    back = ("--run", run, "--topics", topics, "--qrels", qrels, "--output", tmp_path / "out.json", "--overwrite")
    assert call(dpr_json.main, "to-json", *back) == 0
    again = json.loads((tmp_path / "out.json").read_text())
    assert [(e["question"], e["answers"]) for e in again] == [(q, a) for q, a, _ in found]
    for entry, (_, _, contexts) in zip(again, found, strict=True):
        assert [(c["id"], c["has_answer"]) for c in entry["ctxs"]] == [(str(d), a) for d, _, a in contexts]
        scores = [c["score"] for c in entry["ctxs"]]
        assert scores == sorted(scores, reverse=True)


def test_dpr_json_takes_ids_by_position(files, capsys):
    records = [{"question": f"q{n}", "answers": ["a"], "ctxs": [{"id": "wiki:7", "score": 1}]} for n in range(2)]
    (files / "in.json").write_text(json.dumps(records))
    words = ("to-trec", files / "in.json", "--run", files / "out", "--like", files / "topics.jsonl")
    assert call(dpr_json.main, *words) == 0
    assert {t: hits[0].docid for t, hits in read_run(str(files / "out")).items()} == {"t1": "7", "t2": "7"}
    capsys.readouterr()
    (files / "in.json").write_text(json.dumps(records[:1]))
    assert call(dpr_json.main, *words, "--overwrite") == 2 and "joined by position" in one_line(capsys)


def test_dpr_json_writes_no_two_outputs_into_one_file(files, capsys):
    (files / "in.json").write_text(json.dumps([{"question": "q", "answers": ["a"], "ctxs": [{"id": "7", "score": 1}]}]))
    words = ("--run", files / "out", "--topics", files / "." / "out")
    assert call(dpr_json.main, "to-trec", files / "in.json", *words) == 2
    assert "--run, --topics: one file" in one_line(capsys) and not (files / "out").exists()


def test_dpr_json_refuses_qrels_of_other_topics(files, capsys):
    (files / "qrels").write_text("0 0 a 1\n")
    words = ("--run", files / "run", "--topics", files / "topics.jsonl", "--qrels", files / "qrels")
    assert call(dpr_json.main, "to-json", *words, "--output", files / "out.json") == 2
    assert "none of its topics is in the run (run: t1, qrels: 0)" in one_line(capsys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[" * 5000 + "]" * 5000, "not JSON (brackets 500 deep)"),
        ("[]", "not a list"),
        ("[1]", "not a list"),
        ('[{"answers": []}]', "entry 0: has no question"),
        ('[{"question": "q", "answers": "a"}]', "not a list of strings"),
        ('[{"question": "q", "answers": []}]', "'ctxs' is not a list"),
        ('[{"question": "q", "ctxs": [{"id": 1}]}]', "no id or no score"),
        ('[{"question": "q", "ctxs": [{"id": "", "score": 1}]}]', "has no id"),
        ('[{"question": "q", "ctxs": [{"id": null, "score": 1}]}]', "has no id"),
        (
            '[{"question": "q", "ctxs": [{"id": "\\ud800", "score": 1}]}]',
            "entry 0: the id '\\ud800' in ctxs has half a",
        ),
        ('[{"question": "\\ud800", "ctxs": []}]', "entry 0: question or answers have half a surrogate pair"),
        ('[{"question": "q", "answers": ["\\udfff"], "ctxs": []}]', "question or answers have half a surrogate pair"),
        (f'[{{"question": "q", "ctxs": [{{"id": 1, "score": {"9" * 400}}}]}}]', "no score that is a number"),
        ('[{"question": "q", "ctxs": []}]', "none of its questions"),
    ],
)
def test_bad_dpr_json(tmp_path, capsys, text, said):
    (tmp_path / "in.json").write_text(text)
    assert call(dpr_json.main, "to-trec", tmp_path / "in.json", "--run", tmp_path / "run") == 2
    assert said in one_line(capsys) and not (tmp_path / "run").exists()
