"""From a condition to its steps: index, sample, retrieve, judge, (mine, train | untrained), rerank, evaluate."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eval.conditions import Condition
from eval.design import MEASURES, Dataset, FirstStage, Scale
from eval.recipe import mine_words, recipe_of, sequences_of, train_words
from eval.steps import (
    OUTPUT,
    Source,
    Step,
    adapter_source,
    file_source,
    index_source,
    model_source,
    name_source,
    prompt_source,
    set_source,
)
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import at_home
from qpeft_rerank.training.presets import adapter_options

# Options of the adapters that a table may vary under a plain name.
_OPTIONS = ("filters",)
# Flags of `train` among the settings that say what is trained; `eval.recipe` has those that say how.
_FLAGS = ("k", "heads")
# Epochs of the presets, for estimates only; early stopping may end a training sooner.
_EPOCHS = {"corrected": 5, "faithful": 20}
Split = Literal["test", "dev"]


@dataclass(frozen=True)
class Chain:
    """Makes the steps of conditions at one scale.

    :param data: the data folder; only the files that a step takes are looked at.
    :param prompts: folder of the prompts with hints before the passage.
    :param running: words for rerank and train that change no result, such as ``--device cuda``.
    :param training: such words for train alone.
    :param datasets: those that others take adapters from (``trained_on``).
    """

    scale: Scale
    data: Path | None
    prompts: Path
    running: tuple[str, ...] = ()
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    training: tuple[str, ...] = ()
    _made: dict[str, Step] = field(default_factory=dict)
    _known: dict[tuple[Callable[[Any], Source], Any], Source] = field(default_factory=dict)

    def evaluation(self, condition: Condition) -> Step:
        """The last step: all measures by topic, as JSON."""
        run = self.candidates(condition)
        if condition.method.kind != "first-stage":
            run = self.rerank(condition)
        words = ("--qrels", self.judgements(condition), "--run", run, "--topics", self.topics(condition))
        asked = ("--measures", *MEASURES, "--per-topic", "--format", "json")
        return self._step(
            "evaluate", condition.name, "qpeft_rerank.evaluate", (*words, *asked), "values.json", prints=True
        )

    def has_dev(self, condition: Condition) -> bool:
        """Tell whether there are dev questions with candidates: not where a run made elsewhere is reranked, and not
        where a data set brings its own topics and run, which are those to test on.
        """
        dataset = condition.dataset
        if condition.first_stage.kind != "search" or self._given(dataset):
            return False
        if not self.scale.corpus:
            return bool(dataset.dev_topics)
        return self.data is not None and (self.data / f"topics.{dataset.folder}.dev.jsonl").is_file()

    def topics(self, condition: Condition, split: Split = "test") -> Step:
        """The topics: all of them or a sample."""
        dataset, scale = condition.dataset, self.scale
        if scale.corpus:
            source = self._file(dataset.given.get("topics", f"topics.{dataset.folder}.{split}.jsonl"))
        else:
            name = dataset.topics if split == "test" else dataset.dev_topics
            if not name:
                raise InputError(f"{dataset.name}: names no {split} topics for --scale {scale.name}; leave it out")
            source = self._once(set_source, name)
        count = scale.topics if split == "test" else scale.dev_queries
        words = ("--topics", source, "--count", str(count), "--pick", scale.pick)
        # The first ones are the same whatever the seed, so that trainings with several seeds share what they can.
        seed = ("--seed", str(scale.seed)) if scale.pick == "seeded" else ()
        label = _label(dataset.name, split)
        return self._step("sample", label, "eval.sample", (*words, *seed, "--output", OUTPUT), "topics.jsonl")

    def candidates(self, condition: Condition, split: Split = "test") -> Step:
        """The first stage's run, as deep as is reranked."""
        stage, scale = condition.first_stage, self.scale
        label, topics = _label(f"{condition.dataset.name}.{stage.name}", split), self.topics(condition, split)
        own = condition.dataset.given.get("run") if scale.corpus else None
        if stage.kind == "run" or own:
            path = at_home(stage.path.replace("{dataset}", condition.dataset.name))
            source = file_source(path) if stage.kind == "run" else self._file(str(own))
            words: tuple[Any, ...] = ("--run", source, "--topics", topics, "--depth", str(scale.depth))
            return self._step("candidates", label, "eval.candidates", (*words, "--output", OUTPUT), "run.trec")
        return self._search(label, topics, scale.depth, stage, condition.dataset)

    def judgements(self, condition: Condition, split: Split = "test") -> Step:
        """Which candidates hold an answer, as TREC qrels; or the data set's own judgements of these topics."""
        dataset = condition.dataset
        words = ("--run", self.candidates(condition, split), "--topics", self.topics(condition, split))
        passages = (*self._passages(dataset), *(("--regex",) if dataset.regex else ()))
        if dataset.qrels:
            own = self._file(dataset.given["qrels"]) if self._given(dataset) else self._once(set_source, dataset.qrels)
            passages = ("--qrels", own)
        label = _label(f"{condition.dataset.name}.{condition.first_stage.name}", split)
        return self._step("judge", label, "eval.judge", (*words, *passages, "--output", OUTPUT), "qrels.txt")

    def rerank(self, condition: Condition, split: Split = "test") -> Step:
        """The reranked run."""
        scale = self.scale
        words: list[Any] = ["--run", self.candidates(condition, split), "--topics", self.topics(condition, split)]
        words += [*self._passages(condition.dataset), "--depth", str(scale.depth), "--model", self._model(condition)]
        if condition.method.kind == "prompt":
            words += ["--prompt", self._prompt(condition)]
        elif condition.method.kind == "ready":
            words += ["--adapter", self._once(adapter_source, condition.method.adapter)]
        else:
            words += ["--adapter", self.adapter(condition)]
        size = condition.dataset.test_size
        count = scale.dev_queries if split == "dev" else min(scale.topics or size, size or scale.topics)
        return self._step(
            "rerank",
            _label(condition.name, split),
            "qpeft_rerank.rerank",
            (*words, *self._limits(), "--output", OUTPUT),
            "run.trec",
            running=self.running,
            operations=self._operations(count * scale.depth),
            joins=self._joins(condition),
        )

    def _joins(self, condition: Condition) -> bool:
        """Tell whether a reranker reads passages as the scale's prompt has them, before any hint."""
        method = condition.method
        if method.kind == "ready":
            return True
        if method.kind != "prompt" and not method.adapter.startswith("qpeft"):
            return False
        return self._prompt(condition).digest == prompt_source(self.scale.prompt).digest

    def adapter(self, condition: Condition) -> Step:
        """The adapter of a method: untrained, or trained on the dataset's own questions or another's."""
        method, preset = condition.method, condition.get("preset")
        words: list[Any] = ["--adapter", method.adapter, "--model", self._model(condition)]
        words += ["--prompt", self._prompt(condition), *(("--preset", preset) if preset else ())]
        options = dict(method.options) | {name: condition.get(name) for name in _OPTIONS if condition.get(name)}
        given = {name: condition.get(name) for name in _FLAGS if condition.get(name) is not None}
        if method.kind == "untrained":
            # What its training would start from; a preset of its own says all itself.
            cells = {} if preset else adapter_options(method.adapter, self._trainer(condition.dataset).cells)
            options = cells | options | given
            words += [*_option_words(options), "--seed", str(self.scale.seed)]
            return self._step(
                "untrained", method.name, "eval.untrained", (*words, "--output", OUTPUT), "adapter", "adapter"
            )
        return self._trained(condition, words, options, given)

    def _trained(
        self, condition: Condition, words: list[Any], options: Mapping[str, Any], given: Mapping[str, Any]
    ) -> Step:
        scale, dataset = self.scale, self._trainer(condition.dataset)
        queries = int(condition.get("queries", scale.queries))
        recipe = recipe_of(condition, scale)
        if dataset.cells and condition.method.adapter.startswith("qpeft"):
            words += ["--dataset", dataset.cells]
        words += [word for name, value in given.items() for word in (f"--{name}", str(value))]
        words += train_words(recipe)
        words += [*_option_words(options), "--train", self._training_file(dataset, queries, mine_words(recipe))]
        words += ["--queries", str(queries), "--dev-queries", str(scale.dev_queries), "--seed", str(scale.seed)]
        depth = scale.dev_depth
        if scale.corpus:
            topics = self._file(f"topics.{dataset.folder}.dev.jsonl")
            run = self._search(f"{dataset.name}.dev", topics, depth)
            words += ["--dev-topics", topics, "--dev-run", run, "--dev-corpus", self._file(scale.corpus)]
            words += ["--dev-depth", str(depth)]
        else:
            words += ["--dev", self._fetched(dataset, dataset.dev, "dev")]
        epochs = int(recipe.get("epochs", _EPOCHS.get(condition.get("preset", "corrected"), 5)))
        # Dev after each epoch, before the first, and without the adapter.
        sequences = sequences_of(recipe, queries, epochs) + (epochs + 2) * scale.dev_queries * depth
        return self._step(
            "train",
            f"{dataset.name}.{condition.row}",
            "qpeft_rerank.train",
            (*words, *self._limits(), "--output", OUTPUT),
            "adapter",
            "adapter",
            running=(*self.running, *self.training),
            operations=self._operations(sequences),
        )

    def _trainer(self, dataset: Dataset) -> Dataset:
        if dataset.trained_on is None:
            return dataset
        if dataset.trained_on not in self.datasets:
            raise InputError(f"{dataset.name}: takes adapters of {dataset.trained_on}, which the matrix lacks")
        return self.datasets[dataset.trained_on]

    def _training_file(self, dataset: Dataset, queries: int, kept: Sequence[str]) -> Any:
        if not self.scale.corpus:
            return self._fetched(dataset, dataset.train, "train")
        words = ("--index", self._index(), "--topics", self._file(f"topics.{dataset.folder}.train.jsonl"))
        limit = ("--limit", str(queries)) if queries else ()
        seed = ("--seed", str(self.scale.seed)) if queries else ()
        rest = (*limit, *kept, *seed, "--output", OUTPUT)
        return self._step("mine", dataset.name, "qpeft_rerank.mine", (*words, *rest), "mined.jsonl")

    def _fetched(self, dataset: Dataset, address: str, split: str) -> Any:
        """A file of DPR's: from the data folder where it is there, else fetched."""
        if not address:
            why = "names nothing to train on (train and dev, or the set trained_on)"
            raise InputError(f"{dataset.name}: {why} for --scale {self.scale.name}; leave its trained methods out")
        name = address.rpartition("/")[2]
        if self.data is not None and (self.data / name).is_file():
            return self._file(name)
        words = (name_source(address), "--output", OUTPUT)
        return self._step("fetch", f"{dataset.name}.{split}", "eval.fetch", words, name)

    def _search(
        self, label: str, topics: Any, hits: int, stage: FirstStage | None = None, dataset: Dataset | None = None
    ) -> Step:
        words: list[Any] = ["--index", self._index(dataset), "--topics", topics, "--hits", str(hits)]
        if stage is not None and stage.k1 is not None and stage.b is not None:
            words += ["--k1", str(stage.k1), "--b", str(stage.b)]
        return self._step("retrieve", label, "qpeft_rerank.retrieve", (*words, "--output", OUTPUT), "run.trec")

    def _index(self, dataset: Dataset | None = None) -> Any:
        if not self.scale.corpus:
            return self._once(index_source, str((dataset.index if dataset else None) or self.scale.index))
        words = ("--corpus", self._file(self.scale.corpus), "--output", OUTPUT)
        return self._step("index", self.scale.corpus, "eval.index", words, "lucene", "index")

    def _given(self, dataset: Dataset) -> bool:
        """Tell whether a data set brings its own files."""
        return bool(self.scale.corpus and dataset.given)

    def _passages(self, dataset: Dataset) -> tuple[Any, ...]:
        """Where texts are read: a passage file needs no Java."""
        if self.scale.corpus:
            return ("--corpus", self._file(dataset.given.get("corpus", self.scale.corpus)))
        return ("--index", self._index(dataset))

    def _model(self, condition: Condition) -> Source:
        return self._once(model_source, str(condition.get("model", self.scale.model)))

    def _prompt(self, condition: Condition) -> Source:
        name = condition.prompt(self.scale)
        if condition.get("hints", "after") == "before":
            path = self.prompts / f"{name}.yaml"
            if not path.is_file():
                raise InputError(f"{condition.name}: no prompt {path} with hints before the passage")
            # As it would be typed here: commands are published.
            name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        return prompt_source(name)

    def _limits(self) -> tuple[str, ...]:
        """What decides scores, apart from model and prompt."""
        scale = self.scale
        cut = ("--max-passage-tokens", str(scale.max_passage_tokens)) if scale.max_passage_tokens else ()
        return (*cut, *(("--dtype", scale.dtype) if scale.dtype else ()))

    def _operations(self, sequences: int) -> float:
        return 2.0 * self.scale.parameters * self.scale.pair_tokens * sequences

    def _file(self, name: str) -> Source:
        if self.data is None:
            raise InputError(f"--scale {self.scale.name}: needs --data DIR, a folder with {self.scale.corpus}")
        path = self.data / name
        if not path.is_file():
            raise InputError(f"{path}: no such file; give a --data folder that has it, or leave its --datasets out")
        return self._once(file_source, path)

    def _once(self, look: Callable[[Any], Source], of: Any) -> Source:
        """What ``look`` finds out about a file, a model or an adapter, which may be large; looked at once."""
        if (look, of) not in self._known:
            self._known[look, of] = look(of)
        return self._known[look, of]

    def _step(self, kind: str, label: str, module: str, words: tuple[Any, ...], *more: Any, **named: Any) -> Step:
        step = Step(kind, label, module, words, *more, **named)
        return self._made.setdefault(step.key, step)


def _label(name: str, split: Split) -> str:
    return name if split == "test" else f"{name}, {split}"


def _option_words(options: Mapping[str, Any]) -> list[str]:
    def said(value: Any) -> str:
        # A text that begins as JSON does, such as a regular expression, is read as one in quotes only.
        return value if isinstance(value, str) and not value.startswith(("[", "{")) else json.dumps(value)

    return [word for name, value in options.items() for word in ("--option", f"{name}={said(value)}")]
