"""A step is known by its content; the store notices what is missing, damaged or exchanged."""

import dataclasses
import errno
import json
import os
import shutil

import pytest

from eval import runner
from eval.commands import shell
from eval.steps import (
    OUTPUT,
    Source,
    Step,
    adapter_source,
    file_source,
    model_source,
    name_source,
    ordered,
    prompt_source,
)
from eval.store import Store
from qpeft_rerank.adapters.find import CONFIG
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.identity import file_digest


def writer(text, *needs, kind="write", fails="pass"):
    """A step that appends to a count beside its output, then writes the texts of what it needs and its own."""
    code = (
        "import pathlib, sys; *needs, output = map(pathlib.Path, sys.argv[2:]);"
        "count = output.with_name('count'); count.open('a').write('x');"
        f"{fails};"
        "output.write_text(''.join(n.read_text() for n in needs) + sys.argv[1])"
    )
    step = Step(kind, text, "-", (text, *needs, OUTPUT), "out.txt")
    object.__setattr__(step, "command", lambda work: ["-c", code, *Step.command(step, work)[2:]])
    return step


def test_keys_depend_on_content_only(tmp_path):
    one, two = tmp_path / "a.txt", tmp_path / "b.txt"
    one.write_text("same")
    two.write_text("same")
    first = Step("k", "first", "m", ("--in", file_source(one), OUTPUT), "o")
    same = Step("k", "another label", "m", ("--in", file_source(two), OUTPUT), "o", running=("--device", "cuda"))
    assert first.key == same.key
    two.write_text("other")
    assert Step("k", "first", "m", ("--in", file_source(two), OUTPUT), "o").key != first.key
    for change in ({"module": "n"}, {"output": "p"}, {"words": (*first.words, "--more")}):
        assert dataclasses.replace(first, **change).key != first.key
    above = Step("k", "", "m", (first,), "o")
    assert above.key == Step("k", "", "m", (same,), "o").key != Step("k", "", "m", (above,), "o").key


def test_keys_of_versions_differ(monkeypatch):
    before = Step("k", "", "m", ("a",), "o").key
    monkeypatch.setattr("eval.steps.FORMAT", 999)
    assert Step("k", "", "m", ("a",), "o").key != before


def test_what_scores_is_another_step_when_scores_change(monkeypatch):
    def steps():
        modules = ("eval.sample", "qpeft_rerank.retrieve", "qpeft_rerank.rerank", "qpeft_rerank.train")
        alone = [Step("k", "", module, ("a", OUTPUT), "o") for module in modules]
        return [*alone, Step("evaluate", "", "qpeft_rerank.evaluate", (alone[2],), "o")]

    before = [step.key for step in steps()]
    assert [step.key for step in steps()] == before
    monkeypatch.setattr("qpeft_rerank.likelihood.scores.FORMAT", 999)
    assert [step.key == key for step, key in zip(steps(), before, strict=True)] == [True, True, False, False, False]


def test_sources(model, tmp_path):
    shutil.copytree(model, tmp_path / "copy")
    assert model_source(str(model)).digest == model_source(str(tmp_path / "copy")).digest
    (tmp_path / "copy" / "tokenizer.json").write_text("{}")
    assert model_source(str(model)).digest != model_source(str(tmp_path / "copy")).digest
    assert model_source("no/such-model") == name_source("no/such-model")
    assert prompt_source("plain").digest != prompt_source("upr").digest
    with pytest.raises(InputError, match="cannot be read"):
        file_source(tmp_path / "absent")


def test_what_is_in_the_home_folder_is_known_by_content(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / CONFIG).write_text("{}")
    (tmp_path / "small.gguf").write_text("weights")
    for look, name in ((model_source, "model"), (model_source, "small.gguf"), (adapter_source, "adapter")):
        found = look(f"~/{name}")
        # Where it is said to be is typed as before: the command reads ~ itself.
        assert found.text == f"~/{name}" and found.digest == look(str(tmp_path / name)).digest != f"name ~/{name}"


def test_ordered_lists_needed_ones_first_and_once():
    base = Step("k", "", "m", ("a",), "o")
    left, right = Step("k", "", "m", ("l", base), "o"), Step("k", "", "m", ("r", base), "o")
    again = Step("k", "", "m", ("a",), "o")
    top = Step("k", "", "m", (left, right, again), "o")
    assert [step.key for step in ordered([top, left])] == [s.key for s in (base, left, right, top)]


