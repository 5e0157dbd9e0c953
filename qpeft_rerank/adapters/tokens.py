"""What kind of word each token of a vocabulary is: the tables behind the filters s and a (method 4.2)."""

from functools import cached_property, lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

# Lucene's English stop words without "an", plus s, t and www: the authors' list.
_LIST = (
    "a and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with s t www"
)
_AUTHORS = frozenset(_LIST.split())
_STOP_WORDS = _AUTHORS | {"an"}
TokenText = Literal["decoded", "raw"]


class TokenTables:
    """Sets of ids: ``special`` ones are no text at all; the others are read from the vocabulary when first asked for.

    ``decoded`` reads each token as the text it stands for, so a word mark (``▁``, ``Ġ``) is a space and
    a byte token is its character; letters of any script count. ``raw`` does as the authors did: only
    ``_`` is stripped, so ``▁the`` is no stop word, and a Latin letter anywhere in the vocabulary's
    string, ``<0x0A>`` included, makes a word (defects D10, D11).

    :param size: rows of the model's embedding table; ids beyond the tokenizer's are special.
    """

    def __init__(self, tokenizer: Any, size: int, text: TokenText) -> None:
        self.size = size
        self._tokenizer, self._raw, self._known = tokenizer, text == "raw", min(len(tokenizer), size)
        if self._raw:
            ids = {token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None}
        else:
            ids = {token for token in tokenizer.all_special_ids if token < size} | set(range(self._known, size))
        self.special = frozenset(ids)

    @cached_property
    def stop(self) -> frozenset[int]:
        """Stop words."""
        if self._raw:
            return frozenset(token for token, text in enumerate(self._texts) if text.strip("_") in _AUTHORS)
        return frozenset(token for token, text in enumerate(self._texts) if text.casefold() in _STOP_WORDS)

    @cached_property
    def wordless(self) -> frozenset[int]:
        """Tokens without a letter."""
        letter = _is_latin if self._raw else _is_letter
        return frozenset(token for token, text in enumerate(self._texts) if not any(map(letter, text)))

    @cached_property
    def _texts(self) -> list[str]:
        """What each token of the vocabulary reads as."""
        ids = list(range(self._known))
        if self._raw:
            return [token or "" for token in self._tokenizer.convert_ids_to_tokens(ids)]
        texts = self._tokenizer.batch_decode(
            [[token] for token in ids], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        # A tokenizer without a decoder leaves its word mark in.
        return [text.strip().lstrip("▁Ġ") for text in texts]

    def dropped(self, letters: str) -> frozenset[int]:
        """The ids that the filters ``s`` and ``a``, as far as given, drop; special ones always."""
        return (
            self.special
            | (self.stop if "s" in letters else frozenset())
            | (self.wordless if "a" in letters else frozenset())
        )

    def flags(self, ids: frozenset[int]) -> Tensor:
        """A set of ids as booleans ``[vocabulary]``."""
        flags = torch.zeros(self.size, dtype=torch.bool)
        flags[torch.tensor(sorted(ids), dtype=torch.long)] = True
        return flags


def _is_latin(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _is_letter(character: str) -> bool:
    # U+FFFD: a token that is a part of one character, which is then no ASCII one; most are letters.
    return character.isalpha() or character == "\N{REPLACEMENT CHARACTER}"


@lru_cache(maxsize=4)
def token_tables(tokenizer: Any, size: int, text: TokenText) -> TokenTables:
    """A tokenizer's :class:`TokenTables`, sorted once for all adapters."""
    return TokenTables(tokenizer, size, text)
