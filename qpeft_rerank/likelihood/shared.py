"""The scorer that reads a passage once for all its queries; exact, and beside the reference one."""

from collections.abc import Sequence as ListLike
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from qpeft_rerank.console import say
from qpeft_rerank.errors import REFUSALS, InputError
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.out_of_memory import attempt, fitting
from qpeft_rerank.likelihood.precision import ROUNDING
from qpeft_rerank.likelihood.scorer import BatchScorer, summed
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.likelihood.sharing import Attention, Batch, pays, plan_plain, plan_shared, same_passage
from qpeft_rerank.likelihood.tree import NoSharedRowsError, begin_alike, tree_log_probs
from qpeft_rerank.prompt.segments import Sequence, common_length

#: Share passages where it saves at least 5 % of the tokens; wherever it saves any; nowhere.
Mode = Literal["auto", "on", "off"]
MODES: tuple[Mode, ...] = ("auto", "on", "off")
#: Few short (query, title, text) of which it is asked whether rows may be shared.
PROBE = [
    ("who wrote the first program", "Ada", "Ada Lovelace wrote it."),
    ("who wrote the first programme, and why", "Ada", "Ada Lovelace wrote it."),
    ("who?", "Ada", "Ada Lovelace wrote it."),
    ("who wrote the first program", "", "The bug."),
    ("what was the first bug", "", "The bug."),
]
_NO_ROOM = "out of memory on a few short texts beside the model; take a smaller --dtype or another --device"


class SharedScorer:
    """Scores batches planned by :mod:`~qpeft_rerank.likelihood.sharing`.

    :param scorer: the reference scorer, which also scores what cannot be shared.
    :param mode: when to share.
    """

    def __init__(self, scorer: BatchScorer, mode: Mode = "auto") -> None:
        if mode not in MODES:
            raise InputError(f"--share-passages {mode}: give {', '.join(MODES)}")
        self.scorer = scorer
        self.mode = mode
        self._virtual = int(getattr(scorer.hinter, "virtual_tokens", 0))

    @cached_property
    def works(self) -> bool:
        """Whether shared rows give the reference's scores for this model and adapter.

        Asked of them, on a few short texts: no list of architectures says it. It fails where the
        model takes no mask or positions from outside, has a recurrent state, caps its logits, and
        where the adapter changes the passage by the query or brings keys and values of its own.

        :raises InputError: if memory runs out.
        """
        with fitting(_NO_ROOM):
            return self._agrees()

    def _agrees(self) -> bool:
        model, hinter = self.scorer.model, self.scorer.hinter
        try:
            sequences = self.scorer.encode(PROBE)
            rows = [[sequences[index] for index in group] for group in same_passage(sequences)]
            if not all(map(common_length, rows)) or not self._in_reach(sequences):
                return False
            with torch.inference_mode():
                if hinter and not all(begin_alike(model, row, hinter, self._virtual) for row in rows):
                    return False
            found = self.log_probs(rows)
            expected = self.scorer.log_probs([sequence for row in rows for sequence in row])
            # A body is known to compute what it is given.
            if model.body is None and model.precision != "float32" and not self._exactly(rows):
                return False
        # InputError: the probe does not fit into a short context.
        except (NoSharedRowsError, InputError):
            return False
        # transformers refuses a mask, positions or embeddings in as many ways as it has architectures; whichever
        # it is, such a model is read plainly, and a fault of its own then shows in that reading.
        except REFUSALS as error:
            pass_on_faults(error)
            return False
        gap = (torch.cat(found) - torch.cat(expected)).abs().max()
        return bool(gap <= ROUNDING.get(model.precision, ROUNDING["float32"]))

    def _exactly(self, rows: ListLike[ListLike[Sequence]]) -> bool:
        """Whether the model without adapter agrees in float32: rounding would hide positions that are not heeded, as
        MPT's are not, and tokens that see a few of another query's, as LFM2's do.
        """
        model, flat = self.scorer.model, [sequence for row in rows for sequence in row]
        with model.exactly(), torch.inference_mode():
            gap = (tree_log_probs(model, rows, None, 0) - model.target_log_probs(flat)).abs().max()
        return bool(gap <= ROUNDING["float32"])

    @cached_property
    def _allowed(self) -> bool:
        """The same, said once to those who asked for sharing in vain."""
        if not self.works and self.mode == "on":
            say("--share-passages on: not possible with this model and adapter, so every pair is read whole")
        return self.works

    @cached_property
    def attention(self) -> Attention:
        """The model's width and reach."""
        return self.scorer.model.attention

    def _in_reach(self, sequences: ListLike[Sequence]) -> bool:
        reach = self.attention.reach
        return reach is None or max(map(len, sequences)) + self._virtual <= reach

    def plan(self, sequences: ListLike[Sequence], batch_tokens: int) -> list[Batch]:
        """The batches of one shard: shared if the mode, the savings and the model agree, else plain."""
        plain = plan_plain(sequences, batch_tokens)
        if self.mode == "off":
            return plain
        shared = plan_shared(sequences, batch_tokens, self.attention, self._virtual)
        if not any(batch.shares for batch in shared) or (self.mode == "auto" and not pays(shared, plain)):
            return plain
        return shared if self._allowed else plain

    def log_probs(self, rows: ListLike[ListLike[Sequence]]) -> list[Tensor]:
        """Log-probability of each target token: float32 nats ``[scored]`` for each sequence, row after row."""
        with torch.inference_mode():
            flat = tree_log_probs(self.scorer.model, rows, self.scorer.hinter, self._virtual).cpu()
        return list(flat.split([len(sequence.target) for row in rows for sequence in row]))

    def score(self, rows: ListLike[ListLike[Sequence]]) -> list[Score]:
        """Score one batch, row after row. When memory runs out it is halved, a last row read pair by pair.

        :raises NoRoomError: if one pair alone does not fit into memory.
        """
        if all(len(row) == 1 for row in rows):
            return self.scorer.score([row[0] for row in rows])
        logs = attempt(lambda: self.log_probs(rows))
        if logs is not None:
            return summed(logs, [sequence for row in rows for sequence in row])
        if len(rows) == 1:
            return self.scorer.score(rows[0])
        half = len(rows) // 2
        return self.score(rows[:half]) + self.score(rows[half:])
