"""Layers that multiply faster give the scores, and the gradients, of those that they replace."""

import copy
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from mapping import TOLD, resident
from packing import packing
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from qpeft_rerank.likelihood import linears, processor
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.linears import PackedLinear, SlicedLinear, replace_linears
from qpeft_rerank.likelihood.mapped import give_back
from qpeft_rerank.likelihood.narrow import NarrowLinear
from qpeft_rerank.likelihood.quick import load_for_scoring
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.prompt import load_template

CPU = torch.device("cpu")
# Without AVX-512 oneDNN refuses to lay out weights in bfloat16, so there is nothing to compare the rounding with.
wide = pytest.mark.skipif(not linears.can_pack(CPU), reason="oneDNN takes no bfloat16 weights without AVX-512")
PAIRS = [("who wrote it", "Ada", "Ada wrote the first program."), ("why", "", "The bug was a moth in a relay.")]


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed layers where they work, be they the faster ones or not."""
    monkeypatch.setattr(linears, "can_pack", lambda device: device.type == "cpu")


@pytest.fixture(scope="module", params=["bytes", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / request.param, kind=request.param)


def scores(folder: Path, dtype: str, stock: bool = False) -> torch.Tensor:
    scorer = Scorer(LanguageModel.load(str(folder), dtype, "cpu", stock), load_template("plain"))
    return torch.tensor([score.mean for score in scorer.score(scorer.encode(PAIRS))])


def test_faster_layers_give_the_stock_model_s_scores(folder: Path) -> None:
    assert torch.allclose(scores(folder, "float32"), scores(folder, "float32", stock=True), atol=1e-5, rtol=0)


def test_mixed_keeps_states_and_logits_in_float32(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = scores(folder, "float32", stock=True)
    mixed = scores(folder, "mixed")
    assert 0 < float((mixed - exact).abs().max()) < 0.2
    model = LanguageModel.load(str(folder), "mixed", "cpu")
    assert (model.dtype, model.precision) == (torch.float32, "mixed")
    parts = model.head.parts
    assert {getattr(part, "products", part.weight.dtype) for part in parts} == {torch.float32}
    # Where layers cannot be packed they multiply alike, in PyTorch's own way.
    monkeypatch.setattr(linears, "can_pack", lambda device: False)
    assert torch.allclose(scores(folder, "mixed"), mixed, atol=0.1, rtol=0)


def test_precisions_have_scores_of_their_own(folder: Path) -> None:
    models = [LanguageModel.load(str(folder), dtype, "cpu") for dtype in ("float32", "mixed", "bfloat16")]
    assert len({Scorer(model, load_template("plain")).fingerprint for model in models}) == 3


@packing
@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize("quick", [True, False])
def test_a_mixed_model_is_float32_s_for_a_while(folder: Path, quick: bool) -> None:
    load_for_scoring(str(folder), "mixed", "cpu")  # which notes whether there is a quick way
    load, plain = load_for_scoring if quick else LanguageModel.load, load_template("plain")
    mixed, exact = (Scorer(load(str(folder), dtype, "cpu"), plain) for dtype in ("mixed", "float32"))
    pairs = mixed.encode(PAIRS)
    before = mixed.score(pairs)
    assert mixed.model.can_be_exact and not exact.model.can_be_exact
    with mixed.in_float32() as changed:
        assert changed.fingerprint == exact.fingerprint != mixed.fingerprint
        assert changed.score(pairs) == exact.score(pairs) != before
    assert (mixed.model.precision, mixed.score(pairs)) == ("mixed", before)


def test_layers_that_forgot_their_weights_cannot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linears, "can_pack", lambda device: False)
    assert not LanguageModel.load(str(folder), "mixed", "cpu").can_be_exact


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layer", [NarrowLinear, pytest.param(PackedLinear, marks=packing)])
@pytest.mark.parametrize(("products", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_products_and_gradients(layer: type, products: torch.dtype, tolerance: float, bias: bool) -> None:
    torch.manual_seed(1)
    plain = nn.Linear(24, 40, bias=bias).requires_grad_(False)
    states = torch.randn(3, 5, 24)
    ways = []
    for module in (plain, layer(plain, products)):
        given = states.clone().requires_grad_()
        made = module(given)
        (made * torch.arange(40)).sum().backward()
        ways.append((made.detach(), given.grad))
    assert ways[1][0].dtype == torch.float32
    for expected, found in zip(*ways, strict=True):
        assert float((expected - found).abs().max() / expected.abs().max()) < tolerance


@pytest.mark.parametrize("layer", [NarrowLinear, pytest.param(PackedLinear, marks=wide)])
def test_processors_without_bfloat16_round_alike(layer: type, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    plain = nn.Linear(240, 40, bias=False).requires_grad_(False)
    ways = []
    for own in (True, False):
        monkeypatch.setattr(processor, "multiplies_bfloat16", lambda own=own: own)
        module = layer(plain, torch.bfloat16)
        states = torch.arange(3.0 * 240).sin().view(3, 240).requires_grad_()
        made = module(states)
        made.square().sum().backward()
        ways.append([made.detach(), states.grad])
        if layer is PackedLinear:
            rows = linears.in_rows(states.detach(), module)
            assert rows.dtype == torch.bfloat16
            ways[-1] += [module.times(rows, module.silu(rows)).float()] if module.silu(rows).shape == rows.shape else []
            ways[-1].append(module.silu(rows).float())
    for one, other in zip(*ways, strict=True):  # sums in another order fall on another side of a rounding now and then
        assert torch.allclose(one, other, rtol=2**-7, atol=1e-3)
        assert float((one == other).float().mean()) > 0.9
    # Rounded they are: float32's own products are others.
    assert not torch.allclose(ways[1][0], plain(states), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=packing)])
def test_a_copy_computes_with_its_own_weights(packed: bool) -> None:
    plain = nn.Linear(24, 40).requires_grad_(False)
    for layer in (SlicedLinear(plain, packed), *([PackedLinear(plain, torch.float32)] if packed else [])):
        copied = copy.deepcopy(layer)
        torch.testing.assert_close(copied(torch.ones(2, 24)), plain(torch.ones(2, 24)))
        copied.weight.data.zero_()
        copied.bias.data.zero_()
        assert not copied(torch.ones(2, 24)).any()
        assert layer(torch.ones(2, 24)).all()


@packing
def test_packed_rows_do_not_depend_on_the_batch() -> None:
    layer = PackedLinear(nn.Linear(24, 40), torch.float32)
    states = torch.randn(300, 24)
    with torch.no_grad():
        whole = layer(states)
        assert all(torch.equal(layer(states[row : row + 1])[0], whole[row]) for row in range(0, 300, 37))


@packing
@pytest.mark.usefixtures("packed")
def test_only_plain_layers_are_replaced_and_the_head_stays_float32() -> None:
    class Special(nn.Linear):
        pass

    model = nn.ModuleDict({"body": nn.Linear(4, 4), "special": Special(4, 4), "head": nn.Linear(4, 8)})
    replace_linears(model, torch.bfloat16, model["head"])
    assert type(model["special"]) is Special
    assert model["body"].products == torch.bfloat16
    assert {part.products for part in model["head"].parts} == {torch.float32}


@packing
@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize("dtype", ["float32", "mixed"])
def test_products_have_few_numbers_of_rows(folder: Path, dtype: str) -> None:
    scorer = Scorer(LanguageModel.load(str(folder), dtype, "cpu"), load_template("plain"))
    shapes = set()

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), named: Any = None) -> Any:
            if function.name() == "mkldnn::_linear_pointwise":
                shapes.add(args[0].shape[0])
            return function(*args, **(named or {}))

    with Seen():
        for length in range(1, 40, 2):
            scorer.score(scorer.encode([("why " * length, "", "a moth in a relay")]))
    assert 1 < len(shapes) < 20 / 2
    assert all(rows % linears.ROWS == 0 for rows in shapes)


def mapped_layer(path: Path) -> nn.Linear:
    """A layer of ones whose weight is mapped from a file."""
    save_file({"weight": torch.ones(1024, 1024)}, path)
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())  # what is not on the disk yet cannot leave memory
    with safe_open(path, "pt") as file:
        plain = nn.Linear(1024, 1024, bias=False, device="meta")
        plain.weight = nn.Parameter(file.get_tensor("weight"), requires_grad=False)
    return plain


@pytest.mark.parametrize("layer", [NarrowLinear, pytest.param(PackedLinear, marks=packing)])
def test_a_file_s_pages_are_given_back_once_they_were_copied(layer: type, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    plain = mapped_layer(path)
    assert float(plain.weight.sum()) == 1024**2
    assert not TOLD or resident(path) >= 4096
    made = layer(plain, torch.bfloat16)
    assert resident(path) < 256
    assert float(made(torch.ones(1, 1024)).sum()) == 1024**2
    # The system still holds the file: reading it again, as the next process does, needs no disk.
    before = faults_from_disk()
    assert float(plain.weight.sum()) == 1024**2
    assert faults_from_disk() == before


def faults_from_disk() -> int:
    """Pages that this process had to wait for; 0 on Windows, which does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


