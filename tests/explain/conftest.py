"""A tiny model, its adapters, and the words of a command that explains."""

import json
from pathlib import Path

import pytest
import tiny

from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import save_adapter
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.prompt.templates import load_template
from tests.explain.awkward import KINDS, PASSAGES, TOPICS


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "tiny-llama", max_position_embeddings=1024)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(model_folder), "float32", "cpu")


@pytest.fixture(scope="module")
def adapters(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained adapters on disk."""
    folder, template = tmp_path_factory.mktemp("adapters"), load_template("qpeft")
    made = {kind: create_adapter(kind, model, template) for kind in KINDS[1:]}
    return {kind: save_adapter(adapter, model, template, folder / kind) for kind, adapter in made.items()}


@pytest.fixture
def command(tmp_path: Path, model_folder: Path, adapters: dict[str, Path]):
    """The arguments of a good command for an adapter."""
    corpus = [json.dumps({"id": id_, "title": title, "text": text}) for id_, title, text in PASSAGES]
    (tmp_path / "corpus.jsonl").write_text("\n".join(corpus) + "\n", "utf-8")
    (tmp_path / "topics.tsv").write_text("".join(f"{id_}\t{text}\n" for id_, text in TOPICS.items()), "utf-8")
    run = [(topic, docid) for topic in TOPICS for docid, _, _ in PASSAGES]
    lines = [f"{topic} Q0 {docid} {place} {-place} x\n" for place, (topic, docid) in enumerate(run, 1)]
    (tmp_path / "first.trec").write_text("".join(lines), "utf-8")

    def arguments(kind: str = "plain", *more: str) -> list[str]:
        named = {"run": "first.trec", "corpus": "corpus.jsonl", "topics": "topics.tsv", "output": "out.trec"}
        words = [word for flag, file in named.items() for word in (f"--{flag}", str(tmp_path / file))]
        words += ["--model", str(model_folder), "--dtype", "float32", "--device", "cpu"]
        words += ["--explain", str(tmp_path / "page.html"), "--overwrite"]
        return [*words, *(() if kind == "plain" else ("--adapter", str(adapters[kind]))), *more]

    return arguments
