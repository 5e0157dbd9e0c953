"""Build a Lucene index from JSON passages, whole or not at all."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from qpeft_rerank.collection.jvm import anserini_jar, find_java
from qpeft_rerank.collection.spelling import environment
from qpeft_rerank.errors import InputError

# A line of what Java prints of an exception: a call that led to it, or how many are left out.
_CALL = re.compile(r"\s*(at |\.\.\. \d+ more)")


def build_index(passages_jsonl_dir: Path, target_dir: Path, threads: int = 1) -> Path:
    """Index every ``*.jsonl`` of a folder (``{"id", "contents"}`` a line) into ``target_dir`` and return it.

    The same indexer as ``python -m pyserini.index.lucene --collection JsonCollection --storeRaw
    --storeDocvectors`` (the vectors are what RM3 needs). An index that exists already is returned as it
    is. The index is built in a folder beside its target and renamed when complete, so two processes that
    start together both succeed and one of the two indexes stays. Raises :class:`InputError` if it fails.
    """
    target = Path(target_dir)
    if is_index(target):
        return target
    java, jar = find_java(), anserini_jar()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise InputError(
            f"cannot build an index in {target.parent}: {error.strerror or error}; choose a folder that can be written (by "
            "QPEFT_RERANK_CACHE for the embedded passages)"
        ) from None
    try:
        # A separate process: the indexer may end its JVM, and prints its log to stdout.
        command = [str(java.executable), "-cp", str(jar), "io.anserini.index.IndexCollection"]
        command += ["-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator"]
        command += ["-input", str(passages_jsonl_dir), "-index", str(work), "-threads", str(threads)]
        command += ["-storeRaw", "-storeDocvectors"]
        env = os.environ | environment()
        done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0 or not is_index(work):
            raise InputError(f"indexing {passages_jsonl_dir} failed: {_reason(done.stderr or done.stdout)}")
        # mkdtemp makes it private; an index is shared like any other file of the user's.
        os.chmod(work, 0o755)
        try:
            os.rename(work, target)
        except OSError as error:
            if not is_index(target):
                raise InputError(f"cannot move the new index to {target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def is_index(folder: Path) -> bool:
    """Tell whether a folder holds a Lucene index (a commit point, to be exact)."""
    return folder.is_dir() and any(folder.glob("segments_*"))


def _reason(text: str) -> str:
    """What the indexer said last, without the calls that led to it."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _CALL.match(line)]
    return lines[-1] if lines else "the indexer said nothing"
