"""Several steps at a time: each after those it needs, and none left running when one fails."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from eval import runner, workers
from eval.commands import Commands
from eval.steps import OUTPUT, Step, ordered
from eval.store import Store
from eval.workers import as_many, each
from qpeft_rerank.errors import InputError
from qpeft_rerank.neighbours import processors

ROOT = Path(__file__).resolve().parents[2]


def script(label, code, *needs):
    """A step whose command runs ``code``, with the paths of what it needs in ``needs`` and its own in ``output``."""
    code = f"import pathlib, os, sys, time; *needs, output = map(pathlib.Path, sys.argv[1:]); {code}"
    step = Step("do", label, "-", (label, *needs, OUTPUT), "out.txt")
    object.__setattr__(step, "command", lambda work: ["-c", code, *Step.command(step, work)[3:]])
    return step


def test_at_most_so_many_and_in_order():
    needs = {"a": (), "b": (), "c": ("a", "elsewhere"), "d": ("b", "c"), "e": ()}
    lock, now, most, ended = threading.Lock(), set(), [], []

    def act(name):
        with lock:
            assert all(need in ended for need in needs[name] if need in needs)
            now.add(name)
            most.append(len(now))
        time.sleep(0.05)
        with lock:
            now.remove(name)
            ended.append(name)

    each({name: name for name in needs}, lambda name: needs[name], act, 2, lambda: pytest.fail("stopped"))
    assert sorted(ended) == sorted(needs) and max(most) == 2
    ended.clear()
    each({name: name for name in needs}, lambda name: needs[name], act, 1, lambda: pytest.fail("stopped"))
    assert ended == sorted(needs)


def test_steps_run_beside_each_other(tmp_path):
    """Each of two waits for the file that the other one writes at its start."""
    wait = "deadline = time.time() + 60\nwhile not other.exists() and time.time() < deadline: time.sleep(0.01)"
    meet = "here, other = [pathlib.Path(r'{0}') / n for n in {1!r}]; here.touch()\n{2}\noutput.write_text(str({3}))"
    threads = "os.environ.get('OMP_NUM_THREADS')"
    left = script("left", meet.format(tmp_path, ["l", "r"], wait, "other.exists()"))
    right = script("right", meet.format(tmp_path, ["r", "l"], wait, "other.exists()"))
    top = script(
        "top", f"output.write_text(' '.join(n.read_text() for n in needs) + ' ' + str({threads}))", left, right
    )
    store = Store(tmp_path / "work")
    assert runner.run(ordered([top]), store, jobs=2) == 3
    said = os.environ.get("OMP_NUM_THREADS") or str(max(1, processors() // 2))
    assert top.place(store.work).read_text() == f"True True {said}"
    assert [record["jobs"] for record in store.records()] == [2, 2, 2]


def test_a_failure_ends_the_others_and_keeps_what_is_finished(tmp_path):
    store = Store(tmp_path / "work")
    done = script("done", "output.write_text('done')")
    flag = tmp_path / "long-is-running"
    wait = f"flag = pathlib.Path(r'{flag}')\nwhile not flag.exists(): time.sleep(0.01)"
    bad = script("bad", f"{wait}\nsys.stderr.write('error: no such thing; give another\\n'); sys.exit(2)", done)
    long = script("long", f"pathlib.Path(r'{flag}').touch(); time.sleep(600)", done)
    later = script("later", "output.write_text('later')", long)
    started = time.monotonic()
    with pytest.raises(InputError, match="do bad: no such thing; give another"):
        runner.run(ordered([bad, later]), store, jobs=2)
    assert time.monotonic() - started < 60
    assert store.is_done(done) and not store.is_done(long)
    assert store.record(long)["state"] == "begun" and not store.record(later)


def test_one_that_is_stopped_after_its_output_is_not_run_again(tmp_path):
    store = Store(tmp_path / "work")
    whole = script("whole", "output.write_text('whole'); time.sleep(600)")
    wait = f"made = pathlib.Path(r'{whole.place(store.work)}')\nwhile not made.exists(): time.sleep(0.01)"
    bad = script("bad", f"{wait}\nsys.stderr.write('error: no such thing; give another\\n'); sys.exit(2)")
    with pytest.raises(InputError, match="do bad: no such thing; give another"):
        runner.run([bad, whole], store, jobs=2)
    assert store.record(whole)["state"] == "begun" and store.failure(whole) is None
    assert runner.run([whole], store) == 0 and store.is_done(whole)


def test_an_interrupt_ends_all_that_runs(tmp_path):
    """As Ctrl-C does, but to the driver alone."""
    started = [tmp_path / name for name in ("one", "two")]
    driver = textwrap.dedent(
        f"""
        import pathlib
        from eval import runner, workers
        from eval.store import Store
        from qpeft_rerank import console
        from tests.eval.test_workers import script

        def long(path):
            return script(path, f"import pathlib, os, time; pathlib.Path({{path!r}}).write_text(str(os.getpid())); time.sleep(600)")

        steps = [long(path) for path in {[str(path) for path in started]!r}]
        raise SystemExit(console.run(lambda: runner.run(steps, Store(pathlib.Path({str(tmp_path / "work")!r})), jobs=2)))
        """
    )

    def heed():  # a shell that starts the tests in the background has them ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    words = [sys.executable, "-c", driver]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, preexec_fn=heed) as process:
        deadline = time.monotonic() + 60
        while not all(path.is_file() and path.read_text() for path in started):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130 and b"Traceback" not in process.stderr.read()
    for path in started:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_nothing_starts_once_stopped(tmp_path):
    commands, step = Commands(tmp_path, 2), script("any", "output.write_text('x')")
    step.folder(tmp_path).mkdir(parents=True)
    commands.stop()
    with pytest.raises(InputError, match="not started"):
        commands(step)
    assert not step.place(tmp_path).exists()


def test_as_many_as_memory_holds(monkeypatch, tmp_path):
    assert as_many(1e30) == 1 and as_many(1.0) == processors()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(workers, "_CONTAINER", limit)
    for said, expected in (("max\n", processors()), ("250000\n", min(2, processors())), ("100000\n", 1)):
        limit.write_text(said)
        assert as_many(1e5) == expected
