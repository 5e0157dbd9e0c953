"""What a training step costs: ``python -m eval.benchmarks.training --train mined.jsonl``."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.benchmarks.command import about, begin, options, publish
from qpeft_rerank import console

if TYPE_CHECKING:
    from qpeft_rerank.training.sampler import Group
    from qpeft_rerank.training.student import Student

# Larger than any step here: one micro-batch each.
_BATCH_TOKENS = 1 << 20
_HEAD = (
    "adapter",
    "way",
    "tokens a step",
    "CPU s a step (least, most)",
    "of one batch",
    "largest change of the gradient",
)


def _parser() -> argparse.ArgumentParser:
    parser = options(
        "training",
        "Time the gradient of optimizer steps computed in several ways, alternating, each step in every way: all "
        "sequences in one padded batch; passes of like length; the passages' states read once and kept.",
    )
    parser.add_argument("--train", required=True, metavar="FILE", help="mined JSONL, or DPR's biencoder JSON")
    parser.add_argument("--adapters", nargs="+", default=["lora", "qpeft-a"], metavar="A", help="(lora qpeft-a)")
    parser.add_argument("--steps", type=console.positive, default=5, metavar="N", help="steps of 4 questions (5)")
    parser.add_argument("--dtype", default="mixed", help="of the frozen model (mixed)")
    parser.add_argument("--seed", type=int, default=42, help="of the steps (42)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _training(args))


def _training(args: argparse.Namespace) -> int:
    from eval.benchmarks.table import markdown

    begin(args)
    rows = [row for adapter in args.adapters for row in _rows(args, adapter)]
    said = (
        f"{about(args.threads)} Model: {args.model}, {args.dtype}. Medians of {args.steps} steps of 4 questions, each "
        "with a positive and a negative."
    )
    publish(args.output, (said, "", *markdown(_HEAD, rows)))
    return 0


def _rows(args: argparse.Namespace, adapter: str) -> Iterator[tuple[str, ...]]:
    from qpeft_rerank.likelihood.language_model import LanguageModel
    from qpeft_rerank.prompt.templates import load_template
    from qpeft_rerank.training.data import read_training_file
    from qpeft_rerank.training.sampler import EpochSampler, Sampling
    from qpeft_rerank.training.students import make_student

    sampling = Sampling()
    count = args.steps * sampling.queries_per_step
    examples = read_training_file(args.train, count, args.seed).examples
    model = LanguageModel.load(args.model, args.dtype, "cpu")
    template = load_template("qpeft" if adapter == "soft-prompt" else "plain")
    student = make_student(adapter, model, template, "corrected", {}, examples, args.seed)
    steps = EpochSampler(examples, sampling, args.seed).epoch(1)
    # Without dropout, whose draws differ by batch: gradients are compared.
    with tempfile.TemporaryDirectory() as folder:
        ways = _ways(student, steps[0], Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        tokens, gaps = [], dict.fromkeys(ways, 0.0)
        for groups in steps:
            sequences = student.encode(groups)
            tokens.append(sum(len(sequence) for group in sequences for sequence in group))
            first: list[Any] = []
            for name, way in ways.items():
                way(sequences)  # states are read, products compiled
                begun = time.process_time()
                way(sequences)
                seconds[name].append(time.process_time() - begun)
                found = [part.parameter.grad for part in student.parts.values()]
                first = first or [gradient.clone() for gradient in found if gradient is not None]
                gaps[name] = max(gaps[name], _gap(found, first))
    base = statistics.median(next(iter(seconds.values())))
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        yield (
            adapter,
            name,
            f"{statistics.median(tokens):,.0f}",
            f"{middle:.2f} ({min(taken):.2f}, {max(taken):.2f})",
            f"{middle / base:.2f}",
            f"{gaps[name]:.1e}",
        )


def _ways(student: "Student", groups: "list[Group]", folder: Path) -> dict[str, Callable[[Any], object]]:
    """Ways to add up a step's gradient, by name, the plainest first."""
    from qpeft_rerank.training import prefix
    from qpeft_rerank.training.gradients import GradientAccumulator
    from qpeft_rerank.training.recipe import Recipe

    parameters = [part.parameter for part in student.parts.values()]
    model, hinter = student.model, student.hinter

    def adding(values: Callable[[Any], Any], cut: bool) -> Callable[[Any], object]:
        accumulator = GradientAccumulator(values, Recipe().group_loss(), parameters, _BATCH_TOKENS, cut=cut)
        return lambda sequences: accumulator.add(sequences, len(sequences), 1)

    def whole(sequences: Any) -> Any:
        return prefix.means(model, sequences, hinter)

    ways = {"one padded batch": adding(whole, False), "passes of like length": adding(whole, True)}
    sample = [sequence for group in student.encode(groups[:2]) for sequence in group]
    if prefix.prefix_works(model, sample, hinter):
        store = prefix.open_store(folder, model, sample, hinter, True) if hinter else None

        def after(sequences: Any) -> Any:
            return prefix.means_after_prefix(model, sequences, hinter, store)

        def fresh(sequences: Any) -> Any:
            return prefix.means_after_prefix(model, sequences, hinter)

        ways |= {"passages read without gradients": adding(fresh, False), "their states kept": adding(after, False)}
    return ways


def _gap(found: "Sequence[Any]", expected: "Sequence[Any]") -> float:
    """Largest difference of a gradient's number, over the largest number."""
    found = [gradient for gradient in found if gradient is not None]
    gap = max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))
    return gap / max(float(gradient.abs().max()) for gradient in expected)


if __name__ == "__main__":
    sys.exit(main())
