"""An adapter as it is before training: ``python -m eval.untrained --adapter qpeft-r --preset textual --output DIR``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qpeft_rerank import console
from qpeft_rerank.errors import InputError


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(prog="python -m eval.untrained", description="Save an adapter without training.")
    parser.add_argument("--adapter", required=True, metavar="NAME", help="qpeft-a, qpeft-r or soft-prompt")
    parser.add_argument("--preset", default="corrected", help="where its configuration starts from (corrected)")
    parser.add_argument("--model", default="embedded", metavar="NAME", help="hub name, folder, GGUF or 'embedded'")
    parser.add_argument("--prompt", default="plain", metavar="NAME", help="plain (default), qpeft, upr, or a YAML file")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="a field of the configuration"
    )
    parser.add_argument("--seed", type=int, default=42, help="of random initial weights (42)")
    parser.add_argument("--output", required=True, metavar="DIR", help="the adapter's folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _save(args))


def _save(args: argparse.Namespace) -> int:
    options = console.settings(args.option)
    if Path(args.output).exists():
        raise InputError(f"--output {args.output}: exists; name another folder")
    from qpeft_rerank.adapters.registry import create_adapter, find_kind
    from qpeft_rerank.adapters.store import save_adapter
    from qpeft_rerank.likelihood.language_model import LanguageModel
    from qpeft_rerank.likelihood.out_of_memory import fitting_adapter
    from qpeft_rerank.prompt.templates import load_template

    template = load_template(args.prompt)
    find_kind(args.adapter).config.preset(args.preset, **options)  # before the model, which may be large
    # On the CPU: nothing is computed, and no number depends on it.
    model = LanguageModel.load(args.model, "auto", "cpu")
    with fitting_adapter(f"--adapter {args.adapter}", model.device):
        adapter = create_adapter(args.adapter, model, template, args.preset, seed=args.seed, **options)
    save_adapter(adapter, model, template, Path(args.output))
    console.say(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
