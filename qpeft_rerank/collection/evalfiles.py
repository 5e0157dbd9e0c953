"""Topics and qrels files by name: found in Pyserini's cache, else fetched from where they live now.

The folder that released versions of Pyserini download from was split in two upstream in August 2026, so
their own download fails. The files are fetched here, from the new folders first, and then read from the cache.
"""

import http.client
import os
import urllib.request
from pathlib import Path
from typing import Any, Literal

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import at_home, write_whole

Kind = Literal["topics", "qrels"]

SOURCES: tuple[str, ...] = (
    "https://raw.githubusercontent.com/castorini/anserini-tools/master/{kind}/{file}",
    "https://raw.githubusercontent.com/castorini/anserini-tools/master/topics-and-qrels/{file}",
)
TIMEOUT = 20.0

_READERS = "io.anserini.search.topicreader."
# For Pyserini 2.4 and later, whose list of names is on the network, when there is none: the sets this
# project's papers use, so that a file put into the cache by hand is found.
OFFLINE: dict[Kind, dict[str, Any]] = {
    "topics": {
        name: {"path": f"topics.{file}.txt", "reader_class": _READERS + reader}
        for name, file, reader in (
            ("dl19-passage", "dl19-passage", "TsvIntTopicReader"),
            ("dl20-passage", "dl20", "TsvIntTopicReader"),
            ("dl20", "dl20", "TsvIntTopicReader"),
            ("msmarco-passage-dev-subset", "msmarco-passage.dev-subset", "TsvIntTopicReader"),
            ("dpr-nq-dev", "dpr.nq.dev", "DprNqTopicReader"),
            ("dpr-nq-test", "dpr.nq.test", "DprNqTopicReader"),
            ("dpr-trivia-dev", "dpr.trivia.dev", "DprNqTopicReader"),
            ("dpr-trivia-test", "dpr.trivia.test", "DprNqTopicReader"),
            ("dpr-wq-test", "dpr.wq.test", "DprJsonlTopicReader"),
            ("dpr-squad-test", "dpr.squad.test", "DprJsonlTopicReader"),
        )
    },
    "qrels": {
        "dl19-passage": "qrels.dl19-passage.txt",
        "dl20-passage": "qrels.dl20-passage.txt",
        "msmarco-passage-dev-subset": "qrels.msmarco-passage.dev-subset.txt",
    },
}


def pyserini_cache() -> Path:
    """Return the folder where Pyserini keeps its downloads: ``$PYSERINI_CACHE``, else ``~/.cache/pyserini``.

    Only for messages and for files of our own: Pyserini finds its indexes itself (from 2.4 on it prefers
    ``./.cache/pyserini`` where ``./.cache`` exists).
    """
    chosen = os.environ.get("PYSERINI_CACHE")
    return Path(chosen) if chosen else at_home("~/.cache/pyserini")


def evaluation_file(kind: Kind, file: str, first: tuple[str, ...] = ()) -> Path:
    """Return the path of a topics or qrels file, downloading it into the cache if it is not there yet.

    ``first`` are addresses to try before :data:`SOURCES`. Raises :class:`InputError` naming the folder
    where the file can be put by hand.
    """
    # The second is Pyserini's from 2.4 on; in the last its Java side looks, whatever PYSERINI_CACHE says.
    folders = [pyserini_cache() / "topics-and-qrels", pyserini_cache() / kind]
    folders.append(at_home("~/.cache/pyserini/topics-and-qrels"))
    for folder in folders:
        if os.path.isfile(folder / file):
            return folder / file
    faults = []
    for source in (*first, *SOURCES):
        url = source.format(kind=kind, file=file)
        try:
            return _download(url, folders[0] / file)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            faults.append(f"{url}: {' '.join(str(reason).split())}")
    raise InputError(
        f"{file} is neither in the cache nor to be downloaded ({'; '.join(faults)}); "
        f"put the file into {folders[0]} by hand, or give a local {kind} file"
    )


def _download(url: str, target: Path) -> Path:
    request = urllib.request.Request(url, headers={"User-Agent": "qpeft_rerank"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        content = response.read()
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content)  # a half-written file would be trusted for ever
    return target
