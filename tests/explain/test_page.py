"""``--explain``: a page's numbers, its hints, and that nothing in it runs."""

import json
import math
import re
from pathlib import Path

import pytest
import tiny
import torch

from qpeft_rerank import explain
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import load_adapter
from qpeft_rerank.labels import TokenText
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.rerank import main
from tests.explain.awkward import KINDS, PASSAGES, TOPICS, page_of, texts_are_whole
from tests.seen import Seen


def scorer_of(model: LanguageModel, adapters: dict[str, Path], kind: str, limit: int | None = None) -> Scorer:
    if kind == "plain":
        return Scorer(model, load_template("plain"), None, limit)
    found = load_adapter(str(adapters[kind]), model)
    return Scorer(model, found.template or load_template("plain"), found.hinter, limit)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_has_the_scorers_numbers_in_the_new_order(command, tmp_path, model, adapters, kind) -> None:
    assert main(command(kind, "--max-passage-tokens", "60")) == 0
    seen = Seen(page_of(tmp_path))
    order = [line.split() for line in (tmp_path / "out.trec").read_text("utf-8").splitlines()]
    order = [row for row in order if row[0] == "t<1>"]
    assert len(seen.tables) == len(order) == len(PASSAGES)
    scorer = scorer_of(model, adapters, kind, 60)
    texts = {docid: (title, text) for docid, title, text in PASSAGES}
    sequences = scorer.encode((TOPICS["t<1>"], *texts[row[2]]) for row in order)
    for row, table, sequence in zip(order, seen.tables, sequences, strict=True):
        logs = scorer.log_probs([sequence])[0]
        shown = [float(cells[1]) for cells in table[1:-1]]
        assert shown == pytest.approx(logs.tolist(), rel=1e-7)
        assert [float(cells[2].removesuffix(" %")) for cells in table[1:-1]] == pytest.approx(
            [100 * math.exp(log) for log in logs.tolist()], rel=1e-2
        )
        assert float(table[-1][1]) == pytest.approx(float(row[4]), abs=1e-4)
    means = [sum(float(table[place][1]) for table in seen.tables) / len(order) for place in range(1, 3)]
    for table in seen.tables:
        for place, mean in enumerate(means, 1):
            assert float(table[place][3]) == pytest.approx(float(table[place][1]) - mean, abs=1e-3)
    assert page_of(tmp_path).count("cut here") == sum(sequence.truncated for sequence in sequences) > 0


def test_r_shows_its_hints_and_their_similarities(command, tmp_path, model, adapters) -> None:
    assert main(command("qpeft-r", "--explain-topic", "t2")) == 0
    html = page_of(tmp_path)
    scorer = scorer_of(model, adapters, "qpeft-r")
    order = [line.split() for line in (tmp_path / "out.trec").read_text("utf-8").splitlines()]
    texts = {docid: (title, text) for docid, title, text in PASSAGES}
    cards = html.split("<article")[1:]
    for card, row in zip(cards, [row for row in order if row[0] == "t2"], strict=True):
        (sequence,) = scorer.encode([("bug", *texts[row[2]])])
        (trace,) = scorer.hinter.explain([sequence], torch.tensor([sequence.ids]))
        shown = [float(value) for value in re.findall(r'title="cosine ([^"]+)"', card)]
        assert shown == pytest.approx(trace.similarities, rel=1e-7)
        assert ("<mark>" in card) == bool(texts[row[2]] != ("", ""))
    assert any("none</p>" in card for card in cards)


def test_a_holds_the_attention_of_each_query_token(command, tmp_path, model, adapters) -> None:
    assert main(command("qpeft-a")) == 0
    seen = Seen(page_of(tmp_path))
    scorer = scorer_of(model, adapters, "qpeft-a")
    order = [line.split()[2] for line in (tmp_path / "out.trec").read_text("utf-8").splitlines()][: len(PASSAGES)]
    texts = {docid: (title, text) for docid, title, text in PASSAGES}
    names = TokenText(model.pieces.tokenizer)
    sequences = scorer.encode((TOPICS["t<1>"], *texts[docid]) for docid in order)
    shown = [found["data-weights"] for found in seen.all("p", "text")]
    asked = len(seen.all("input")) - 1
    for weights, sequence in zip(shown, sequences, strict=True):
        (trace,) = scorer.hinter.explain([sequence], torch.tensor([sequence.ids]))
        rows = (weights or "").split(" ")
        assert len(rows) == len(trace.weights) == asked
        sizes = [size for _, size in names.groups(trace.passage)]
        assert all(len(row) == len(sizes) for row in rows)
        for row, exact in zip(rows, trace.weights, strict=True):
            start = 0
            for digit, size in zip(row, sizes, strict=True):
                weight = sum(exact[start : start + size])
                assert (explain._DIGITS.index(digit) / 63) ** 2 == pytest.approx(weight, abs=0.02)
                start += size


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_passage_is_markup_and_all_of_it_is_shown(command, tmp_path, kind) -> None:
    assert main(command(kind)) == 0
    html = page_of(tmp_path)
    seen = Seen(html)
    assert len(seen.all("script")) == 1
    for tag in ("img", "link", "iframe", "b"):
        assert not seen.all(tag)
    assert not [
        name for _, found in seen.elements for name in found if name in ("src", "href") or name.startswith("on")
    ]
    assert "alert(" in html and "<script>alert" not in html
    assert texts_are_whole(seen)
    assert "�" not in html


