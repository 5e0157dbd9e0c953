"""The two ways a command can fail that are the user's to mend."""

from numbers import Integral

# Most letters of what a library says that are told: PEFT may list all of a model's weights.
_LONGEST = 300


class InputError(Exception):
    """Something the user gave is wrong: one line naming the file, the line, the fault and the fix.

    Commands print the message on stderr and exit with status 2 (:func:`qpeft_rerank.console.run`).
    """


class MissingError(InputError):
    """An optional part (a package, a Java, a model) is absent; the message says how to get it."""


def check_count(name: str, count: object) -> None:
    """Refuse what is no whole number from 1; numpy's are taken.

    :param name: what the message calls it.
    """
    if not isinstance(count, Integral) or count < 1:
        raise InputError(f"{name} {count!r}: give a whole number from 1")


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line, for a message of our own; of an announcement the next line, too."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1]) or type(error).__name__
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"


def one_line(error: BaseException) -> str:
    """All that a library's error says, line breaks and all white space made single spaces."""
    return " ".join(str(error).split()) or type(error).__name__


#: What models of ``transformers`` raise where they refuse a mask, positions, embeddings or a cache made elsewhere: as many
#: kinds as there are architectures.
REFUSALS = (ValueError, TypeError, AttributeError, IndexError, RuntimeError, AssertionError)
