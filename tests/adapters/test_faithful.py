"""The ``faithful`` preset against a re-statement of sections 3 and 4 of the method as plain loops."""

import math

import pytest
import torch

from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.likelihood.scorer import Scorer

STOP = (
    "a and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with s t www"
).split()
PAIRS = [
    ("who wrote the first program", "Ada", "Ada Lovelace wrote the first program for the Analytical Engine."),
    ("the bug", "", "Grace Hopper wrote the first compiler and popularised the word bug."),
    ("why", "", "no"),
]


def parts_of(sequence):
    """Query ids, passage-side ids (template included), target ids and the hint block's place."""
    ids = sequence.ids

    def cut(span):
        return ids[span[0] : span[1]]

    columns = cut(sequence.span("passage")) + cut(sequence.span("question"))
    return cut(sequence.body_span("target")), columns, list(sequence.target), sequence.span("hints")


def restated_list(query, columns, target, first, second, dot):
    """Ranked token ids, best pair first: steps 1 to 4 with the authors' masking (D12, D13) in bfloat16 (D3)."""
    pairs = []
    for token in query:
        u = second[token].bfloat16().double()
        for other in columns:
            v = first[other].bfloat16().double()
            scale = 1.0 if dot else float(u.norm() * v.norm())
            value = torch.tensor(float(u @ v) / scale).bfloat16().sigmoid()
            pairs.append((-float(value), len(pairs), other))
        for other in target:
            pairs.append((0.0, len(pairs), other))
    return [token for _, _, token in sorted(pairs)][:1000]


def restated_filters(ranked, letters, query, strings, ends):
    left = []
    for token in ranked:
        if "d" in letters and token in left:
            continue
        left.append(token)
    if "q" in letters:
        left = [token for token in left if token not in query]
    if "s" in letters:
        left = [token for token in left if strings[token].strip("_") not in STOP]
    if "a" in letters:
        left = [t for t in left if any("a" <= c.lower() <= "z" for c in strings[t])]
    return [token for token in left if token not in ends]


def own_mlp(adapter, vector):
    """Linear, ReLU, Linear, number by number from the weights."""
    first, _, last = adapter.mlp.net
    hidden = (first.weight @ vector + first.bias).clamp_min(0)
    return last.weight @ hidden + last.bias


def moved(adapter):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        adapter.table.rows.add_(0.2 * torch.randn(adapter.table.rows.shape, generator=generator))
    return adapter