def test_twenty_passages_at_most_and_a_small_page(command, tmp_path) -> None:
    words = "Grace Hopper wrote the first compiler and popularised the word bug again and again. " * 8
    corpus = [json.dumps({"id": str(place), "text": f"{words}{place}"}) for place in range(25)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(corpus) + "\n", "utf-8")
    (tmp_path / "first.trec").write_text("".join(f"t2 Q0 {n} {n} {-n} x\n" for n in range(25)), "utf-8")
    arguments = command("qpeft-a")
    assert main([*arguments, "--depth", "22"]) == 0
    assert page_of(tmp_path).count("<article") == 20
    assert "20 of 22 reranked" in page_of(tmp_path)
    assert len(page_of(tmp_path).encode()) < 200_000


def test_a_finished_run_explains_another_topic_from_its_journal(command, tmp_path, monkeypatch) -> None:
    assert main(command("qpeft-r")) == 0
    first, run = page_of(tmp_path), (tmp_path / "out.trec").read_bytes()
    journal = (tmp_path / "out.trec.journal").read_bytes()
    monkeypatch.setattr(Scorer, "score", lambda *_: pytest.fail("scored again"))
    assert main(command("qpeft-r", "--explain-topic", "t2")) == 0
    assert "Topic t2" in page_of(tmp_path) and "Topic t2" not in first
    assert main(command("qpeft-r")) == 0
    assert (page_of(tmp_path), (tmp_path / "out.trec").read_bytes()) == (first, run)
    assert (tmp_path / "out.trec.journal").read_bytes() == journal


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--explain-topic", "nowhere"], "--explain-topic nowhere: is not among the 2 topics of"),
        (["--explain-topic", "t2", "--limit", "1"], "--explain-topic t2: is not among the 1 topics to be reranked"),
        (["--explain", "-"], "--explain -: "),
        (["--explain", "{tmp}/out.trec"], "is another output of this job"),
        (["--explain", "{tmp}/none/page.html"], "--explain {tmp}/none/page.html: the folder"),
    ],
)
def test_faults_are_one_line_before_the_model(command, tmp_path, capsys, monkeypatch, change, said) -> None:
    monkeypatch.setattr(LanguageModel, "load", lambda *_: pytest.fail("loaded"))
    assert main([*command(), *(word.replace("{tmp}", str(tmp_path)) for word in change)]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and said.replace("{tmp}", str(tmp_path)) in error[0]
    assert not (tmp_path / "page.html").exists()


def test_a_topic_without_a_page_is_refused(command, capsys) -> None:
    words = command()
    place = words.index("--explain")
    assert main([*words[:place], *words[place + 2 :], "--explain-topic", "t2"]) == 2
    assert "--explain-topic: is the topic of a page" in capsys.readouterr().err


def test_an_existing_page_is_refused_and_a_dry_run_writes_none(command, tmp_path, capsys) -> None:
    assert main(command("plain", "--dry-run")) == 0
    assert not (tmp_path / "page.html").exists()
    (tmp_path / "page.html").write_text("mine", "utf-8")
    assert main([word for word in command() if word != "--overwrite"]) == 2
    assert "page.html: exists; add --overwrite" in capsys.readouterr().err
    assert page_of(tmp_path) == "mine"


def test_missing_passages_and_the_tail_are_left_out(command, tmp_path) -> None:
    (tmp_path / "first.trec").write_text("t2 Q0 gone 1 9 x\nt2 Q0 d2 2 8 x\nt2 Q0 d3 3 7 x\n", "utf-8")
    assert main(command("plain", "--missing", "skip", "--depth", "2")) == 0
    assert page_of(tmp_path).count("<article") == 1
    assert "1, was 2" in page_of(tmp_path)
    assert main(command("plain", "--missing", "skip", "--depth", "1")) == 0
    assert "None of this topic" in page_of(tmp_path)


@pytest.mark.parametrize("kind", ["bytes", "llama", "gemma"])
def test_tokens_read_as_their_text(kind: str) -> None:
    names = TokenText(tiny.tokenizer(kind))
    text = "who wrote\nthe first program, Gödel? 🙂 証明" if kind == "bytes" else "who wrote the first program"
    ids = tiny.tokenizer(kind)(f" {text}", add_special_tokens=False)["input_ids"]
    groups = list(names.groups(ids))
    assert "".join(piece for piece, _ in groups).strip() == text
    assert sum(size for _, size in groups) == len(ids) == len(names.labels(ids))
    if kind == "bytes":
        labels = [(label.text, label.part) for label in names.labels(ids)]
        assert ("ö", "1/2") in labels and ("ö", "2/2") in labels and ("🙂", "4/4") in labels
        assert ("↵", "") in labels
        # A passage cut within a character, and half a character as a hint.
        cut = names.labels(ids[:-1])
        assert not any("�" in label.text for label in cut) and cut[-1].text == "□"


@pytest.mark.parametrize("options", [{"source": "random"}, {"similarity": "dot"}, {"source": "vocabulary", "k": 400}])
def test_what_ranked_a_hint_is_named(model, options) -> None:
    adapter = create_adapter("qpeft-r", model, load_template("qpeft"), **options)
    expected = {"random": "random number", "vocabulary": "cosine"}.get(str(options.get("source")), "dot product")
    assert explain._ranked_by(adapter) == expected
    scorer = Scorer(model, load_template("qpeft"), adapter)
    (sequence,) = scorer.encode([("bug", "", "Gödel 証明")])
    _, _, hints = explain._hints(scorer, sequence, TokenText(model.pieces.tokenizer))
    assert hints and not any("�" in hint.label.text for hint in hints)
