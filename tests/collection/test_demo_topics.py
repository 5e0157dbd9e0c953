"""The demo topics that ship with the embedded collection."""

import re
from pathlib import Path

import pytest

import qpeft_rerank.collection
from qpeft_rerank.collection.embedded import lead_passages
from qpeft_rerank.errors import MissingError
from qpeft_rerank.trec.answers import AnswerMatcher
from qpeft_rerank.trec.topics import Topic, read_topics

TOPICS = Path(qpeft_rerank.collection.__file__).parent / "data" / "demo-topics.jsonl"


@pytest.fixture(scope="module")
def topics() -> list[Topic]:
    return list(read_topics(str(TOPICS)).values())


@pytest.fixture(scope="module")
def leads() -> list[str]:
    try:
        return [passage.text for passage in lead_passages()]
    except MissingError as error:
        pytest.skip(str(error))


def test_there_are_enough_topics_for_a_demo(topics):
    assert len(topics) >= 60


def test_ids_and_questions_are_unique(topics):
    lines = [line for line in TOPICS.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len({topic.id for topic in topics}) == len(lines)
    questions = {" ".join(re.findall(r"\w+", topic.text)).casefold() for topic in topics}
    assert len(questions) == len(topics)


def test_every_topic_is_a_question_with_answers(topics):
    for topic in topics:
        assert topic.text.endswith("?"), topic.id
        assert topic.answers, topic.id
        assert all(answer and answer == answer.strip() for answer in topic.answers), topic.id


def test_no_question_gives_its_own_answer_away(topics):
    assert [topic.id for topic in topics if AnswerMatcher(topic.answers).matches(topic.text)] == []


@pytest.mark.slow
def test_every_answer_occurs_in_a_lead(topics, leads):
    unanswered = [topic.id for topic in topics if not any(map(AnswerMatcher(topic.answers).matches, leads))]
    assert unanswered == []