@pytest.mark.parametrize("kind", ["model", "llama"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("letters", ["d", "dq", "dqs", "dqsa", "ds", "da", "dsa", ""])
@pytest.mark.parametrize("k", [5, 20])
def test_r(kind, similarity, letters, k, request, qpeft):
    model = request.getfixturevalue(kind)
    adapter = moved(create_adapter("qpeft-r", model, qpeft, "faithful", k=k, filters=letters, similarity=similarity))
    first, second = model.embedding.weight, adapter.table.rows.detach()
    tokenizer = model.pieces.tokenizer
    strings = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    sequences = Scorer(model, qpeft, adapter).encode(PAIRS)
    longest = max(map(len, sequences))
    ids = torch.tensor([sequence.ids + [0] * (longest - len(sequence)) for sequence in sequences])
    with torch.no_grad():
        filled = adapter(sequences, ids, model.embedding(ids))
        chosen = adapter.select(sequences, ids, k)[0].tolist()
    for row, sequence in enumerate(sequences):
        query, columns, target, (start, end) = parts_of(sequence)
        ranked = restated_list(query, columns, target, first, second, similarity == "dot")
        left = restated_filters(ranked, letters, query, strings, ends)
        if len(left) >= k:
            assert chosen[row] == left[:k]
        elif left:
            assert set(chosen[row]) <= set(left)
        else:
            assert chosen[row] == ranked[:k]
        block = list(sequence.ids[start:end])
        body = sequence.body_span("hints")
        block[body[0] - start : body[1] - start] = chosen[row]
        with torch.no_grad():
            expected = torch.stack([own_mlp(adapter, second[token]) for token in block])
        torch.testing.assert_close(filled[row, start:end], expected, atol=1e-5, rtol=1e-4)


def test_r_refills_with_replacement_and_the_same_each_time(model, qpeft):
    adapter = create_adapter("qpeft-r", model, qpeft, "faithful", k=150)
    sequences = Scorer(model, qpeft, adapter).encode([PAIRS[2]])
    ids = torch.tensor([sequences[0].ids])
    chosen = adapter.select(sequences, ids, 150)[0][0].tolist()
    _, columns, target, _ = parts_of(sequences[0])
    ends = {model.pieces.tokenizer.bos_token_id, model.pieces.tokenizer.eos_token_id}
    left = (set(columns) | set(target)) - ends
    assert set(chosen) <= left and len(set(chosen)) > len(left) // 2
    assert adapter.select(sequences, ids, 150)[0][0].tolist() == chosen
    other = create_adapter("qpeft-r", model, qpeft, "faithful", k=150, draw_seed=1)
    assert other.select(sequences, ids, 150)[0][0].tolist() != chosen


def test_r_scores(llama, qpeft):
    """The mean NLL over `<s>` q `</s>`, from one forward pass of the model on spliced embeddings (3.2, 3.4)."""
    adapter = moved(create_adapter("qpeft-r", llama, qpeft, "faithful", k=5))
    scorer = Scorer(llama, qpeft, adapter)
    for pair in PAIRS:
        sequence = scorer.encode([pair])[0]
        ids = torch.tensor([sequence.ids])
        start, end = sequence.span("hints")
        query, _, target, _ = parts_of(sequence)
        assert target == [1, *query, 2]
        body = sequence.body_span("hints")
        chosen = adapter.select([sequence], ids, 5)[0][0].tolist()
        block = [*sequence.ids[start : body[0]], *chosen, *sequence.ids[body[1] : end]]
        with torch.no_grad():
            hints = torch.stack([own_mlp(adapter, adapter.table.rows[token]) for token in block])
            words = llama.embedding(ids)[0]
            spliced = torch.cat([words[:start], hints, words[end:]])
            logs = llama.model(inputs_embeds=spliced[None]).logits[0].log_softmax(-1)
        expected = sum(float(logs[len(sequence) - len(target) - 1 + n, t]) for n, t in enumerate(target))
        assert scorer.score([sequence])[0].total == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("letters", ["", "q", "s", "a", "sa"])
def test_a(heads, letters, llama, qpeft):
    adapter = moved(create_adapter("qpeft-a", llama, qpeft, "faithful", heads=heads, filters=letters))
    attention, second = adapter.attention, adapter.table.rows.detach()
    tokenizer = llama.pieces.tokenizer
    strings = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    size = second.shape[1] // heads
    sequences = Scorer(llama, qpeft, adapter).encode(PAIRS)
    longest = max(map(len, sequences))
    ids = torch.tensor([sequence.ids + [0] * (longest - len(sequence)) for sequence in sequences])
    with torch.no_grad():
        filled = adapter(sequences, ids, llama.embedding(ids))
    weight_q, weight_k, weight_v = attention.in_proj_weight.detach().chunk(3)
    bias_q, bias_k, bias_v = attention.in_proj_bias.detach().chunk(3)
    for row, sequence in enumerate(sequences):
        query, columns, _, (start, end) = parts_of(sequence)
        seen = restated_filters(columns, letters, query, strings, (1, 2))
        vectors = [second[token] for token in sequence.ids[start:end]]
        where = sequence.body_span("hints")[0] - start
        for place, token in enumerate(query):
            whole = torch.zeros(second.shape[1])
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                asked = (weight_q @ second[token] + bias_q)[own]
                logits, values = [], []
                for other in seen:
                    vector = llama.embedding.weight[other]
                    logits.append(float(asked @ (weight_k @ vector + bias_k)[own]) / math.sqrt(size))
                    values.append((weight_v @ vector + bias_v)[own])
                shares = torch.tensor(logits).softmax(0)
                whole[own] = sum(share * value for share, value in zip(shares, values, strict=True))
            vectors[where + place] = attention.out_proj.weight.detach() @ whole + attention.out_proj.bias.detach()
        with torch.no_grad():
            expected = torch.stack([own_mlp(adapter, vector) for vector in vectors])
        torch.testing.assert_close(filled[row, start:end], expected, atol=1e-5, rtol=1e-4)
