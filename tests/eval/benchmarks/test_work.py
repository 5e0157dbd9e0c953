"""Operations are counted as torch counts them; shared beginnings once."""

import pytest
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from eval.benchmarks.work import Amount, Work, distinct, whole
from qpeft_rerank.prompt.segments import Segment, Sequence

GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 48}


@pytest.mark.parametrize(
    "settings", [{}, {"head_dim": 16, "num_hidden_layers": 3}, GPT2], ids=["llama", "wide", "gpt2"]
)
def test_operations_are_torchs(settings, tmp_path):
    folder = tiny.save_model(tmp_path / "m", **settings)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = 11
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=torch.arange(tokens)[None], use_cache=False)
    counted = Work.of(model).operations(Amount(tokens, tokens, tokens * tokens))
    # The angles of positions: earlier releases of transformers multiply them out as matrices, later ones do not.
    angles = (counts for name, counts in counter.get_flop_counts().items() if name.endswith("rotary_emb"))
    assert counted == counter.get_total_flops() - sum(sum(counts.values()) for counts in angles)


def sequence(passage, target):
    return Sequence((Segment("passage", passage), Segment("target", target)))


def test_amounts():
    sequences = [sequence((1, 2, 3), (4,)), sequence((1, 2, 3), (5, 6)), sequence((1, 2), (3, 7))]
    assert whole(sequences) == Amount(4 + 5 + 4, 5, 10 + 15 + 10)
    # Only equal beginnings are one: (1, 2) is none of (1, 2, 3).
    assert distinct(sequences) == Amount(4 + 2 + 4, 5, 10 + (4 + 5) + 10)
