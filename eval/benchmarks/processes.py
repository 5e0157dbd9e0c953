"""Jobs in processes of their own, so that time and memory are those of the job alone."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from eval.commands import environment
from qpeft_rerank.errors import InputError

# Whatever library computes, it has the threads asked for and no more.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def run_job(job: dict[str, Any], python: str = sys.executable) -> dict[str, Any]:
    """Do a job (see :mod:`eval.benchmarks.worker`) in a fresh process and wait for it.

    :param job: ``kind``, ``threads`` and what the kind needs; JSON values only.
    :return: what the job answers, and of the whole process ``process_wall`` and ``process_cpu`` (seconds,
        its children included).
    :raises InputError: if the job fails, with the last line that it said.
    """
    with tempfile.TemporaryDirectory(prefix="speed.") as folder:
        asked, answer, log = (Path(folder) / name for name in ("job.json", "answer.json", "log"))
        asked.write_text(json.dumps(job), "utf-8")
        given = environment() | dict.fromkeys(_THREADS, str(job["threads"]))
        # Several kinds of progress bars would cost time that no contestant needs.
        given |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
        command = [python, "-m", "eval.benchmarks.worker", str(asked), str(answer)]
        start = time.perf_counter()
        with log.open("wb") as stream:
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=given)
            except OSError as error:
                raise InputError(f"{python}: cannot be started ({error.strerror})") from None
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        if process.returncode != 0:
            lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
            said = lines[-1].removeprefix("error: ") if lines else f"exit status {process.returncode}"
            raise InputError(f"{job['kind']} {job.get('row', '')}: {said}".replace(" :", ":"))
        found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        return found | {"process_wall": wall, "process_cpu": usage.ru_utime + usage.ru_stime}