def count(store, step):
    path = step.folder(store.work) / "count"
    return len(path.read_text()) if path.exists() else 0


def test_complete_steps_are_skipped_and_damaged_ones_made_again(tmp_path):
    store = Store(tmp_path)
    base = writer("base ")
    top = writer("top", base)
    steps = ordered([top])
    assert runner.run(steps, store) == 2 and runner.run(steps, store) == 0
    assert top.place(tmp_path).read_text() == "base top"
    assert store.record(top)["command"][0] == "python" and store.record(top)["seconds"] > 0
    base.place(tmp_path).unlink()
    assert not store.is_done(base) and not store.is_done(top)
    assert runner.run(steps, store) == 1  # the same content came back, so what follows stays
    top.place(tmp_path).write_text("damaged")
    assert runner.run(steps, store) == 1 and top.place(tmp_path).read_text() == "base top"


def test_what_follows_from_a_changed_input_is_made_again(tmp_path):
    store = Store(tmp_path)
    base = writer("base ")
    top = writer("top", base)
    runner.run(ordered([top]), store)
    base.place(tmp_path).write_text("changed ")
    store.finish(base, 1.0)  # as if its command gave something else on another machine
    assert store.is_done(base) and not store.is_done(top)
    assert runner.run(ordered([top]), store) == 1
    assert top.place(tmp_path).read_text() == "changed top" and count(store, top) == 1  # its folder was cleared


def test_killed_between_output_and_record(tmp_path):
    store = Store(tmp_path)
    step = writer("text")
    store.begin(step)
    step.place(tmp_path).write_text("text")
    assert not store.is_done(step)
    assert runner.run([step], store) == 0 and store.is_done(step) and count(store, step) == 0
    record = step.folder(tmp_path) / "step.json"
    record.write_text(record.read_text()[:20])
    assert not store.is_done(step) and runner.run([step], store) == 1


