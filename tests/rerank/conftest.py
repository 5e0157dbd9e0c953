"""A first stage, a tiny model, and the words of a good reranking command."""

from pathlib import Path

import pytest
import tiny

from tests.rerank.first_stage import RUN


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save_model(tmp_path_factory.mktemp("model") / "tiny-llama"))


@pytest.fixture
def run_file(tmp_path: Path) -> str:
    path = tmp_path / "first.trec"
    path.write_text(RUN, "utf-8")
    return str(path)


@pytest.fixture
def command(tmp_path: Path, run_file: str, tiny_corpus: Path, tiny_topics: Path, model: str):
    """The arguments of a good command; a test changes what it is about."""

    def arguments(**changed: object) -> list[str]:
        options: dict[str, object] = {
            "run": run_file,
            "corpus": tiny_corpus,
            "topics": tiny_topics,
            "model": model,
            "output": tmp_path / "out.trec",
            "dtype": "float32",
            "device": "cpu",
        }
        options.update(changed)
        words: list[str] = []
        for name, value in options.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                words.append(flag)
            elif value is not None:
                words += [flag, str(value)]
        return words

    return arguments
