"""What a reranking job's ways of scoring are called, and the files that it writes."""

import argparse
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from qpeft_rerank import leftovers, sources
from qpeft_rerank.cache import cache_dir
from qpeft_rerank.collection.names import canonical_index_name
from qpeft_rerank.console import inputs
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import as_text, at_home
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.methods import DEFAULT_PROMPT, NO_ADAPTER
from qpeft_rerank.prompt.templates import Template
from qpeft_rerank.results import RerankedRun, score_lines
from qpeft_rerank.trec.output import input_fault, output_fault, refusal, write_lines
from qpeft_rerank.trec.runs import Run, write_run
from qpeft_rerank.trec.topics import Topic


class Outputs:
    """Names and places of one job's results.

    :param args: the command's arguments.
    :param index: the index that is searched, or None.
    :param topics: the topics' name.
    :param prompt: as asked for, or None.
    """

    def __init__(self, args: argparse.Namespace, index: str | None, topics: str, prompt: Template | None) -> None:
        self.args = args
        self._prompt = DEFAULT_PROMPT if prompt is None else prompt.name
        #: What the run's tag and file name call this way of scoring.
        self.method = self._called(args.adapter)
        #: The run to write, ``-`` for stdout.
        self.run: str = args.output or self._default(index, topics, self.method)
        # Every --alpha mixes the same scores, so those of runs in the default place are kept once.
        self._journal = f"{args.output or self._default(index, topics, self._scored(args.adapter))}.journal"
        #: The ways that it is compared with, in their order.
        self.compared = [self._called(name) for name in args.compare]

    @property
    def is_file(self) -> bool:
        """Whether the run goes to a regular file, not to stdout or a pipe."""
        return self.run != "-" and (os.path.isfile(self.run) or not os.path.exists(self.run))

    @property
    def compared_runs(self) -> list[str]:
        """The files of the compared ways' runs, beside the run; none where that is no file."""
        packed = ".gz" if self.run.endswith(".gz") else ""
        stem = self.run.removesuffix(packed).removesuffix(".trec")
        return [f"{stem}.{method}.trec{packed}" for method in self.compared] if self.is_file else []

    def journal(self, run: Run, topics: Mapping[str, Topic]) -> Path:
        """Where the job keeps its scores until it is done."""
        if self.is_file:
            return Path(self._journal)
        # A pipe has no place beside it: the same job finds its own in the cache.
        args = self.args
        # Jobs that differ in what they make of scores may run beside each other, too.
        how = [args.model, args.adapter, *args.compare, args.prompt, args.dtype, args.max_passage_tokens]
        how += [args.alpha, args.depth, args.certify, args.missing, args.index, args.corpus]
        digest = hashlib.blake2b(repr(how).encode(), digest_size=12)
        for topic, hits in run.items():
            digest.update(f"{topic}\t{topics[topic].text}\t{' '.join(hit.docid for hit in hits)}\n".encode())
        return cache_dir() / "journals" / f"{digest.hexdigest()}.journal"

    def check(self) -> None:
        """Refuse what is read too, exists, cannot be written, or would be written twice; make the default folder."""
        if self.args.output is None:
            Path(self.run).parent.mkdir(parents=True, exist_ok=True)
        for flag, path, fault in self.faults():
            if fault:
                raise refusal(flag, path, fault)

    def faults(self) -> Iterator[tuple[str, str, str | None]]:
        """Each file that the job writes: its flag, its place, and why it may not be written there, if so."""
        args = self.args
        # Without the run itself they are what a stopped job wrote last: the same command goes on.
        done = (self.run, self._journal.removesuffix(".journal"))
        left = set() if any(map(os.path.exists, done)) else leftovers.announced(Path(self._journal))
        taken = [self._journal] if self.is_file else []
        for flag, path, alike in [("--output", self.run, None), *self._beside()]:
            fault = input_fault(path, self._inputs())
            if path == "-" and flag == "--explain":
                fault = "stdout is for runs and tables; name a file"
            elif not fault and _same(path, taken):
                fault = "is another output of this job too; name another file"
            own = alike is not None and os.path.abspath(path) in left and os.path.isfile(path) and alike(path)
            yield flag, path, fault or output_fault(self._settled(path), args.overwrite or own)
            taken.append(path)

    def _beside(self) -> Iterator[tuple[str, str, Callable[[str], bool]]]:
        """Each file that is written besides the run: its flag, its place, and what tells whether a file looks like it."""
        if self.args.scores:
            yield "--scores", self.args.scores, leftovers.is_scores
        for path, method in zip(self.compared_runs, self.compared, strict=False):
            yield "--compare", path, partial(leftovers.is_run, method=method)
        if self.args.explain:
            yield "--explain", self.args.explain, partial(leftovers.is_page, method=self.method)

    def plan(self) -> Iterator[str]:
        """A line for each file that the job would write; one that it would refuse says why."""
        for flag, path, fault in self.faults():
            name = {"--scores": "scores", "--explain": "page"}.get(flag, "output")
            yield f"{name:<10} {path}{f' ({fault})' if fault else ''}"

    def _settled(self, path: str) -> str:
        """The place to look at: of a file in the default folder that is yet to be made, that folder's."""
        folder = Path(self.run).parent
        made = self.args.output is not None or folder.is_dir() or Path(path).parent != folder
        return path if made else str(folder)

    def _inputs(self) -> Iterator[tuple[str, str | None]]:
        yield from inputs(self.args, "run", "corpus", "topics", "qrels", "index")
        for flag, name in inputs(self.args, "prompt", "model", "adapter", "compare"):
            yield flag, str(at_home(name))

    def write(self, results: Sequence[RerankedRun], page: Callable[[], str], journal: Journal) -> None:
        """Write everything, the run last: where it is a file, it says that the job is done.

        :param results: of the compared ways, then the job's own.
        :param page: makes what ``--explain`` shows.
        :param journal: is told what else is written, for the same command to know again.
        :raises BrokenPipeError: at the end, if the run's own reader has gone.
        """
        *others, result = results
        if self.is_file and (beside := [os.path.abspath(path) for _, path, _ in self._beside() if path != "-"]):
            journal.announce(beside)
        gone = None
        if not self.is_file:
            try:
                write_run(self.run, result.run, self.method)
            except BrokenPipeError as error:  # the other files have readers of their own
                gone = error
        for path, method, other in zip(self.compared_runs, self.compared, others, strict=False):
            write_run(path, other.run, method)
        if self.args.scores:
            with suppress(BrokenPipeError):
                write_lines(self.args.scores, score_lines(result))
        if self.args.explain:
            write_lines(self.args.explain, [page()])
        if self.is_file:
            write_run(self.run, result.run, self.method)
        if gone:
            raise gone

    def check_names(self) -> None:
        """Refuse two ways of scoring with one name, as nobody could tell their runs apart, and runs without a place."""
        names = [self.method, *self.compared]
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise InputError(f"--compare: two adapters would both be called {twice[0]}; rename one's folder")
        if self.compared and not self.is_file and not self.args.qrels:
            raise InputError(
                "--compare: there is no file to put its runs beside; name one with --output, or add --qrels"
            )

    def _called(self, adapter: str | None) -> str:
        mixed = "" if self.args.alpha == 1.0 else f"-alpha{self.args.alpha:g}"
        return self._scored(adapter) + mixed

    def _scored(self, adapter: str | None) -> str:
        """What a way of scoring is called, whatever it is mixed with."""
        model = _name(self.args.model).removesuffix(".gguf")
        scored = f"ql-{self._prompt}" if adapter is None or adapter == NO_ADAPTER else _name(adapter)
        name = scored if self.args.model == sources.EMBEDDED else f"{scored}-{model}"
        # A tag is one word, part of a file's name, and text, which a file's name need not be.
        return "-".join(as_text(name).replace("/", "-").split())

    def _default(self, index: str | None, topics: str, method: str) -> str:
        # By the run where one is given: an index, or passages, may serve many.
        where = self.args.run or (canonical_index_name(index) if index else self.args.corpus)
        name = f"{sources.label(where) if where != '-' else 'stdin'}.{sources.label(topics)}.{method}"
        return str(Path("runs") / f"{name}.trec")


def _name(given: str) -> str:
    """The last part of a path or a hub's name; that of the folder itself where the path leads up or ends in a dot."""
    return Path(os.path.abspath(given) if os.path.exists(given) else given).name


def _same(path: str, others: Iterable[str]) -> bool:
    return any(path == other or os.path.realpath(path) == os.path.realpath(other) for other in others)
