"""Batches that several threads score at the same time: the same scores, in the same order, and no thread stays."""

import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.engines.local import Candidate, LocalEngine
from qpeft_rerank.engines.side_by_side import division, in_order
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.loan import LoanEndedError, go_on
from qpeft_rerank.likelihood.out_of_memory import NoRoomError
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.prompt import load_template
from qpeft_rerank.trec.topics import Topic
from tests.threads import threads


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return LanguageModel.load(str(tiny.save_model(tmp_path_factory.mktemp("model"))), "float32", "cpu")


@pytest.fixture(scope="module")
def scorer(model: LanguageModel) -> Scorer:
    return Scorer(model, load_template("plain"))


class Watched(Methods):
    """Methods that note which threads score, and may come upon what is no number."""

    def __init__(self, scorers: list[Scorer], mode: str = "off", fails_at: int | None = None) -> None:
        super().__init__(scorers, mode)
        self.by: list[str] = []
        self.fails_at = fails_at

    def score(self, batch, sequences) -> list[Score]:
        self.by.append(threading.current_thread().name)
        scores = super().score(batch, sequences)
        if self.fails_at in batch.indices:
            return [Score(float("nan"), score.tokens, score.truncated) for score in scores]
        return scores

    @property
    def helped(self) -> bool:
        return any(name.startswith("scoring") for name in self.by)


