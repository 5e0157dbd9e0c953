"""One reranking job, from resolved names to the files it leaves behind."""

import argparse
import sys
from collections.abc import Callable
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from qpeft_rerank import exactness, explain, report, sources
from qpeft_rerank.candidates import check_passages, check_topics, count_pairs
from qpeft_rerank.collection import lucene
from qpeft_rerank.collection.index import LuceneIndex
from qpeft_rerank.collection.passages import Passages
from qpeft_rerank.console import check_stdin, say
from qpeft_rerank.errors import InputError
from qpeft_rerank.fusion import check_alpha
from qpeft_rerank.likelihood.device_faults import faults_told
from qpeft_rerank.likelihood.int8 import check_int8
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.language_model import pick_device
from qpeft_rerank.likelihood.sources import find_model
from qpeft_rerank.methods import DEFAULT_PROMPT, check_compared, check_prompt, checked_limit, chosen_adapter
from qpeft_rerank.outputs import Outputs
from qpeft_rerank.parts import Share, collect
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.reranker import Reranker
from qpeft_rerank.results import RerankedRun
from qpeft_rerank.trec.measures import parse_measure
from qpeft_rerank.trec.qrels import Qrels
from qpeft_rerank.trec.runs import Run, located, read_run
from qpeft_rerank.trec.topics import Topic
from qpeft_rerank.unheeded import check_reranking

if TYPE_CHECKING:
    from qpeft_rerank.engines.processes import Team

# How many a topic the first stage finds, where nothing is said; those beyond the depth stay in the run's tail.
_HITS = 1000


class Inputs(NamedTuple):
    """What a job works on; ``explained`` is the topic of ``--explain``."""

    run: Run
    topics: dict[str, Topic]
    qrels: Qrels
    explained: str


