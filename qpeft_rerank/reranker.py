"""The public API: rerank passages, score pairs, rewrite a TREC run."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as ListLike
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import NamedTuple

from qpeft_rerank.candidates import candidates, check_asked
from qpeft_rerank.certify import Name, certify
from qpeft_rerank.collection.passages import Passages
from qpeft_rerank.engines.local import Candidate, LocalEngine
from qpeft_rerank.errors import InputError, check_count
from qpeft_rerank.fusion import check_alpha
from qpeft_rerank.given import Named, Readable, checked_passages, paired, spelled, spelled_list, watchers
from qpeft_rerank.likelihood.batches import batch_size
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.likelihood.compile_scorers import compile_scorers
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.quick import load_for_scoring
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.likelihood.shared import Mode
from qpeft_rerank.methods import AUTO_ADAPTER, check_compared, checked_limit, chosen_adapter, load_scorers
from qpeft_rerank.prompt.templates import Template, load_template
from qpeft_rerank.results import RerankedRun, ScoredPair, in_order, merge
from qpeft_rerank.trec.pairs import grouped, listed
from qpeft_rerank.trec.runs import Run
from qpeft_rerank.trec.topics import Topic

DEFAULT_DEPTH = 100


class Ranked(NamedTuple):
    """A passage's place in the list given, counted from 0, and its log-likelihood in nats."""

    place: int
    score: float