def some(count: int) -> list[Candidate]:
    """Topics that find the same nine passages, of different lengths."""
    return [
        Candidate(
            Topic(str(n // 9), f"query number {n // 9}"), Passage(str(n % 9), "", f"text {n % 9} " * (1 + n % 9 * 2))
        )
        for n in range(count)
    ]


#: Candidates of the first two shards, one of which at least is too small to be worth it.
FIRST = 33


def scored(methods: Methods, count: int, journal: Journal | None = None) -> list[tuple[Score, ...]]:
    candidates = some(count)
    engine = LocalEngine(methods, 128, journal)
    if journal:
        journal.begin(engine.run_digest((one.topic.id, one.passage.docid) for one in candidates))
    return list(engine.score(candidates))


def nobody_is_left() -> bool:
    return not any(thread.name.startswith("scoring") for thread in threading.enumerate())


@given(st.integers(1, 300))
def test_no_more_threads_are_at_work_than_there_may_be_and_most_are(count: int) -> None:
    workers, each = division(count)
    assert 1 <= workers <= 4
    assert count / 2 < workers * each <= count


@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize("kind", [None, "qpeft-r", "qpeft-a"])
def test_scores_are_to_the_last_bit_those_of_one_thread(model: LanguageModel, kind: str | None, mode: str) -> None:
    template = load_template("plain")
    hinter = create_adapter(kind, model, template, seed=1) if kind else None
    with threads(1):
        alone = Watched([Scorer(model, template, hinter)], mode)
        expected = scored(alone, 180)
    assert not alone.helped
    for count in (2, 3, 4):
        with threads(count):
            helped = Watched([Scorer(model, template, hinter)], mode)
            found = scored(helped, 180)
            assert torch.get_num_threads() == count
        assert found[FIRST:] == expected[FIRST:]
        assert helped.helped
        assert nobody_is_left()


def test_threads_begun_later_have_as_many_of_their_own_as_before(scorer: Scorer) -> None:
    with threads(2):
        scored(Methods([scorer], "off"), 180)
        seen: list[int] = []
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [2]


def test_threads_begun_meanwhile_have_as_many_of_their_own_as_before(model: LanguageModel) -> None:
    seen: list[int] = []

    def work() -> int:
        begun = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        begun.start()
        begun.join()
        return torch.get_num_threads()

    with threads(8):
        assert list(in_order([work] * 12, model, 12)) == [2] * 12
    assert seen == [8] * 12


def test_a_batch_without_room_beside_others_is_read_again_alone(model: LanguageModel) -> None:
    at_work: set[int] = set()
    others, tried = [], []

    def work(number: int) -> int:
        at_work.add(number)
        try:
            time.sleep(0.01)
            tried.append(number)
            if number == 3:
                others.append(len(at_work) - 1)
                if tried.count(3) == 1:
                    raise NoRoomError("out of memory")
            return number
        finally:
            at_work.remove(number)

    with threads(2):
        made = list(in_order([partial(work, number) for number in range(12)], model, 12))
    assert made == list(range(12))
    assert tried.count(3) == 2 and len(tried) == 13
    assert others[-1] == 0


def test_a_batch_without_room_by_itself_ends_the_work(model: LanguageModel) -> None:
    def work() -> None:
        raise NoRoomError("out of memory")

    with threads(2), pytest.raises(NoRoomError):
        list(in_order([work] * 12, model, 12))
    assert nobody_is_left()


@pytest.mark.parametrize(("switch", "helped"), [("OMP_PROC_BIND=close", False), ("OMP_PROC_BIND=FALSE", True)])
def test_threads_that_share_a_processor_do_not_help(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, switch: str, helped: bool
) -> None:
    monkeypatch.setenv(*switch.split("="))
    methods = Watched([scorer])
    with threads(2):
        scored(methods, 180)
    assert methods.helped == helped


def test_angles_that_depend_on_a_batch_are_for_one_thread(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scorer.model
    monkeypatch.setattr(model, "attention", replace(model.attention, boundary=100))
    methods = Watched([scorer])
    with threads(2):
        scored(methods, 180)
    assert not methods.helped


def test_few_batches_are_read_one_after_another(scorer: Scorer) -> None:
    methods = Watched([scorer])
    with threads(2):
        scored(methods, 2)
    assert methods.by
    assert not methods.helped


def test_an_adapter_in_the_layers_is_read_with_by_one_thread(tmp_path: Path) -> None:
    model = LanguageModel.load(str(tiny.save_model(tmp_path)), "float32", "cpu")
    lora = PeftAdapter.create(model, LoraConfig(r=2, target_modules=["q_proj"]))
    methods = Watched([Scorer(model, load_template("plain"), lora)])
    with threads(2):
        scored(methods, 180)
    assert not methods.helped


@pytest.mark.parametrize("place", [5, 100])
def test_what_came_before_a_score_that_is_no_number_is_kept(scorer: Scorer, tmp_path: Path, place: int) -> None:
    with threads(2):
        expected = scored(Methods([scorer], "off"), 180)
    path = tmp_path / "journal"
    with threads(2), Journal(path) as journal, pytest.raises(InputError, match="nan"):
        scored(Watched([scorer], fails_at=place), 180, journal)
    assert nobody_is_left()
    with threads(2), Journal(path) as journal:
        methods = Watched([scorer])
        assert scored(methods, 180, journal) == expected
        assert 0 < journal.spared < 180
    # Though fewer batches are left than at first, they are read in the way that they would have been.
    assert methods.helped


def test_others_wait_for_a_model_that_is_lent_and_helpers_do_not(model: LanguageModel) -> None:
    came: list[str] = []

    def use(name: str) -> None:
        with model.changed(None, 1):
            came.append(name)

    with model.lent() as loan:
        other = threading.Thread(target=use, args=("other",))
        other.start()
        helper = threading.Thread(target=lambda: (loan.take(), use("helper")))
        helper.start()
        helper.join(60)
        other.join(0.1)
        assert came == ["helper"]
    other.join(60)
    assert came == ["helper", "other"]


def test_the_thread_that_has_the_model_for_itself_is_helped_too(scorer: Scorer) -> None:
    with threads(2), scorer.in_float32() as exact:
        methods = Watched([exact])
        found = scored(methods, 180)
    assert methods.helped
    with threads(1):
        assert found[FIRST:] == scored(Methods([scorer], "off"), 180)[FIRST:]


def test_a_batch_that_nobody_waits_for_is_left_between_layers(model: LanguageModel) -> None:
    sequences = Scorer(model, load_template("plain")).encode([("who", "", "Ada wrote it.")])
    raised: list[BaseException] = []

    def help_with(loan) -> None:
        loan.take()
        loan.ended = True
        try:
            with torch.inference_mode():
                model.target_log_probs(sequences)
        except LoanEndedError as error:
            raised.append(error)

    with model.lent() as loan:
        helper = threading.Thread(target=help_with, args=(loan,))
        helper.start()
        helper.join(60)
    assert raised
    go_on()  # this thread helps nobody, and is not stopped


def test_works_are_begun_only_a_few_ahead_of_those_that_are_asked_for(model: LanguageModel) -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    with threads(2):
        made = in_order([lambda number=number: work(number) for number in range(100)], model, 100)
        assert [next(made) for _ in range(10)] == list(range(10))
        assert len(begun) <= 15
        made.close()
    assert nobody_is_left()
    assert len(begun) <= 15
