"""What tokens are called, as people read them."""

from collections.abc import Iterator
from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from typing import Any

# A character is at most four bytes, but a token may end one and begin the next.
_LONGEST = 16
_PART = "\N{REPLACEMENT CHARACTER}"
_VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\r": "↵", "\t": "⇥"})
_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {127: 0x2421}


@dataclass(frozen=True, slots=True)
class Label:
    """What a token is called; ``part`` is ``1/2`` for the first of two that make up a character."""

    text: str
    part: str = ""


class TokenText:
    """The text of tokens, as it reads inside a sequence.

    :param tokenizer: any ``transformers`` tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Decoders drop the space in front of a text, so none is decoded without something before it.
        self._anchor = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        self._lead = self._decoded(self._anchor)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._raw = backend is not None and backend.decoder is None
        self._known: dict[int, str] = {}

    def _decoded(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text if isinstance(text, str) else "".join(text)

    def _text(self, ids: list[int]) -> str:
        if self._raw:  # without a decoder, decode puts a space between all tokens
            return "".join(map(str, self._tokenizer.convert_ids_to_tokens(ids))).replace("▁", " ")
        whole = self._decoded(self._anchor + ids)
        return whole.removeprefix(self._lead) if whole.startswith(self._lead) else self._decoded(ids)

    def one(self, token: int) -> str:
        """The text of a token alone."""
        if token not in self._known:
            self._known[token] = self._text([token])
        return self._known[token]

    def groups(self, ids: ListLike[int]) -> Iterator[tuple[str, int]]:
        """Texts that join to the whole, each with the number of its tokens: more than one only where a
        character is cut in pieces. Pieces of a character that never ends are boxes."""
        start = 0
        while start < len(ids):
            text, size = self.one(ids[start]), 1
            while _PART in text and size < _LONGEST and start + size < len(ids):
                size += 1
                text = self._text(list(ids[start : start + size]))
            if _PART in text:
                text, size = self.one(ids[start]).replace(_PART, "□"), 1
            yield text.translate(_CONTROL), size
            start += size

    def labels(self, ids: ListLike[int]) -> list[Label]:
        """What each token is called."""
        return [
            Label(_visible(text), f"{place}/{size}" if size > 1 else "")
            for text, size in self.groups(ids)
            for place in range(1, size + 1)
        ]


def _visible(text: str) -> str:
    """A token's text without the space around it, or that space made visible."""
    return (text.strip(" ") or text).translate(_VISIBLE)
