"""From (query, passage) to segments, under a model's limit on tokens."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from qpeft_rerank.errors import InputError
from qpeft_rerank.prompt.pieces import Pieces
from qpeft_rerank.prompt.segments import Segment, Sequence
from qpeft_rerank.prompt.templates import Template, render_passage
from qpeft_rerank.trec.lines import is_text

# A hint slot holds this id; its embedding is always replaced.
HINT_SLOT = 0


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """A query's own token ids and the target that ends the prompt; ``own`` is the query's span in it."""

    text: str
    ids: tuple[int, ...]
    target: tuple[int, ...]
    own: tuple[int, int]


@dataclass(frozen=True, slots=True)
class EncodedPassage:
    """The token ids of a passage's title and text, as the template joins them, not yet truncated.

    ``first`` has those that it begins a sequence with, where no hint block is in front; None where they are the same.
    """

    ids: tuple[int, ...]
    first: tuple[int, ...] | None = None


class PromptBuilder:
    """Builds the segments of one template for one tokenizer.

    :param template: the prompt.
    :param pieces: the tokenizer.
    :param max_tokens: the model's context in tokens.
    :param max_passage_tokens: a further limit on the passage's own tokens, or None.
    """

    def __init__(
        self, template: Template, pieces: Pieces, max_tokens: int, max_passage_tokens: int | None = None
    ) -> None:
        self.template = template
        self.pieces = pieces
        self.max_tokens = max_tokens
        self.max_passage_tokens = max_passage_tokens
        bos = pieces.tokenizer.bos_token_id
        if template.bos == "always" and bos is None:
            raise InputError(f"prompt {template.name}: bos is always, but the model's tokenizer has none")
        # The ids that every sequence starts with.
        self._bos: tuple[int, ...] = {"auto": pieces.start, "always": (bos,), "never": ()}[template.bos]
        self._target_bos = bos if template.score_bos and bos in self._bos else None
        if template.score_eos and pieces.eos is None:
            raise InputError(f"prompt {template.name}: score_eos is set, but the model's tokenizer has no EOS")
        before, self._region, after = template.passage_region()
        hints_before, _, hints_after = template.hints.partition("{hints}")
        self._prompt = self._literal(template.prompt, first=True)
        # What a text begins with reads otherwise than inside it: without a prompt the hint block or the passage.
        starts = not template.prompt
        # A space in front of a field belongs to the field: words carry their leading space.
        self._space = " " if before.endswith(" ") else ""
        before = before.removesuffix(self._space)
        # Whether a passage's own words may be the first, and whether they are behind a hint block, too.
        self._leads, self._starts = starts and not before, starts and not before and not template.hints_first
        self._before_first = self._literal(before, first=starts)
        self._before = self._literal(before) if template.hints_first else self._before_first
        self._after = self._literal(after)
        self._hints = (self._literal(hints_before, first=starts and template.hints_first), self._literal(hints_after))
        self._question = self._literal(template.question)

    def _literal(self, text: str, first: bool = False) -> list[int]:
        return self.pieces.encode([text], first)[0] if text else []

    def encode_passages(self, passages: Iterable[tuple[str, str]]) -> list[EncodedPassage]:
        """Token ids of passages given as ``(title, text)``."""
        texts = [self._space + render_passage(self._region, title, text) for title, text in passages]
        for text in texts:
            if not is_text(text):
                raise InputError(f"the passage {text[:60]!r} has half a surrogate pair; mend its text")
        # An empty passage has no tokens, not those of the space in front of it.
        texts = [text if text.strip() else "" for text in texts]
        encoded = [EncodedPassage(tuple(ids)) for ids in self.pieces.encode(texts, self._starts)]
        if self._leads == self._starts:
            return encoded
        return [
            replace(one, first=tuple(ids)) for one, ids in zip(encoded, self.pieces.encode(texts, True), strict=True)
        ]

    def encode_queries(self, queries: Iterable[str]) -> list[EncodedQuery]:
        """Token ids of queries, with what the template puts around them. An empty query is an error."""
        queries = list(queries)
        for query in queries:
            if not query.strip():
                raise InputError("an empty query has no likelihood; remove its topic")
            if not is_text(query):
                raise InputError(f"the query {query[:60]!r} has half a surrogate pair; mend its text")
        lead = self.template.target.partition("{query}")[0]
        space = " " if lead.endswith(" ") else ""
        lead_ids = self._literal(lead.removesuffix(space))
        head = ([] if self._target_bos is None else [self._target_bos]) + lead_ids
        tail = [self.pieces.eos] if self.template.score_eos and self.pieces.eos is not None else []
        encoded = self.pieces.encode([space + query for query in queries])
        for query, ids in zip(queries, encoded, strict=True):
            if not ids:  # nothing but characters that the tokenizer drops
                raise InputError(f"the query {query[:60]!r} has no tokens, so no likelihood; remove its topic")
        return [
            EncodedQuery(query, tuple(ids), tuple(head + ids + tail), (len(head), len(head) + len(ids)))
            for query, ids in zip(queries, encoded, strict=True)
        ]

    def build(self, query: EncodedQuery, passage: EncodedPassage, hint_tokens: int | None = None) -> Sequence:
        """The segments of one candidate.

        :param hint_tokens: number of hint slots; None leaves the hint block out altogether.
        :raises InputError: if the query alone does not fit into the model's context.
        """
        block: list[Segment] = []
        before, own = self._before_first, passage.ids if passage.first is None else passage.first
        if hint_tokens is not None:
            opener, closer = self._hints
            span = (len(opener), len(opener) + hint_tokens)
            ids = (*opener, *([HINT_SLOT] * hint_tokens), *closer)
            block = [Segment("hints", ids, span)]
            before, own = self._before, passage.ids
        overhead = len(self._prompt) + len(before) + len(self._after) + len(self._question)
        overhead += len(self._bos) + sum(len(segment.ids) for segment in block)
        room = self.max_tokens - overhead - len(query.target)
        if overhead == 0:
            raise InputError(
                "nothing precedes the query for its first token to be predicted from; give the prompt some words"
            )
        if room < 0:
            raise InputError(
                f"the query {query.text[:60]!r} has {len(query.ids)} tokens and the prompt {overhead}, "
                f"but the model reads {self.max_tokens}; shorten the query or take a model with a longer context"
            )
        limit = room if self.max_passage_tokens is None else min(room, self.max_passage_tokens)
        text = own[:limit]
        start = len(before)
        segments = [
            Segment("bos", self._bos) if self._bos else None,
            Segment("prompt", tuple(self._prompt)) if self._prompt else None,
            *(block if self.template.hints_first else ()),
            Segment("passage", (*before, *text, *self._after), (start, start + len(text))),
            *(() if self.template.hints_first else block),
            Segment("question", tuple(self._question)) if self._question else None,
            Segment("target", query.target, query.own),
        ]
        kept = tuple(segment for segment in segments if segment is not None)
        return Sequence(kept, truncated=len(text) < len(own))
