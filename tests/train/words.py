"""The words of a good training command."""


def command(files, model_folder, *more, adapter="qpeft-a", dev="--dev"):
    given = ["--adapter", adapter, "--model", model_folder]
    given += [] if "--train" in more else ["--train", files / "train.jsonl"]
    given += ["--output", files / "out", "--device", "cpu", "--epochs", 2, "--queries-per-step", 2]
    given += ["--dev", files / "train.jsonl"] if dev == "--dev" else []
    if dev == "--dev-run":
        given += ["--dev-topics", files / "topics.jsonl", "--dev-run", files / "run.trec"]
        given += ["--dev-corpus", files / "corpus.jsonl"]
    if adapter == "soft-prompt":
        given += ["--prompt", "qpeft"]
    return [*map(str, given), *map(str, more)]
