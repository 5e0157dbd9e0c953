"""Where scoring's time goes: ``python -m eval.benchmarks.profile --data DIR``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from eval.benchmarks.command import about, begin, options, publish
from qpeft_rerank import console

#: What operators do, by the beginnings of their names; the first that fits counts.
PARTS = {
    "products of the layers and the head": ("mkldnn::_linear", "aten::mm", "aten::addmm", "aten::linear"),
    "attention": ("aten::_scaled_dot_product", "aten::scaled_dot_product"),
    "softmax over the vocabulary": ("aten::logsumexp", "aten::exp_", "aten::amax", "aten::sub", "aten::sum"),
    "norms and rotary positions": (
        *("aten::_fused_rms_norm", "aten::rms_norm", "aten::linalg_vector_norm", "aten::pow", "aten::mean"),
        *("aten::div_", "aten::rsqrt", "aten::mul", "aten::addcmul", "aten::cos", "aten::sin"),
    ),
    "activations": ("aten::silu", "aten::gelu"),
    "copies and casts": ("aten::copy_", "aten::_to_copy", "aten::clone", "aten::index", "aten::embedding", "aten::cat"),
    "sums with what came before": ("aten::add",),
}
_OTHERS = "other operators"
_BETWEEN = "between operators: Python, and the profiler's own cost"


def _parser() -> argparse.ArgumentParser:
    parser = options(
        "profile",
        "Score pairs under PyTorch's profiler, after a pass to warm up, and say which operations take the time.",
        "dl19/ and miniwiki/",
    )
    parser.add_argument(
        "--workload",
        choices=["dl19-topics", "trivia"],
        default="dl19-topics",
        help="whole topics of TREC DL 2019, or TriviaQA, passages shared (dl19-topics)",
    )
    parser.add_argument("--dtypes", nargs="+", default=["float32", "mixed"], metavar="D", help="(float32 mixed)")
    parser.add_argument(
        "--pairs", type=console.positive, default=100, metavar="N", help="pairs, about; a topic at least (100)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _profile(args))


def _profile(args: argparse.Namespace) -> int:
    from eval.benchmarks import workloads
    from eval.benchmarks.first_stage import trivia_run
    from eval.benchmarks.table import markdown

    begin(args)
    data, trivia = Path(args.data), args.workload == "trivia"
    # Of trivia a sample is twice what is asked for.
    asked = -(-args.pairs // 2) if trivia else args.pairs
    pairs = workloads.build(args.workload, data, trivia_run(data, None) if trivia else None, asked, 42).pairs
    texts = [(pair.query, pair.title, pair.text) for pair in pairs]
    taken = {dtype: _parts(args.model, dtype, texts) for dtype in args.dtypes}
    rows = [
        (name, *(f"{100 * parts[name] / sum(parts.values()):.1f} %" for parts, _ in taken.values()))
        for name in (*PARTS, _OTHERS, _BETWEEN)
    ]
    rows.append(("milliseconds a pair, unprofiled", *(f"{1000 * took / len(pairs):.1f}" for _, took in taken.values())))
    said = f"{about(args.threads)} {len(pairs)} pairs of {args.workload}. Shares of the time under the profiler."
    publish(args.output, (said, "", *markdown(("part", *args.dtypes), rows)))
    return 0


def _parts(name: str, dtype: str, texts: list[tuple[str, str, str]]) -> tuple[dict[str, float], float]:
    """Seconds by part of one profiled scoring, which add up to its wall time, and the seconds of one that was not."""
    from torch.profiler import ProfilerActivity, profile

    from qpeft_rerank import Passage, Reranker

    reranker = Reranker.from_pretrained(name, None, dtype=dtype, device="cpu")
    listed = [(query, Passage(str(place), title, text)) for place, (query, title, text) in enumerate(texts)]
    reranker.score(listed)
    start = time.perf_counter()
    reranker.score(listed)
    took = time.perf_counter() - start
    # Without the events of each call: they cost more than some of the operations.
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as record:
        start = time.perf_counter()
        reranker.score(listed)
        profiled = time.perf_counter() - start
    parts = dict.fromkeys((*PARTS, _OTHERS, _BETWEEN), 0.0)
    for event in record.key_averages():
        part = next((part for part, begins in PARTS.items() if event.key.startswith(begins)), _OTHERS)
        parts[part] += event.self_cpu_time_total / 1e6
    # Of the same pass: from one to the next a machine's speed changes by more than this is.
    parts[_BETWEEN] = max(0.0, profiled - sum(parts.values()))
    return parts, took


if __name__ == "__main__":
    sys.exit(main())