class Reranker:
    """Reranks by the likelihood that a causal language model gives the query after the passage.

    :param scorer: model, prompt and adapter.
    :param batch_tokens: tokens in one forward pass, padding included; None chooses by device.
    :param share_passages: read a passage once for all its queries: where it saves 5 % of the tokens
        (``auto``), any (``on``), or never (``off``). Scores differ by rounding only.
    :param compared: further ways of scoring, which only :meth:`compare_run` takes; they share passages too.
    :param exact: loads the same in float32, for :meth:`certified_run` where the model cannot be made so itself.
    """

    def __init__(
        self,
        scorer: Scorer,
        batch_tokens: int | None = None,
        share_passages: Mode = "auto",
        compared: ListLike[Scorer] = (),
        exact: Callable[[], Scorer] | None = None,
    ) -> None:
        self.scorer = scorer
        self._exact_scorer = None if exact is None else cache(exact)
        self.methods = Methods([scorer, *compared], share_passages)
        self._alone = Methods([scorer], share_passages) if compared else self.methods
        self.batch_tokens = batch_size(batch_tokens, scorer.model.device)

    @classmethod
    def from_pretrained(
        cls,
        model: Named = "embedded",
        adapter: Named | None = AUTO_ADAPTER,
        *,
        prompt: Named | Template | None = None,
        dtype: str = "auto",
        device: str = "auto",
        batch_tokens: int | None = None,
        max_passage_tokens: int | None = None,
        share_passages: Mode = "auto",
        compare: ListLike[Named] | None = (),
        compile: bool = False,
    ) -> "Reranker":
        """Load a reranker; names may be paths.

        :param model: hub name, folder, GGUF file, or ``embedded`` (SmolLM2-135M-Instruct).
        :param adapter: Q-PEFT's or PEFT's: folder, hub name, or one that ships; None or ``none``; ``auto`` is
            ``smollm2-135m-a`` for the embedded model where no prompt is named, else none.
        :param prompt: a prompt's name, a YAML file, or a :class:`Template`; None takes the adapter's
            own, else ``plain``.
        :param dtype: ``float32``, ``mixed`` (products in bfloat16, all else in float32), ``bfloat16``, ``float16``,
            ``int8`` (weights alone, the rest in bfloat16) or ``auto``.
        :param device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        :param share_passages: ``auto``, ``on`` or ``off``; see :class:`Reranker`.
        :param compare: further adapters for :meth:`compare_run`, each under its own prompt; ``none`` is the
            model without one, under ``prompt``.
        :param compile: compile the model's layers; see :func:`~qpeft_rerank.likelihood.compile_scorers.compile_scorers`.
        :raises InputError: with one line saying what is wrong with which of these.
        """
        name, others = spelled("model", model), spelled_list("compare", compare)
        main = None if adapter is None else chosen_adapter(spelled("adapter", adapter), name, prompt is not None)
        template = prompt if isinstance(prompt, Template | None) else load_template(spelled("prompt", prompt))
        max_passage_tokens = checked_limit(max_passage_tokens)
        check_compared(main, others)

        def load(whole: bool, precision: str = dtype) -> CausalModel:
            return (LanguageModel.load if whole else load_for_scoring)(name, precision, device)

        def scorers(load: Callable[[bool], CausalModel], compared: ListLike[str] = ()) -> list[Scorer]:
            made = load_scorers(load, main, compared, template, max_passage_tokens)
            if compile:
                compile_scorers(made)
            return made

        scorer, *compared = scorers(load, others)
        exact = partial(load, precision="float32")
        return cls(scorer, batch_tokens, share_passages, compared, lambda: scorers(exact)[0])

    def score(self, pairs: Iterable[tuple[str, Readable]]) -> list[Score]:
        """Log-likelihood of each query given its passage, in the order given; passages as in :meth:`rerank`."""
        candidates = list(paired(pairs))
        order = grouped([candidate.texts[1:] for candidate in candidates])
        engine = LocalEngine(self._alone, self.batch_tokens)
        found = engine.score(candidates[place] for place in order)
        scores = {place: score for place, (score,) in zip(order, found, strict=True)}
        return [scores[place] for place in range(len(candidates))]

    def rerank(self, query: str, passages: ListLike[Readable]) -> list[Ranked]:
        """Passages of one query, the likeliest first; equal ones keep the order given.

        :param passages: texts, :class:`Passage` objects, or hits of Pyserini's ``LuceneSearcher``, as they are.
        """
        scores = self.score((query, passage) for passage in checked_passages(passages))
        order = sorted(range(len(scores)), key=lambda place: (-scores[place].total, place))
        return [Ranked(place, scores[place].total) for place in order]

    def rerank_run(
        self,
        run: Run,
        topics: Mapping[str, Topic],
        passages: Passages,
        *,
        depth: int = DEFAULT_DEPTH,
        alpha: float = 1.0,
        missing: str = "strict",
        journal: Journal | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> RerankedRun:
        """Rewrite a run: the first ``depth`` of each topic by likelihood, the rest below in their order.

        :param alpha: weight of the likelihood against the first stage (:func:`~qpeft_rerank.fusion.interpolate`).
        :param missing: ``strict`` raises for a docid that is not in the collection, ``skip`` leaves it
            in the tail and lists it.
        :param journal: keeps each scored batch; a second call goes on where the first was stopped.
        :param progress: called with the number of candidates done, after each batch.
        :raises InputError: before anything is scored, for a topic without text, a query that does not fit, a depth,
            an alpha or a ``missing`` that cannot be, and a missing docid of passages that can be surveyed.
        """
        return self._rerank(self._alone, run, topics, passages, depth, alpha, missing, journal, progress)[0]

    def compare_run(
        self,
        run: Run,
        topics: Mapping[str, Topic],
        passages: Passages,
        *,
        depth: int = DEFAULT_DEPTH,
        alpha: float = 1.0,
        missing: str = "strict",
        journal: Journal | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> list[RerankedRun]:
        """The same run rewritten by each compared method, and last by the reranker's own.

        Each has the scores of its own :meth:`rerank_run`, but methods whose hints follow the same words
        read a passage together. ``progress`` counts scores, of all methods.
        """
        own, *compared = self._rerank(self.methods, run, topics, passages, depth, alpha, missing, journal, progress)
        return [*compared, own]

    def certified_run(
        self,
        run: Run,
        topics: Mapping[str, Topic],
        passages: Passages,
        first: int,
        *,
        depth: int = DEFAULT_DEPTH,
        missing: str = "strict",
        journal: Journal | None = None,
        progress: Callable[[int], object] | None = None,
        again: Callable[[int], object] | None = None,
    ) -> RerankedRun:
        """The run rewritten so that each topic's first ranks are float32's, at less than float32's cost.

        Everything is scored in the reranker's own precision, then what is open (:mod:`~qpeft_rerank.certify`) in
        float32, until nothing is. Pairs that were scored twice carry the float32 score.

        :param first: how many ranks of each topic.
        :param again: called with the number of pairs to be scored again, before each round of it.
        :raises InputError: as :meth:`rerank_run` does, and if the reranker's precision is float32.
        """
        check_count("first", first)
        progress, again = watchers(journal, progress=progress, again=again)
        if self.scorer.model.precision == "float32":
            raise InputError("--certify: float32 scores need no certificate; take --dtype mixed")
        check_asked([self.scorer], run, topics, passages, depth, missing)
        self._exact()  # before hours of scoring: a second model may not fit into memory
        absent: list[tuple[str, str]] = []
        engine = LocalEngine(self._alone, self.batch_tokens, journal)
        if journal:
            journal.begin(f"{_digest(engine, run, depth)} first {first}")
        result = RerankedRun({}, missing=absent)
        (result.pairs,) = self._scored(engine, run, topics, passages, depth, missing, absent, progress)
        sure: dict[Name, Score] = {}
        with self.in_float32() as scorer:
            exact = LocalEngine(Methods([scorer], self.methods.mode), self.batch_tokens, journal)

            def rescore(wanted: set[Name]) -> dict[Name, float]:
                again(len(wanted))
                some = {
                    topic: [hit for hit in hits[:depth] if (topic, hit.docid) in wanted] for topic, hits in run.items()
                }
                (pairs,) = self._scored(exact, some, topics, passages, depth, missing, [], progress)
                sure.update((pair[:2], pair.score) for pair in pairs)
                return {pair[:2]: pair.score.total for pair in pairs}

            result.certificate = certify({pair[:2]: pair.score.total for pair in result.pairs}, first, rescore)
        result.pairs = [pair._replace(score=sure.get(pair[:2], pair.score)) for pair in result.pairs]
        result.run = merge(run, result.pairs)
        return result

    def in_float32(self) -> AbstractContextManager[Scorer]:
        """A float32 scorer, of the model changed for a while or of another; :class:`InputError` where none is known."""
        exact = self._exact()
        return self.scorer.in_float32() if exact is None else nullcontext(exact)

    def _exact(self) -> Scorer | None:
        """A float32 scorer of another model, loaded once; None where its own can be changed."""
        if self.scorer.model.can_be_exact:
            return None
        if self._exact_scorer is None:
            raise InputError("--certify: this reranker knows no float32 scorer of its model; make it with exact=")
        return self._exact_scorer()

    def _rerank(
        self,
        methods: Methods,
        run: Run,
        topics: Mapping[str, Topic],
        passages: Passages,
        depth: int,
        alpha: float,
        missing: str,
        journal: Journal | None,
        progress: Callable[[int], object] | None,
    ) -> list[RerankedRun]:
        check_alpha(alpha)
        (progress,) = watchers(journal, progress=progress)
        check_asked(methods.scorers, run, topics, passages, depth, missing)
        engine = LocalEngine(methods, self.batch_tokens, journal)
        if journal:
            journal.begin(_digest(engine, run, depth))
        absent: list[tuple[str, str]] = []
        found = self._scored(engine, run, topics, passages, depth, missing, absent, progress)
        return [RerankedRun(merge(run, pairs, alpha), pairs, absent) for pairs in found]

    def _scored(
        self,
        engine: LocalEngine,
        run: Run,
        topics: Mapping[str, Topic],
        passages: Passages,
        depth: int,
        missing: str,
        absent: list[tuple[str, str]],
        progress: Callable[[int], object],
    ) -> list[list[ScoredPair]]:
        """The pairs of each of an engine's methods, in the first stage's order."""
        # Texts are held from their fetching to their scoring, and no longer.
        waiting: deque[Candidate] = deque()

        def remembered() -> Iterator[Candidate]:
            for candidate in candidates(run, topics, passages, depth, missing, absent, engine.by_passage):
                waiting.append(candidate)
                yield candidate

        found: list[list[ScoredPair]] = [[] for _ in engine.methods.scorers]
        for scores in engine.score(remembered(), progress):
            candidate = waiting.popleft()
            for pairs, score in zip(found, scores, strict=True):
                pairs.append(ScoredPair(candidate.topic.id, candidate.passage.docid, score))
        lost = set(absent)
        absent[:] = [name for name in listed(run, depth) if name in lost]
        return [in_order(run, depth, pairs) for pairs in found]


def _digest(engine: LocalEngine, run: Run, depth: int) -> str:
    return engine.run_digest(listed(run, depth, engine.by_passage))
