"""Indexes made by Anserini itself, with what is said."""

import subprocess
from pathlib import Path

from qpeft_rerank.collection.jvm import anserini_jar, find_java


def index_by_hand(passages: Path, target: Path, *options: str, collection: str = "JsonCollection") -> None:
    """An index that stores docids, and what else the options say."""
    command = [str(find_java().executable), "-cp", str(anserini_jar()), "io.anserini.index.IndexCollection"]
    command += ["-collection", collection, "-generator", "DefaultLuceneDocumentGenerator"]
    command += ["-input", str(passages), "-index", str(target), "-threads", "1", *options]
    subprocess.run(command, check=True, capture_output=True)
