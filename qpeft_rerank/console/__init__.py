"""What every command shares: arguments, messages on stderr, and one line instead of a traceback."""

from qpeft_rerank.console.messages import duration, run, say
from qpeft_rerank.console.parsing import Parser, arguments, check_stdin, from_zero, inputs, positive, settings
from qpeft_rerank.console.quiet import unwarned

__all__ = [
    "Parser",
    "arguments",
    "check_stdin",
    "duration",
    "from_zero",
    "inputs",
    "positive",
    "run",
    "say",
    "settings",
    "unwarned",
]
