"""The benchmark of training steps: every way, with the gradient that the plainest gives."""

import json

import tiny

from eval.benchmarks import training


def test_report(tmp_path, capsys):
    folder = tiny.save_model(tmp_path / "model")
    lines = [
        {"query": f"what is {n}", "positives": [{"text": f"it is {n} " * (n + 2)}], "negatives": [{"text": "no " * n}]}
        for n in range(1, 9)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["--train", str(tmp_path / "train.jsonl"), "--model", str(folder), "--dtype", "float32", "--steps", "2"]
    assert training.main([*words, "--output", str(tmp_path / "out.md"), "--adapters", "lora", "qpeft-a"]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out.md").read_text() == printed
    rows = [line.split("|")[1:-1] for line in printed.splitlines() if line.startswith(("| lora", "| qpeft-a"))]
    assert [row[1].strip() for row in rows if "lora" in row[0]] == ["one padded batch", "passes of like length"]
    assert len(rows) == 6 and all(float(row[-1]) < 1e-3 for row in rows)
    assert [row[4].strip() for row in rows if "one padded" in row[1]] == ["1.00", "1.00"]
    assert training.main(["--train", str(tmp_path / "none"), "--output", str(tmp_path / "out.md")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_nothing_is_kept_of_one_that_was_interrupted(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_rows", interrupt)
    assert training.main(["--train", "any", "--output", str(tmp_path / "out.md")]) == 130
    assert capsys.readouterr().err == "interrupted; nothing was kept\n"
