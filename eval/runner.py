"""Runs steps that are not done, each after those whose outputs it takes."""

import time
from collections.abc import Sequence

from eval import together
from eval.commands import Commands, FaultError, shell
from eval.steps import Step
from eval.store import Store
from eval.workers import each
from qpeft_rerank.console import duration, say
from qpeft_rerank.errors import InputError


def run(steps: Sequence[Step], store: Store, joined: bool = False, jobs: int = 1) -> int:
    """Run what is not done; return how many commands were run.

    :param steps: needed ones first.
    :param joined: score rerankers of the same candidates together first; then nobody knows what one took.
    :param jobs: commands at a time.
    :raises InputError: for a command that failed, with its own last line; what is finished stays.
    """
    return _Runner(steps, store, jobs).run(joined)


class _Runner:
    def __init__(self, steps: Sequence[Step], store: Store, jobs: int) -> None:
        self.steps = steps
        self.store = store
        self.jobs = jobs
        self.commands = Commands(store.work, jobs)
        self.ran: list[Step] = []

    def run(self, joined: bool) -> int:
        if joined:
            self.steps = together.later(self.steps)
            before = [step for step in self.steps if not together.is_late(step)]
            self._run(before)
            groups = together.groups(self.steps, self.store)
            named = {members[0].key: members for members in groups}
            each(named, lambda members: (), self._fill, self.jobs, self.commands.stop)
        self._run(self.steps)
        return len(self.ran)

    def _run(self, steps: Sequence[Step]) -> None:
        tasks = {step.key: step for step in steps}
        each(tasks, lambda step: [need.key for need in step.needs], self._step, self.jobs, self.commands.stop)

    def _fill(self, members: list[Step]) -> None:
        say(f"together: {', '.join(member.label for member in members)}")
        together.fill(members, self.store, self.commands)

    def _step(self, step: Step) -> None:
        store = self.store
        if store.is_done(step):
            return
        # With others, perhaps by a driver that was stopped since: what it would have taken alone is not known.
        scored = together.is_scored(step, store.work)
        if failure := store.failure(step):
            raise InputError(failure)
        resumed = store.begin(step)
        if resumed and store.digest(step) is not None:
            # Its command writes the output whole or not at all; only the note of it was missing.
            store.finish(step, None, threads=self.commands.threads)
            return
        name = f"[{self.steps.index(step) + 1}/{len(self.steps)}] {step.kind} {step.label}"
        say(f"{name}{' (goes on)' if resumed else ''}\n  {shell(step, store.work)}")
        started = time.monotonic()
        try:
            peak = self.commands(step)
        except FaultError as error:
            if store.digest(step) is not None:
                # A training that diverged leaves its best epoch: that is nobody's result unless somebody takes it.
                store.fail(step, f"{error}; remove {step.folder(store.work)} to do it again")
            raise
        seconds = time.monotonic() - started
        if resumed or scored:
            store.finish(step, None, threads=self.commands.threads)
        else:
            store.finish(step, seconds, peak, self.jobs, self.commands.threads)
        self.ran.append(step)
        if self.jobs > 1:
            say(f"{name}: done in {duration(seconds)}")