def test_failures_are_one_line_and_keep_what_is_finished(tmp_path):
    store = Store(tmp_path)
    base = writer("base ")
    bad = writer("bad", base, fails="sys.stderr.write('noise\\nerror: no such thing; give another\\n'); sys.exit(2)")
    with pytest.raises(InputError, match=r"write bad: no such thing; give another \(log: .*log.txt\)") as caught:
        runner.run(ordered([bad]), store)
    assert "\n" not in str(caught.value) and store.is_done(base) and not store.is_done(bad)
    silent = writer("silent", fails="sys.exit(0)")
    with pytest.raises(InputError, match="ended without its output"):
        runner.run([silent], store)
    killed = writer("killed", fails="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(InputError, match="killed by signal 9"):
        runner.run([killed], store)


@pytest.mark.parametrize("taken", ["log.txt", "step.json"])
def test_a_full_disk_is_told_with_the_file(tmp_path, monkeypatch, taken):
    store, step = Store(tmp_path), writer("text", fails="sys.stderr.write('said')")
    path = step.folder(tmp_path) / taken

    def full(where, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    # The log is handed to the system as it grows, the record written as a whole.
    monkeypatch.setattr("os.write" if taken == "log.txt" else "eval.store.write_whole", full)
    with pytest.raises(InputError) as caught:
        runner.run([step], store)
    assert str(caught.value) == f"{path}: cannot be written (No space left on device); free some space and go on"
    monkeypatch.undo()
    path.unlink(missing_ok=True)
    assert runner.run([step], store) <= 1 and store.is_done(step)


def test_records_of_others_are_left_out(tmp_path):
    store = Store(tmp_path)
    runner.run([writer("a")], store)
    (tmp_path / "steps" / "x").mkdir()
    (tmp_path / "steps" / "x" / "step.json").write_text("no JSON")
    (tmp_path / "steps" / "y").mkdir()
    (tmp_path / "steps" / "y" / "step.json").write_text(json.dumps({"format": 0, "state": "done"}))
    assert len(store.records()) == 1


def test_shell_quotes(tmp_path):
    step = Step("k", "", "m", ("--in", Source("a b", "x"), OUTPUT), "o", prints=True)
    assert f"mkdir -p {step.folder(tmp_path)} && python -m m --in 'a b' " in shell(step, tmp_path)
    assert f"> {step.place(tmp_path)}" in shell(step, tmp_path)


def test_what_a_failed_command_leaves_is_no_result(tmp_path, monkeypatch, capsys):
    """A training that diverges leaves its best epoch and ends with a fault: the next start tells the same."""
    (tmp_path / "diverges.py").write_text(
        "import pathlib, sys\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--output') + 1])\n"
        "out.mkdir()\n"
        "(out / 'adapter_config.json').write_text('{}')\n"
        "(out / 'adapter_model.safetensors').write_text('best')\n"
        "print('error: step 12: the loss is nan', file=sys.stderr)\n"
        "sys.exit(2)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    step = Step("train", "nq.qpeft-a", "diverges", ("--output", OUTPUT), "adapter", "adapter")
    store = Store(tmp_path / "work")
    said = []
    for _ in range(2):
        with pytest.raises(InputError, match="step 12: the loss is nan") as caught:
            runner.run([step], store)
        said.append(str(caught.value))
    assert f"remove {step.folder(store.work)} to do it again" in said[1]
    assert not store.is_done(step)
    (step.folder(store.work) / "adapter" / "adapter_config.json").unlink()
    (tmp_path / "diverges.py").write_text(
        "import pathlib, sys\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--output') + 1])\n"
        "(out / 'adapter_config.json').write_text('{}')\n"
    )
    assert runner.run([step], store) == 1 and store.is_done(step)


@pytest.mark.parametrize(("said", "kept"), [("nothing", True), ("error: the loss is nan", False)])
def test_a_signal_after_the_output_is_no_fault_of_the_command(tmp_path, said, kept):
    """Its output was whole by then, and is taken at the next start: unless it had said what was wrong before."""
    kill = f"output.write_text('x'); print({said!r}, file=sys.stderr); import os; os.kill(os.getpid(), 15)"
    store, step = Store(tmp_path), writer("text", fails=kill)
    with pytest.raises(InputError, match="killed by signal 15" if kept else "the loss is nan"):
        runner.run([step], store)
    if kept:
        assert runner.run([step], store) == 0 and store.is_done(step)
    else:
        with pytest.raises(InputError, match=r"the loss is nan .*; remove .* to do it again"):
            runner.run([step], store)
    assert count(store, step) == 1


def test_records_tell_all_versions_that_ran_a_command(tmp_path, monkeypatch):
    def at(number):
        monkeypatch.setattr("eval.store.versions", lambda: {"torch": number})

    store = Store(tmp_path)
    plain, stopped, noted = writer("plain"), writer("stopped"), writer("noted")
    at("1")
    assert runner.run([plain], store) == 1
    store.begin(stopped)
    store.begin(noted)
    noted.place(tmp_path).write_text("noted")  # killed before its end was noted
    at("2")
    assert runner.run([plain, stopped, noted], store) == 1
    found = [store.record(step)["versions"] for step in (plain, stopped, noted)]
    assert found == [[{"torch": "1"}], [{"torch": "1"}, {"torch": "2"}], [{"torch": "1"}]]
    plain.place(tmp_path).unlink()
    shutil.rmtree(stopped.folder(tmp_path))
    assert runner.run([plain, stopped], store) == 2
    assert store.record(plain)["versions"] == [{"torch": "1"}, {"torch": "2"}]
    assert store.record(stopped)["versions"] == [{"torch": "2"}]


def test_a_file_that_stays_is_digested_once(tmp_path, monkeypatch):
    store = Store(tmp_path)
    base = writer("base ")
    tops = [writer(f"top {n}", base) for n in range(3)]
    runner.run(ordered(tops), store)
    for step in (base, *tops):
        os.utime(step.place(tmp_path), (1e9, 1e9))
    digested = []
    monkeypatch.setattr("eval.store.file_digest", lambda path: digested.append(path) or file_digest(path))
    for _ in range(2):
        assert all(map(store.is_done, tops))
    assert sorted(digested) == sorted(step.place(tmp_path) for step in (base, *tops))
    # Of the same length, and so soon that its time may be the same.
    for text in ("BASE ", "base "):
        base.place(tmp_path).write_text(text)
        assert store.is_done(base) == (text == "base ")


def test_what_a_killed_training_left_goes_with_the_note_of_its_end(tmp_path):
    step = Step("train", "nq.qpeft-a", "trains", ("--output", OUTPUT), "adapter", "adapter")
    store = Store(tmp_path)
    store.begin(step)
    place = step.place(tmp_path)
    place.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (place / name).write_text("{}")
    left = place.with_name("adapter.training")
    left.mkdir()
    (left / "finished").touch()
    assert runner.run([step], store) == 0 and store.is_done(step)
    assert place.is_dir() and not left.exists()
