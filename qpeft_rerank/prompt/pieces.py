"""Pieces of text to token ids, so that pieces put side by side read as the whole text would."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from qpeft_rerank.errors import InputError

# Gemma's checkpoints need BOS even where a converted tokenizer forgot to add it.
_BOS_REQUIRED = ("gemma",)

# Texts given to the tokenizer at once: what it makes of each but ids takes a hundred bytes a token until all are done.
_AT_ONCE = 256


class Pieces:
    """A tokenizer that encodes prompt pieces without special tokens.

    SentencePiece tokenizers of Llama's kind put a word mark in front of every text they are given.
    Inside a prompt that mark stands for the space before the piece, so it is taken in place of a
    leading space, and dropped where the piece has none; where it is one token with the piece's first
    letters, the piece is read after a line break, which keeps it off. Tokenizers of bytes that put a space
    in front of texts without one (``add_prefix_space``) have such pieces read after something else, too.

    :param tokenizer: any ``transformers`` tokenizer.
    :param model_type: the ``model_type`` of the model's configuration.
    :param known: how many ids the model has embeddings for; a tokenizer may have been given tokens that the model was not.
    """

    def __init__(self, tokenizer: Any, model_type: str = "", known: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.model_type = model_type
        self.known = known

    @cached_property
    def _marks_start(self) -> int | None:
        """The id of the lone word mark if the tokenizer puts one in front of every text, else None."""
        newline = self._raw("\n")
        tokens = self.tokenizer.convert_ids_to_tokens(newline)
        return newline[0] if len(tokens) > 1 and tokens[0] == "▁" else None

    @cached_property
    def start(self) -> tuple[int, ...]:
        """The ids that sequences of this model start with: what the tokenizer itself puts before a text. None are, or
        BOS, or several, as GLM's ``[gMASK]<sop>``.
        """
        bos = self.tokenizer.bos_token_id
        if bos is not None and self.model_type.startswith(_BOS_REQUIRED):
            return (int(bos),)
        own, whole = self._raw("a"), list(self.tokenizer("a")["input_ids"])
        places = (place for place in range(len(whole)) if own and whole[place : place + len(own)] == own)
        # The text's own tokens may be others, or none, where it stands alone.
        return tuple(whole[: next(places, int(whole[:1] == [bos]))])

    @property
    def eos(self) -> int | None:
        """The id that ends a text, or None."""
        token = self.tokenizer.eos_token_id
        return None if token is None else int(token)

    def _raw(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _encoded(self, texts: list[str]) -> Iterator[list[int]]:
        for start in range(0, len(texts), _AT_ONCE):
            some = texts[start : start + _AT_ONCE]
            found = self.tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
            for text, ids in zip(some, found, strict=True):
                self._check(ids, text)
            yield from found

    def _check(self, ids: list[int], text: str) -> None:
        if self.known is not None and max(ids, default=0) >= self.known:
            token = self.tokenizer.convert_ids_to_tokens([max(ids)])[0]
            raise InputError(
                f"the model has no embedding for {token!r}, a token that was added to its tokenizer, in {text[:60]!r}; "
                "mend the text, or resize the model's embeddings to its tokenizer"
            )

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer puts a space in front of every text that has none."""
        return self._marks_start is None and bool(alone := self._raw("a")) and alone == self._raw(" a")

    def encode(self, texts: list[str], first: bool = False) -> list[list[int]]:
        """Token ids of each text. ``first`` says that the texts stand at the start of the sequence.

        :raises InputError: for a text with a token that the model has no embedding for.
        """
        if not texts:
            return []
        if first or (self._marks_start is None and not self._adds_space):
            return [list(ids) for ids in self._encoded(texts)]
        given = texts
        if self._marks_start is not None:
            given = [text[1:] if text.startswith(" ") else text for text in texts]
        found = map(list, self._encoded(given))
        return [
            ids if text.startswith(" ") else self._unmarked(text, ids) for text, ids in zip(texts, found, strict=True)
        ]

    def _unmarked(self, text: str, ids: list[int]) -> list[int]:
        """A piece without the mark, or the space, that was put before it."""
        if not ids or ids[0] == self._marks_start:
            return ids[1:]
        # The space and line breaks may be one token.
        lead = "a" if text[:1].isspace() else "\n"
        before, after = self._raw(lead), self._raw(lead + text)
        return after[len(before) :] if after[: len(before)] == before else ids
