"""Segments: order, spans, truncation of the passage alone."""

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from qpeft_rerank.errors import InputError
from qpeft_rerank.prompt import Pieces, PromptBuilder, Template, load_template

WORDS = st.text("abcdefgh <>{}\n", max_size=60)
BYTES = Pieces(tiny.tokenizer("bytes"), "llama")
LLAMA = Pieces(tiny.tokenizer("llama"), "llama")
GLM = Pieces(tiny.tokenizer("glm"), "glm4")


def one(builder: PromptBuilder, query: str, title: str, text: str, hints: int | None = None):
    return builder.build(builder.encode_queries([query])[0], builder.encode_passages([(title, text)])[0], hints)


@pytest.mark.parametrize("name", ["plain", "qpeft", "upr"])
@pytest.mark.parametrize("pieces", [BYTES, LLAMA, GLM], ids=["bytes", "llama", "glm"])
@given(
    query=WORDS.filter(str.strip), title=WORDS, text=WORDS, room=st.integers(0, 40), hints=st.none() | st.integers(0, 5)
)
@settings(max_examples=60)
def test_only_the_passage_is_cut_and_its_beginning_kept(pieces, name, query, title, text, room, hints) -> None:
    template = load_template(name)
    roomy = one(PromptBuilder(template, pieces, 10_000), query, title, text, hints)
    start, end = roomy.body_span("passage")
    limit = len(roomy) - (end - start) + room
    tight = one(PromptBuilder(template, pieces, limit), query, title, text, hints)
    assert len(tight) <= limit
    kept = min(room, end - start)
    assert tight.ids == roomy.ids[: start + kept] + roomy.ids[end:]
    assert tight.truncated == (kept < end - start)
    assert not roomy.truncated


@given(first=WORDS.filter(str.strip), second=WORDS.filter(str.strip), text=WORDS)
@settings(max_examples=40)
def test_the_prefix_up_to_the_hints_does_not_depend_on_the_query(first: str, second: str, text: str) -> None:
    builder = PromptBuilder(load_template("qpeft"), LLAMA, 10_000)
    one_way, other = one(builder, first, "t", text, 3), one(builder, second, "t", text, 5)
    assert one_way.shared_length == other.shared_length
    assert one_way.ids[: one_way.shared_length] == other.ids[: other.shared_length]
    assert one_way.span("passage")[1] == one_way.shared_length


def test_plain_reads_as_one_text() -> None:
    sequence = one(PromptBuilder(load_template("plain"), BYTES, 999), "who wrote it", "Ada", "She wrote it.")
    assert BYTES.tokenizer.decode(sequence.ids) == "Passage: Ada. She wrote it.\nQuestion: who wrote it"
    assert BYTES.tokenizer.decode(sequence.target) == " who wrote it"


def test_a_prompt_starts_with_all_that_the_tokenizer_puts_before_a_text() -> None:
    sequence = one(PromptBuilder(load_template("plain"), GLM, 999), "who wrote it", "Ada", "She wrote it.")
    assert sequence.ids == GLM.tokenizer("Passage: Ada. She wrote it.\nQuestion: who wrote it")["input_ids"]
    assert sequence.ids[:2] == [0, 1]
    # None of the two is called BOS, so none is scored before the query.
    target = one(PromptBuilder(load_template("qpeft"), GLM, 999), "who wrote it", "", "She wrote it.").target
    assert GLM.tokenizer.decode(target) == " who wrote it</s>"


def test_qpeft_has_the_authors_order_and_scores_bos_and_eos() -> None:
    sequence = one(PromptBuilder(load_template("qpeft"), LLAMA, 999), "who wrote it", "", "She wrote it.", 4)
    assert [segment.kind for segment in sequence.segments] == [
        "bos",
        "prompt",
        "passage",
        "hints",
        "question",
        "target",
    ]
    assert sequence.ids[0] == LLAMA.tokenizer.bos_token_id == 1
    assert (sequence.target[0], sequence.target[-1]) == (1, LLAMA.eos)
    start, end = sequence.body_span("target")
    words = "".join(LLAMA.tokenizer.convert_ids_to_tokens(sequence.ids[start:end]))
    assert words == "▁who▁wrote▁it"
    hints_start, hints_end = sequence.body_span("hints")
    assert hints_end - hints_start == 4


def test_hints_first_stand_before_the_passage() -> None:
    template = Template("x", "Passage: {passage}", "\nQ:", " {query}", hints_first=True)
    kinds = [segment.kind for segment in one(PromptBuilder(template, BYTES, 999), "q", "", "p", 2).segments]
    assert kinds == ["hints", "passage", "question", "target"]


@pytest.mark.parametrize("hints", ["hints: {hints}\n", "{hints}\n"])
@pytest.mark.parametrize("passage", ["Passage: {passage}", "{passage}", " {passage}", "Passage:\n{passage}"])
@pytest.mark.parametrize("pieces", [BYTES, LLAMA, GLM], ids=["bytes", "llama", "glm"])
def test_hints_first_without_a_prompt_read_as_one_text(pieces: Pieces, passage: str, hints: str) -> None:
    """With a block and without: a word mark in front of a text is the first piece's, and no other's."""
    builder, prompted = (
        PromptBuilder(Template("x", passage, " Q:", " {query}", prompt, hints, True), pieces, 999)
        for prompt in ("", "given")
    )
    text = passage.replace("{passage}", "Ada wrote it.") + " Q: who wrote it"
    assert one(builder, "who wrote it", "", "Ada wrote it.").ids == pieces.tokenizer(text)["input_ids"]
    sequence, behind = (one(made, "who wrote it", "", "Ada wrote it.", 2) for made in (builder, prompted))
    start, end = sequence.body_span("hints")
    assert sequence.ids[:start] == [*pieces.start, *pieces.encode([hints.partition("{")[0]], first=True)[0]]
    assert sequence.ids[end:] == behind.ids[behind.body_span("hints")[1] :]


def test_an_empty_passage_has_no_tokens_of_its_own() -> None:
    for pieces in (BYTES, LLAMA):
        start, end = one(PromptBuilder(load_template("plain"), pieces, 999), "q", "", "").body_span("passage")
        assert start == end


def test_a_query_longer_than_the_context_is_refused() -> None:
    with pytest.raises(InputError, match="the model reads 20"):
        one(PromptBuilder(load_template("plain"), BYTES, 20), "x y z " * 20, "", "text")


def test_an_empty_query_is_refused() -> None:
    with pytest.raises(InputError, match="empty query"):
        PromptBuilder(load_template("plain"), BYTES, 99).encode_queries(["fine", "  "])


def test_a_query_without_tokens_is_refused() -> None:
    dropping = Pieces(tiny.tokenizer("bytes"))
    dropping.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    builder = PromptBuilder(Template("x", "{passage}", "?", "{query}"), dropping, 99)
    with pytest.raises(InputError, match="has no tokens"):
        builder.encode_queries(["fine", "\u200b"])


def test_a_prompt_of_nothing_is_told_as_such() -> None:
    with pytest.raises(InputError, match="give the prompt some words"):
        one(PromptBuilder(Template("x", "{passage}", "", "{query}"), BYTES, 99), "who", "", "")


def test_bos_always_needs_one() -> None:
    lacking = Pieces(tiny.tokenizer("bytes"))
    lacking.tokenizer.bos_token = None
    with pytest.raises(InputError, match="tokenizer has none"):
        PromptBuilder(Template("x", "{passage}", "", "{query}", bos="always"), lacking, 99)
