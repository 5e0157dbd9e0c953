"""Pieces side by side read as the whole text would, for each kind of tokenizer."""

import pytest
import tiny
from tokenizers import pre_tokenizers, processors

from qpeft_rerank.prompt import Pieces

PIECES = ["Passage:", " Ada wrote the first program", "\nQuestion:", " who wrote it"]
# As chat templates have them.
LINES = ["Passage:\n", "the first program", "\nQuestion:\n", "who wrote it", '"', "quickly"]


@pytest.mark.parametrize("parts", [PIECES, LINES])
@pytest.mark.parametrize("kind", ["bytes", "glm", "llama", "gemma"])
def test_pieces_make_the_tokens_of_the_whole_text(kind: str, parts: list[str]) -> None:
    pieces = Pieces(tiny.tokenizer(kind), kind)
    whole = pieces.tokenizer("".join(parts), add_special_tokens=False)["input_ids"]
    first = pieces.encode(parts[:1], first=True)[0]
    rest = [token for ids in pieces.encode(parts[1:]) for token in ids]
    assert first + rest == whole


@pytest.mark.parametrize("parts", [PIECES, LINES, ["A", "\n\n", "  who", "\n"]])
def test_a_space_that_the_tokenizer_puts_before_a_text_is_no_piece_s(parts: list[str]) -> None:
    tokenizer = tiny.tokenizer("bytes")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    pieces = Pieces(tokenizer)
    whole = tokenizer("".join(parts))["input_ids"]
    assert [
        token for ids in [*pieces.encode(parts[:1], first=True), *pieces.encode(parts[1:])] for token in ids
    ] == whole
    assert pieces.start == () and pieces.encode([""]) == [[]]


@pytest.mark.parametrize(
    ("kind", "model_type", "start"),
    [("bytes", "llama", ()), ("llama", "llama", (1,)), ("gemma", "gemma3_text", (1,)), ("glm", "glm4", (0, 1))],
)
def test_the_start_is_what_the_tokenizer_puts_before_a_text(kind: str, model_type: str, start: tuple[int, ...]) -> None:
    pieces = Pieces(tiny.tokenizer(kind), model_type)
    assert pieces.start == start
    if kind != "gemma":  # whose tokenizer forgot it
        assert pieces.tokenizer("who")["input_ids"] == [*start, *pieces.encode(["who"], first=True)[0]]


def test_what_stands_behind_a_text_is_no_start() -> None:
    pieces = Pieces(tiny.tokenizer("bytes"))
    both = processors.TemplateProcessing(single="$A </s> <s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    pieces.tokenizer.backend_tokenizer.post_processor = both
    assert pieces.start == ()


def test_empty_text_has_no_tokens() -> None:
    for kind in ("bytes", "llama", "gemma"):
        assert Pieces(tiny.tokenizer(kind)).encode(["", "a"])[0] == []


def test_special_tokens_in_a_text_are_not_split_off_as_bos() -> None:
    # A passage that spells BOS must not move any span: spans are counted, never searched for.
    pieces = Pieces(tiny.tokenizer("llama"), "llama")
    assert pieces.encode([" see <s> here"])[0]
