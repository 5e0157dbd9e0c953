"""Passages' states, where passages fill the model's context."""

import tiny
import torch

from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import encode_pairs
from qpeft_rerank.likelihood.sources import ModelSource
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.training import prefix
from qpeft_rerank.training.students import make_student


def test_padding_stays_within_learned_positions(tmp_path, examples):
    """Rows of shorter questions have longer passages, and are padded to the longest question's tokens."""
    settings = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
    folder = tiny.save_model(tmp_path / "gpt2", **settings)
    model = LanguageModel.load(ModelSource("gpt2", folder), "float32", "cpu")
    student = make_student("qpeft-a", model, load_template("plain"), "corrected", {}, examples, 1)
    questions = ("why", "what is a river that carries water from the hills")
    sequences = encode_pairs(student.builder, [(query, "", "word " * 400) for query in questions], student.hinter)
    assert all(len(sequence) == model.max_tokens for sequence in sequences)
    found = prefix.means_after_prefix(model, sequences, student.hinter)
    torch.testing.assert_close(found, prefix.means(model, sequences, student.hinter), rtol=0, atol=1e-3)
