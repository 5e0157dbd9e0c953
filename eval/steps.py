"""A step: one command, known by its content. Two steps with the same key are the same step.

A key covers the command's words, the content of the files it is given, the keys of the steps whose
outputs it takes, this package's version, :data:`FORMAT` and, where a model scores, the scores' format; not a
path's spelling, and not what changes no result (device, batch size).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from qpeft_rerank import __version__
from qpeft_rerank.adapters.find import CONFIG, STAMP, WEIGHTS, find_adapter, saved_template, shipped_adapters
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import at_home
from qpeft_rerank.likelihood import scores
from qpeft_rerank.likelihood.identity import file_digest, model_identity, tokenizer_identity
from qpeft_rerank.prompt.templates import load_template

#: Raised when a step's output would be another one for the same words: by another way of mining, of training or of
#: converting a model. Scores have a format of their own.
FORMAT = 2
#: Commands' modules that read with a model: one that ranks, and one that compares epochs on dev questions.
SCORING = ("qpeft_rerank.rerank", "qpeft_rerank.train")


class Own(Enum):
    """Stands for the step's own output among its words."""

    OUTPUT = "output"


OUTPUT = Own.OUTPUT


@dataclass(frozen=True)
class Source:
    """A word that names something outside: a file, a model, a prompt, a name at Pyserini's or the hub's.

    :param text: as on the command line.
    :param digest: of what it names; the name itself where that cannot be looked at.
    """

    text: str
    digest: str

    @property
    def short(self) -> str:
        """Twelve digits of the digest, or the name where it is that."""
        return self.text if self == name_source(self.text) else self.digest[:12]


def file_source(path: Path) -> Source:
    """A file, by its content; :class:`InputError` if it is not there."""
    try:
        return Source(str(path), file_digest(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def name_source(name: str) -> Source:
    """A name of what others keep: a prebuilt index, a topic set, an address."""
    return Source(name, f"name {name}")


def set_source(name: str) -> Source:
    """A set of topics or judgements: a file by its content, others by the name that their keepers give them."""
    return file_source(Path(name)) if Path(name).is_file() else name_source(name)


def index_source(name: str) -> Source:
    """An index: a folder by its commit, which no two builds share; a prebuilt one by its name."""
    commits = sorted(Path(name).glob("segments_*")) if Path(name).is_dir() else []
    return Source(name, _digest([[one.name, file_digest(one)] for one in commits])) if commits else name_source(name)


def prompt_source(name: str) -> Source:
    """A prompt, by its pieces."""
    return Source(name, _digest(load_template(name).content))


def adapter_source(name: str) -> Source:
    """An adapter made elsewhere: a folder or one that ships by content, a hub name by its name."""
    folder = _adapter_folder(name)
    if folder is None:
        return name_source(name)
    return Source(name, _digest(adapter_digests(folder)))


def adapter_digests(folder: Path, digest: Callable[[Path], str] = file_digest) -> list[list[str]]:
    """Name and digest of each file of an adapter, but for the card and the log, which tell the time of its training."""
    files = [folder / name for name in (CONFIG, WEIGHTS, STAMP) if (folder / name).is_file()]
    return [[path.name, digest(path)] for path in files]


def adapter_prompt(name: str) -> str | None:
    """The name of the prompt that an adapter made elsewhere reads with; None where only a hub knows."""
    from qpeft_rerank.methods import DEFAULT_PROMPT

    folder = _adapter_folder(name)
    if folder is None:
        return None
    own = saved_template(folder)
    return own.name if own else DEFAULT_PROMPT


def _adapter_folder(name: str) -> Path | None:
    return find_adapter(name) if at_home(name).is_dir() or name in shipped_adapters() else None


def model_source(name: str) -> Source:
    """A model: a folder or the embedded file by content, a hub name by its name (the network stays untouched)."""
    from qpeft_rerank.likelihood.sources import EMBEDDED, embedded_gguf

    if name == EMBEDDED:
        path = embedded_gguf()
        return Source(name, file_digest(path) if path else f"name {name}")
    path = at_home(name)
    if path.is_dir() and (path / "config.json").is_file():
        return Source(name, _digest([model_identity(path), tokenizer_identity(path)]))
    if path.is_file():
        return Source(name, file_source(path).digest)
    return name_source(name)


@dataclass(frozen=True, eq=False)
class Step:
    """A command with its output.

    :param kind: ``retrieve``, ``train`` ...; ``label`` tells a person which one.
    :param words: what follows ``python -m module``.
    :param output: the output's name in the step's folder.
    :param form: what tells outputs apart: a file's content, an adapter's files, a Lucene index.
    :param running: words that change no result.
    :param prints: the output is what the command prints.
    :param joins: a reranker that may read passages together with others (:mod:`eval.together`).
    :param operations: floating-point operations of the language model, for estimates; 0 if it is not used.
    """

    kind: str
    label: str
    module: str
    words: tuple[Any, ...]
    output: str
    form: Literal["file", "adapter", "index"] = "file"
    running: tuple[str, ...] = ()
    prints: bool = False
    operations: float = 0.0
    joins: bool = False

    @cached_property
    def key(self) -> str:
        """24 hexadecimal digits."""
        scored = [scores.FORMAT] if self.module in SCORING else []
        words = [_word_key(word) for word in self.words]
        return _digest([FORMAT, __version__, self.module, words, self.output, *scored])

    @property
    def needs(self) -> tuple["Step", ...]:
        """The steps whose outputs it takes."""
        return tuple(word for word in self.words if isinstance(word, Step))

    def folder(self, work: Path) -> Path:
        """Where its output, its log and its record are."""
        return work / "steps" / f"{self.kind}-{self.key}"

    def place(self, work: Path) -> Path:
        """Its output."""
        return self.folder(work) / self.output

    def command(self, work: Path) -> list[str]:
        """The words after ``python``."""
        said = ["-m", self.module]
        for word in self.words:
            if isinstance(word, Step):
                said.append(str(word.place(work)))
            elif isinstance(word, Own):
                said.append(str(self.place(work)))
            else:
                said.append(word.text if isinstance(word, Source) else word)
        return [*said, *self.running]


def ordered(steps: Iterable[Step]) -> list[Step]:
    """The steps and all they need, needed ones first, each once."""
    found: dict[str, Step] = {}

    def visit(step: Step) -> Iterator[Step]:
        if step.key not in found:
            for need in step.needs:
                yield from visit(need)
            found[step.key] = step
            yield step

    return [one for step in steps for one in visit(step)]


def _word_key(word: Any) -> list[str]:
    if isinstance(word, Step):
        return ["step", word.key]
    if isinstance(word, Source):
        return ["source", word.digest]
    return ["output"] if isinstance(word, Own) else ["word", word]


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()