@pytest.mark.parametrize("layer", [NarrowLinear, pytest.param(PackedLinear, marks=packing)])
def test_pages_that_were_written_to_are_kept(layer: type, tmp_path: Path) -> None:
    plain = mapped_layer(tmp_path / "weights.safetensors")
    plain.weight[700, 3] = 9.0
    made = layer(plain, torch.bfloat16)
    assert float(plain.weight[700, 3]) == 9.0
    assert float(made(torch.ones(1, 1024)).sum()) == 1024**2 + 8


@pytest.mark.parametrize("pages", [1, 3, 16])
def test_one_written_page_keeps_the_whole_tensor(pages: int, tmp_path: Path) -> None:
    """Whatever its place, and however many there are."""
    count = mmap.PAGESIZE // 4
    for written in {0, pages // 2, pages - 1}:
        path = tmp_path / f"{written}"
        path.write_bytes(bytes((pages + 2) * mmap.PAGESIZE))
        whole = torch.from_file(str(path), shared=False, size=(pages + 2) * count, dtype=torch.float32)
        weight = whole[count : (pages + 1) * count]
        weight[written * count + 5] = 3.0
        give_back(weight)
        assert float(weight.sum()) == 3.0


def test_memory_of_no_file_is_kept() -> None:
    some = torch.randn(512, 1024)
    kept = some.clone()
    give_back(some)
    assert torch.equal(some, kept)