class Job:
    """What ``python -m qpeft_rerank.rerank`` does with its arguments.

    Everything cheap is checked first: names, files and outputs, then texts, then the model.

    :param team: the processes that do it together, of which the main one reads, searches, judges, writes and speaks;
        None for one alone.
    """

    def __init__(self, args: argparse.Namespace, team: "Team | None" = None) -> None:
        self.args = args
        self.team = team
        self.index: str | None = args.index
        if self.index is None and args.run is None and args.corpus is None:
            self.index = sources.EMBEDDED
        check_alpha(args.alpha)
        check_reranking(args)
        pick_device(args.device)
        check_int8(args.dtype)
        checked_limit(args.max_passage_tokens)
        args.measures = report.measures(args.measures, judged=bool(args.qrels))
        # Read now only to refuse a bad one early; an adapter brings its own.
        self.prompt = load_template(args.prompt) if args.prompt else None
        args.adapter = chosen_adapter(args.adapter, args.model, bool(args.prompt))
        check_compared(args.adapter, args.compare)
        check_prompt(args.adapter, self.prompt)
        exactness.settle(args, team.count if team else 1)
        if self.index is not None:
            lucene.check_index(self.index)
        if args.run is None and self.index is None:
            raise InputError("--corpus holds passages but no ranking; add --run FILE, or search an --index")
        if args.topics is None and self.index is None:
            raise InputError("a run's topics have no text of their own; add --topics FILE or NAME")
        self.topics_name: str = args.topics or sources.topics_of_index(str(self.index))
        check_stdin(args, "run", "topics", "qrels")
        self.outputs = Outputs(args, self.index, self.topics_name, self.prompt)
        self.outputs.check_names()
        if not args.dry_run:
            self.outputs.check()

    def run(self) -> int:
        """Do the job; return the exit status."""
        with located(self.args.run), faults_told("what was scored is kept, and the same command goes on from there"):
            return self._run()

    def _run(self) -> int:
        if self.args.threads:
            import torch

            torch.set_num_threads(self.args.threads)
        given = self.team.from_main(self._inputs) if self.team else self._inputs()
        if given is None:
            return 0
        place = self.outputs.journal(given.run, given.topics)
        share = Share(self.team, place) if self.team else None
        if self.args.missing == "strict" and (self.args.run or self.args.corpus):
            part = share.part(given.run, self.args.depth) if share else given.run
            check_passages(part, self.passages, self.args.depth)
        if share and not share.team.main:
            self._rerank(self._reranker(), given, None, share)
            share.finish()
            return 0
        run, topics = given.run, given.topics
        with Journal(place) as journal:
            self.outputs.check()  # another job may have held the journal, and written, since the command began
            collect(journal, self.team.count if self.team else 1)
            reranker = self._reranker()
            model = reranker.scorer.model
            if told := exactness.notice(model.precision, model.device):
                say(told)
            *others, result = self._rerank(reranker, given, journal, share)
            self._say_found(result, others)
            topic, method = topics[given.explained], self.outputs.method
            page = partial(explain.page, reranker, topic, run, result, self.passages, method)
            self.outputs.write([*others, result], page, journal)
            if share:
                share.finish(journal)
            if not self.outputs.is_file:
                journal.path.unlink()  # nothing is left to resume, and there is no output to keep it beside
        for path in [*self.outputs.compared_runs, self.outputs.run]:
            say(f"wrote {'stdout' if path == '-' else path}")
        self._report(given, [*others, result])
        return 0

    @cached_property
    def passages(self) -> Passages:
        """The collection."""
        return sources.find_passages(self.index, self.args.corpus, self.args.language)

    def _inputs(self) -> "Inputs | None":
        """What is reranked and how it is judged; None if a plan was all that was asked for."""
        topics = sources.find_topics(self.topics_name)
        explain.pick_topic(self.args.explain_topic, topics, f"of {self.topics_name}")
        # What follows may download an index or read a collection for hours: not for wrong names.
        find_model(self.args.model, weights=False)
        judged = sources.given_qrels(self.args.qrels, topics) if self.args.qrels else {}
        run = self._first_stage(topics)
        check_topics(run, topics)
        if self.args.limit:
            # Judged and reported are the topics at hand: those that find nothing, too, where we searched.
            run = dict(islice(run.items(), self.args.limit))
            topics = {topic: topics[topic] for topic in (run if self.args.run else self._limited(topics))}
        explained = explain.pick_topic(self.args.explain_topic, run, "to be reranked")
        exactness.settle_for(self.args, count_pairs(run, self.args.depth))
        passages = self.passages
        say(
            f"reranking {count_pairs(run, self.args.depth):,} passages of {len(run):,} topics "
            f"(depth {self.args.depth}) with {self.args.model}, {self.outputs.method}"
            f"{f', in {self.team.count} processes' if self.team else ''}"
        )
        if self.args.dry_run:
            self._plan(run, topics, passages)
            return None
        # Judgments before scores: wrong ones should not cost an hour.
        return Inputs(run, topics, self._judgments(run, topics, judged), explained)

    def _judgments(self, run: Run, topics: dict[str, Topic], qrels: Qrels | None) -> Qrels:
        if qrels is None:
            # As deep as any measure looks; one without a cut-off looks at what is reranked.
            measures = [parse_measure(name) for name in self.args.measures]
            depth = max([self.args.depth, *(measure.cut or measure.depth or 0 for measure in measures)])
            qrels = sources.find_qrels(self.args.qrels, run, topics, self.passages, depth)
        if self.args.qrels and qrels.keys().isdisjoint(run):
            raise InputError(
                f"--qrels {self.args.qrels}: none of the run's topics is judged there (run: {next(iter(run))}, "
                f"qrels: {next(iter(qrels), 'none')}); give the qrels of these topics"
                f"{', or a larger --limit' if self.args.limit else ''}"
            )
        return {topic: grades for topic, grades in qrels.items() if topic in topics} if self.args.limit else qrels

    def _reranker(self, planned: bool = False) -> Reranker:
        compiled = self.args.compile and not planned
        if compiled and (self.team is None or self.team.main):
            say("compiling the model's layers, which takes a minute or so")
        return Reranker.from_pretrained(
            self.args.model,
            self.args.adapter,
            prompt=self.prompt,
            dtype=self.args.dtype,
            device=self.team.device(self.args.device) if self.team else self.args.device,
            batch_tokens=self.args.batch_tokens,
            max_passage_tokens=self.args.max_passage_tokens,
            share_passages=self.args.share_passages,
            compare=self.args.compare,
            compile=compiled,
        )

    def _plan(self, run: Run, topics: dict[str, Topic], passages: Passages) -> None:
        from qpeft_rerank.plan import plan_lines

        template, methods = self.prompt or load_template(DEFAULT_PROMPT), None
        if self.args.adapter or self.args.compare:  # how many hints there are is the adapter's to say
            reranker = self._reranker(planned=True)
            template, methods = reranker.scorer.template, reranker.methods
        for line in self.outputs.plan():
            say(line)
        for line in plan_lines(run, topics, passages, self.args, template, methods):
            say(line)

    def _limited(self, topics: dict[str, Topic]) -> dict[str, Topic]:
        return dict(islice(topics.items(), self.args.limit))

    def _first_stage(self, topics: dict[str, Topic]) -> Run:
        if self.args.run is not None:
            return read_run(self.args.run)
        index_name = str(self.index)  # there is one where no run is given
        topics = self._limited(topics)
        say(f"searching {index_name} with {len(topics):,} topics of {self.topics_name}")
        # What is searched knows how it spells the docids that it found: passages are fetched from it, not from another.
        passages = self.passages
        index = passages if isinstance(passages, LuceneIndex) else lucene.open_index(index_name, self.args.language)
        hits = self.args.hits or max(_HITS, self.args.depth)
        found = index.search(topics, hits=hits, threads=self.args.threads or 1, order=self.topics_name)
        run = {topic: listed for topic, listed in found if listed}
        if not run:
            raise InputError(f"index {index_name} finds nothing for any topic of {self.topics_name}")
        sources.say_unfound(topics, run)
        return run

    def _rerank(
        self, reranker: Reranker, given: Inputs, journal: Journal | None, share: Share | None
    ) -> list[RerankedRun]:
        from tqdm import tqdm

        run, topics = given.run, given.topics
        total = count_pairs(run, self.args.depth) * (1 + len(self.args.compare))
        silent = share is not None and not share.team.main
        with tqdm(total=total, unit="pair", desc="scoring", file=sys.stderr, smoothing=0, disable=silent) as bar:
            depth, alpha, missing = self.args.depth, self.args.alpha, self.args.missing

            def advance(scores: int) -> None:
                # What the journal had took no time: the rate, and so the time left, is that of the others.
                bar.initial = journal.spared if journal else 0
                bar.update(scores)

            if self.args.certify:

                def again(more: int) -> None:
                    bar.total = (bar.total or 0) + more
                    bar.refresh()

                asked = {"depth": depth, "missing": missing, "journal": journal, "again": again}
                first = self.args.certify
                return [reranker.certified_run(run, topics, self.passages, first, progress=advance, **asked)]

            def score(part: Run, own: Journal | None, done: Callable[[int], object]) -> list[RerankedRun]:
                how = {"depth": depth, "alpha": alpha, "missing": missing}
                return reranker.compare_run(part, topics, self.passages, journal=own, progress=done, **how)

            if share:
                return share.rerank(run, depth, alpha, journal, score, lambda scores: bar.update(scores - bar.n))
            return score(run, journal, advance)

    def _say_found(self, result: RerankedRun, others: list[RerankedRun]) -> None:
        if result.missing:
            topic, docid = result.missing[0]
            say(
                f"{len(result.missing):,} passages are not in {self.passages.name} and keep their place below the "
                f"reranked ones (first: {docid} of topic {topic})"
            )
        if result.certificate:
            say(result.certificate.sentence)
        for way, method in zip([*others, result], [*self.outputs.compared, self.outputs.method], strict=True):
            if cut := sum(pair.score.truncated for pair in way.pairs):
                told = "; --scores tells which" if way is result else f" under {method}"
                say(f"{cut:,} passages were cut to fit{told}")

    def _report(self, given: Inputs, results: list[RerankedRun]) -> None:
        run, topics, qrels = given.run, given.topics, given.qrels
        # stdout belongs to the run, or to the scores, when they go there.
        out = sys.stdout if self.outputs.is_file and self.args.scores != "-" else sys.stderr
        for line in report.before_and_after(run, results[-1].run, topics, self.passages, qrels, self.args.show):
            print(line, file=out)
        if not qrels:
            return
        names = [*self.outputs.compared, self.outputs.method]
        lines, found = report.measured(run, zip(names, results, strict=True), qrels, self.args.measures)
        for line in lines:
            print(line, file=out)
        if found.missing:
            say(f"{len(found.missing)} judged topics are not in the run and count 0")
        if found.unjudged:
            say(f"{len(found.unjudged)} topics without judgements do not count")
