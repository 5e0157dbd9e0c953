"""A tokenizer made of its rules by the library behind those of ``transformers``, and without them."""

from collections.abc import Sequence
from typing import Any


class PlainTokenizer:
    """What this project asks of a ``transformers`` tokenizer.

    :param rules: JSON, as the ``tokenizers`` library writes it.
    :param special: ids that are no text.
    :raises ValueError: for damaged rules.
    """

    def __init__(self, rules: str, bos: int | None, eos: int | None, special: Sequence[int]) -> None:
        from tokenizers import Tokenizer

        try:
            self.backend_tokenizer = Tokenizer.from_str(rules)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(str(error)) from None
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.no_truncation()
        self.bos_token_id, self.eos_token_id = bos, eos
        self.all_special_ids = list(special)

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(self, text: str | list[str], add_special_tokens: bool = True, verbose: bool = True) -> dict[str, Any]:
        """``input_ids`` of a text, or of each."""
        if isinstance(text, str):
            return {"input_ids": self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}
        encoded = self.backend_tokenizer.encode_batch(text, add_special_tokens=add_special_tokens)
        return {"input_ids": [one.ids for one in encoded]}

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        """The vocabulary's strings."""
        return [self.backend_tokenizer.id_to_token(token) for token in ids]

    def decode(
        self, ids: Sequence[int], skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """The text of tokens; spaces are never cleaned up."""
        return str(self.backend_tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def batch_decode(
        self,
        sequences: Sequence[Sequence[int]],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[str]:
        """The text of each."""
        return [self.decode(ids, skip_special_tokens) for ids in sequences]


def rules_of(tokenizer: Any) -> str | None:
    """The rules of a ``transformers`` tokenizer, which may be others than those in its file; None where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return None if backend is None else str(backend.to_str())


def same_tokens(ours: PlainTokenizer, theirs: Any) -> bool:
    """Whether another tokenizer with these rules adds the same tokens, and reads each token as the same text."""
    texts = ["a", " a\nb", "Ünï – 漢字 <s> </s>"]
    for special in (True, False):
        if theirs(texts, add_special_tokens=special)["input_ids"] != ours(texts, special)["input_ids"]:
            return False
    each = [[token] for token in range(len(ours))]
    how = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return len(ours) == len(theirs) and bool(theirs.batch_decode(each, **how) == ours.batch_decode(each))
