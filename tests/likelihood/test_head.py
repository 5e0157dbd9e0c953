"""Log-probabilities by parts of the vocabulary are those of all logits at once."""

import pytest
import torch
from packing import packing
from torch import Tensor, nn

from qpeft_rerank.likelihood.head import log_probs
from qpeft_rerank.likelihood.linears import SlicedLinear

WIDTH, VOCABULARY, SCORED = 24, 5000, 37


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def plain(request: pytest.FixtureRequest) -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(WIDTH, VOCABULARY, bias=request.param).requires_grad_(False)


@pytest.fixture(params=[False, pytest.param(True, marks=packing)], ids=["plain", "packed"])
def sliced(request: pytest.FixtureRequest, plain: nn.Linear) -> SlicedLinear:
    return SlicedLinear(plain, request.param)


@pytest.fixture
def states() -> Tensor:
    return 8 * torch.randn(SCORED, WIDTH, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def targets() -> Tensor:
    """The first and last of each part among them."""
    drawn = torch.randint(VOCABULARY, (SCORED,), generator=torch.Generator().manual_seed(7))
    drawn[:6] = torch.tensor([0, 2047, 2048, 4095, 4096, VOCABULARY - 1])
    return drawn


def exact(states: Tensor, targets: Tensor, plain: nn.Linear) -> Tensor:
    logits = states.double() @ plain.weight.double().T
    logits = logits if plain.bias is None else logits + plain.bias.double()
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def test_values_and_gradients(plain: nn.Linear, sliced: SlicedLinear, states: Tensor, targets: Tensor) -> None:
    weights = torch.arange(1.0, SCORED + 1)
    given = states.clone().requires_grad_()
    found = log_probs(given, targets, sliced, VOCABULARY)
    (found * weights).sum().backward()
    truly = states.double().requires_grad_()
    expected = exact(truly, targets, plain)
    (expected * weights).sum().backward()
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-5, rtol=0)
    assert torch.allclose(given.grad.double(), truly.grad, atol=1e-4, rtol=1e-4)


def test_a_row_does_not_depend_on_others(sliced: SlicedLinear, states: Tensor, targets: Tensor) -> None:
    together = log_probs(states, targets, sliced, VOCABULARY)
    alone = [log_probs(states[at : at + 1], targets[at : at + 1], sliced, VOCABULARY) for at in range(SCORED)]
    assert torch.allclose(torch.cat(alone), together, atol=1e-5, rtol=0)


def test_the_layer_is_what_it_replaces(plain: nn.Linear, sliced: SlicedLinear, states: Tensor) -> None:
    assert len(sliced.parts) == 3
    assert torch.allclose(sliced(states), plain(states), atol=1e-5)
    # Its weights stay in one place, where whoever saves or compares a model looks for them.
    assert dict(sliced.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    assert sliced.weight is plain.weight


@pytest.mark.parametrize("count", [0, 1])
def test_few_targets(sliced: SlicedLinear, states: Tensor, targets: Tensor, count: int) -> None:
    assert log_probs(states[:count], targets[:count], sliced, VOCABULARY).shape == (count,)


def test_as_exact_as_all_logits_at_once() -> None:
    torch.manual_seed(3)
    plain = nn.Linear(64, 40_000, bias=False).requires_grad_(False)
    states, targets = torch.randn(64, 64), torch.randint(40_000, (64,))
    truth = exact(states, targets, plain)
    errors = [
        float((log_probs(states, targets, head, 40_000).double() - truth).abs().mean())
        for head in (plain, SlicedLinear(plain, False))
    ]
    assert errors[1] <= errors[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_a_narrow_layer_are_not_rounded(
    plain: nn.Linear, states: Tensor, targets: Tensor, dtype: torch.dtype
) -> None:
    """Its weights are, and gradients go through products of its own dtype."""
    narrow = plain.to(dtype)
    with torch.no_grad():
        found = log_probs(states, targets, narrow, VOCABULARY)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact(states, targets, narrow), atol=1e-5, rtol=0)
    given = states.clone().requires_grad_()
    trained = log_probs(given, targets, narrow, VOCABULARY)
    trained.sum().backward()
    assert given.grad is not None and float(given.grad.abs().sum()) > 0
    assert 1e-4 < float((trained.detach() - found).abs().max()) < 0.2
