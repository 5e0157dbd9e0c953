"""What kind of word each token of a vocabulary is: the tables behind the filters s and a (method 4.2)."""

from dataclasses import dataclass
from functools import lru_cache
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


@dataclass(frozen=True, slots=True, eq=False)
class TokenTables:
    """Sets of ids. ``wordless`` ones have no letter; ``special`` ones are no text at all."""

    stop: frozenset[int]
    wordless: frozenset[int]
    special: frozenset[int]
    size: int

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


@lru_cache(maxsize=4)
def token_tables(tokenizer: Any, size: int, text: TokenText) -> TokenTables:
    """Sort a tokenizer's vocabulary.

    ``decoded`` reads each token as the text it stands for, so a word mark (``▁``, ``Ġ``) is a space and
    a byte token is its character; letters of any script count. ``raw`` does as the authors did: only
    ``_`` is stripped, so ``▁the`` is no stop word, and a Latin letter anywhere in the vocabulary's
    string, ``<0x0A>`` included, makes a word (defects D10, D11).

    :param size: rows of the model's embedding table; ids beyond the tokenizer's are special.
    """
    known = min(len(tokenizer), size)
    special = {token for token in tokenizer.all_special_ids if token < size} | set(range(known, size))
    if text == "raw":
        special = {token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None}
        strings = [token or "" for token in tokenizer.convert_ids_to_tokens(list(range(known)))]
        stop = {token for token, string in enumerate(strings) if string.strip("_") in _AUTHORS}
        wordless = {
            token
            for token, string in enumerate(strings)
            if not any(character.isascii() and character.isalpha() for character in string)
        }
    else:
        strings = tokenizer.batch_decode(
            [[token] for token in range(known)], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        # A tokenizer without a decoder leaves its word mark in.
        strings = [string.strip().lstrip("▁Ġ") for string in strings]
        stop = {token for token, string in enumerate(strings) if string.casefold() in _STOP_WORDS}
        # U+FFFD: a token that is a part of one character, which is then no ASCII one; most are letters.
        wordless = {
            token
            for token, string in enumerate(strings)
            if not any(character.isalpha() or character == "\N{REPLACEMENT CHARACTER}" for character in string)
        }
    return TokenTables(frozenset(stop), frozenset(wordless), frozenset(special), size)
