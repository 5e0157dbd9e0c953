"""Topics: every format gives the same topics, and every fault its line."""

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.answer_lists import parse_answers
from qpeft_rerank.trec.topics import Topic, read_topics
from tests.refusal import refusal

TOPICS = [Topic("10", "who wrote it"), Topic("9", "what's a “run”?"), Topic("x-1", "naïve café")]
AS_DICTS = [{"id": t.id, "question": t.text} for t in TOPICS]
TREC = "".join(
    f"<top>\n\n<num> Number: {t.id}\n<title> {t.text}\n\n<desc> Description:\nAny <b>.\n</top>\n\n" for t in TOPICS
)


def put(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "".join(f"{t.id}\t{t.text}\n" for t in TOPICS)),
        ("t.txt.gz", "\ufeff" + "\r\n\r\n".join(f"{t.id}\t{t.text} " for t in TOPICS)),
        ("t.jsonl", "\n".join(json.dumps(d) for d in AS_DICTS)),
        ("t.txt", "\n\n".join(json.dumps({"_id": d["id"], "text": d["question"]}) for d in AS_DICTS)),
        ("t.jsonl.gz", "\n".join(json.dumps({"qid": d["id"], "query": d["question"]}) for d in AS_DICTS)),
        ("t.json", json.dumps([{"query_id": d["id"], "title": d["question"]} for d in AS_DICTS], indent=1)),
        ("t.jsonl", "\n".join(json.dumps({"topic_id": d["id"], "query": d["question"]}) for d in AS_DICTS)),
        ("t.json", json.dumps([{"query-id": d["id"], "query": d["question"]} for d in AS_DICTS])),
        ("t.jsonl", "\n".join(json.dumps({"number": d["id"], "query": d["question"]}) for d in AS_DICTS)),
        ("t.json", json.dumps({t.id: t.text for t in TOPICS}, indent=1)),
        ("t.json.gz", json.dumps({t.id: {"title": t.text} for t in TOPICS})),
        ("t", json.dumps({t.id: t.text for t in TOPICS})),
        ("t.txt", TREC),
        ("t.trec.gz", TREC.replace("<num> Number: ", "<num>").replace("\n<title> ", "</num>\n<title>\n")),
        ("t.trec", "".join(f"<top><num>{t.id}</num><title>{t.text}</title></top>\n" for t in TOPICS)),
        ("t.trec", "".join(f"<top>\n<num>{t.id}\n<title>{t.text}\n</top>" for t in TOPICS)),
        ("t.tsv", "qid\tquery\n" + "".join(f"{t.id}\t{t.text}\n" for t in TOPICS)),
    ],
)
def test_every_format_gives_the_same_topics(tmp_path: Path, name: str, text: str) -> None:
    topics = read_topics(put(tmp_path, name, text))
    assert list(topics.values()) == TOPICS
    assert list(topics) == [topic.id for topic in TOPICS]


def test_a_file_may_be_given_as_a_path(tmp_path: Path) -> None:
    put(tmp_path, "t.tsv", "1\twho wrote it\n")
    assert read_topics(tmp_path / "t.tsv") == {"1": Topic("1", "who wrote it")}


@pytest.mark.parametrize("query", ["[what's up]", "[1, 2, 3]", "[is this it]"])
def test_a_query_in_brackets_is_no_list_of_answers(tmp_path: Path, query: str) -> None:
    topics = read_topics(put(tmp_path, "t.tsv", f"1\t{query}\n2\twho discovered radium\n"))
    assert [(topic.id, topic.text) for topic in topics.values()] == [("1", query), ("2", "who discovered radium")]


@pytest.mark.parametrize(
    "header",
    [
        "qid\tquery\tcategory",
        "query-id\ttext\t-",
        "topic\tquery\t-",
        "Topic_ID\tTitle\t-",
        '"Query ID"\t"Query"\t-',
        "#id\ttext",
        "number\tquery",
        "num\tquestions",
        "topic_number\tqueries",
    ],
)
def test_a_first_line_that_names_columns_is_no_topic(tmp_path: Path, header: str) -> None:
    more = "\tx" * (header.count("\t") - 1)
    text = header + "\n" + "".join(f"{t.id}\t{t.text}{more}\n" for t in TOPICS)
    assert list(read_topics(put(tmp_path, "t.tsv", text)).values()) == TOPICS


@pytest.mark.parametrize("line", ["7\tquery", "q1\ttext", "topic\twhat is a query", "id\tid", "x\ttitle\tquery"])
def test_a_first_topic_that_looks_like_names_of_columns_stays(tmp_path: Path, line: str) -> None:
    topics = read_topics(put(tmp_path, "t.tsv", f"{line}\n2\twho discovered radium\n"))
    first = line.replace("\t", " ").split(" ", 1)
    assert [(topic.id, topic.text) for topic in topics.values()] == [tuple(first), ("2", "who discovered radium")]


def test_a_title_may_hold_a_less_than_sign(tmp_path: Path) -> None:
    text = "<top>\n<num> Number: 1\n<title> is 3 < 5 true\n<desc> Why\n</top>\n"
    assert read_topics(put(tmp_path, "t.trec", text)) == {"1": Topic("1", "is 3 < 5 true")}


def test_numbers_of_early_topics_are_those_of_their_judgements(tmp_path: Path) -> None:
    text = "".join(f"<top>\n<num> Number: {number}\n<title> Topic: a\n</top>\n" for number in ("051", "000", "0x1"))
    assert list(read_topics(put(tmp_path, "t.trec", text))) == ["51", "0", "0x1"]


def test_integer_ids_become_strings_and_answers_come_along(tmp_path: Path) -> None:
    text = '{"id": 7, "question": "q", "answers": ["a", "b"]}\n{"id": 8, "question": "r", "answer": "c"}\n'
    assert read_topics(put(tmp_path, "t.jsonl", text)) == {
        "7": Topic("7", "q", ("a", "b")),
        "8": Topic("8", "r", ("c",)),
    }


DPR = [Topic("0", 'who said "so it\'s"', ("it's", 'a "b"')), Topic("1", "when", ("1958", "a\tb"))]


def cell(text: str) -> str:
    quoted = text.replace('"', '""')
    return f'"{quoted}"'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dpr.nq.txt", "".join(f"{t.text}\t{list(t.answers)!r}\n" for t in DPR)),
        ("dpr.nq.csv", "".join(f"{t.text}\t{json.dumps(t.answers)}\n" for t in DPR)),
        ("dpr.trivia.txt", "".join(f"{cell(t.text)}\t{cell(repr(list(t.answers)))}\n" for t in DPR)),
        ("dpr.wq.txt", "".join(json.dumps({"question": t.text, "answer": t.answers}) + "\n" for t in DPR)),
    ],
)
def test_dpr_files_count_their_questions_from_0(tmp_path: Path, name: str, text: str) -> None:
    assert list(read_topics(put(tmp_path, name, text)).values()) == DPR


@given(answers=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_answer_lists_survive_python_and_json(answers: list[str]) -> None:
    assert parse_answers(repr(answers)) == tuple(answers)
    assert parse_answers(json.dumps(answers)) == tuple(answers)
    assert parse_answers(json.dumps(answers, ensure_ascii=False)) == tuple(answers)


def test_answers_that_are_no_list() -> None:
    assert parse_answers(" Paris ") == ("Paris",)
    assert parse_answers("") == ()
    assert parse_answers("[1958, 'x']") == ("1958", "x")
    assert parse_answers(r"['\d+ km']") == (r"\d+ km",)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("[Annie O'Donnell, 'Kathy Bates']", ("Annie O'Donnell", "Kathy Bates")),
        ("['a , b', `` AZ '' Faison, Monk 's, 'x']", ("a , b", "`` AZ '' Faison", "Monk 's", "x")),
        ("[Galleria dell'Accademia , Florence ,]", ("Galleria dell'Accademia , Florence ,",)),
        ("[At World 's End :, 'On Stranger Tides :']", ("At World 's End :", "On Stranger Tides :")),
    ],
)
def test_lists_that_lost_their_double_quotes_are_mended(text: str, answers: tuple[str, ...]) -> None:
    assert parse_answers(text) == answers
    assert repr(list(answers)).replace('"', "") == text


def test_answers_are_never_evaluated() -> None:
    assert parse_answers("[__import__('os').getcwd()]") == ("__import__('os').getcwd()",)


@pytest.mark.parametrize("text", ["[oops", "[oops]", "[['a']]", "[None]", "[" * 9999, '["a", b]', "['a', b]"])
def test_a_list_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="list of strings") as caught:
        parse_answers(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("t.tsv", "1\ta\n\n1\tb\n", "3: topic 1 is already on line 1"),
        ("t.tsv", "1\ta\n2\t \n", "2: empty query for topic 2"),
        ("t.tsv", "1\ta\n2 b\n", "2: no tab; expected id<TAB>query"),
        ("t.tsv", "a b\tc\n", "1: topic id 'a b'"),
        ("t.trec", "<top>\n<num> Number: CT 1\n<title> a\n</top>\n", "1: topic id 'CT 1'"),
        ("t.jsonl", '{"id": 1, "text": "a", "answers": ["b\\ud800"]}\n', "1: topic '1' has half a surrogate pair"),
        ("t.tsv", "1\ta\n2\0\tb\n", r"2: topic id '2\\x00' has a zero byte"),
        ("t.jsonl", '{"id": "1\\u0000", "text": "a"}\n', r"1: topic id '1\\x00' has a zero byte"),
        ("t.tsv", "\n", "1: no topics"),
        ("t.tsv", "id\tquery\n", "1: no topics"),
        ("t.jsonl", '{"id": 1, "text": "a"}\n{"id": 2,\n', "2: broken JSON"),
        ("t.jsonl", '{"id": 1, "text": "a"}\n[3]\n', "2: expected a JSON object"),
        ("t.jsonl", '{"id": 1, "body": "a"}\n', "1: no query; expected one of the keys question"),
        ("t.jsonl", '{"id": null, "text": "a"}\n', "1: id None is no string"),
        ("t.jsonl", '{"id": 1, "text": ["a"]}\n', "1: text .* is no string"),
        ("t.jsonl", '{"id": 1, "text": "a"}\n{"text": "b"}\n', "2: only some topics have an id"),
        ("t.jsonl", '{"id": 1, "text": "a\\ud800"}\n', "1: topic '1' has half a surrogate"),
        ("t.jsonl", '{"id": 1, "text": "a", "answers": {"x": 1}}\n', "1: answers .* no list"),
        ("t.jsonl", "[" * 99999, "1: JSON too deep"),
        (
            "t.json",
            '[\n{"id": 1, "text": "a"},\n\n{"id": 1, "text": "b"}]',
            "4: topic 1 is already on line 2",
        ),
        ("t.json", '{\n"1": "a",\n"2": {"title": "b"},\n\n"1": "c"}', "5: topic 1 is already on line 2"),
        ("t.json", '{\n"1": "a",\n"2": 3}', "3: text 3 is no string"),
        ("t.json", '[\n{"id": 1 "text": "a"}]', "2: broken JSON"),
        ("t.json", "[]", "1: no topics"),
        ("t.json", "7", "1: expected a JSON list"),
        ("t.txt", "<top>\n<title> a\n</top>", "1: topic without <num>"),
        ("t.txt", "<top>\n<num> 1\n<title>\n<desc> d\n</top>", "1: empty query for topic 1"),
        ("t.xml", "<topics>\n<topic/></topics>", "1: expected <top>"),
        ("t.txt", "q\t['a']\nr\t['b'\n", "2: answers .* no list"),
        ("t.txt", "q\t['a']\nr\n", "2: expected question<TAB>"),
    ],
)
def test_a_fault_names_file_line_and_fix(tmp_path: Path, name: str, text: str, what: str) -> None:
    with pytest.raises(InputError, match=rf"{name}:{what}") as caught:
        read_topics(put(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_real_topics(shared_data: Path) -> None:
    assert read_topics(str(shared_data / "dl19" / "topics.tsv"))["264014"].text == "how long is life cycle of flea"
    for file in sorted(os.listdir(shared_data / "miniwiki")):
        if file.startswith("topics."):
            topics = read_topics(str(shared_data / "miniwiki" / file))
            assert all(topic.answers for topic in topics.values())


def test_the_likeliest_of_several_keys_is_the_id(tmp_path: Path) -> None:
    text = (
        '{"number": 3, "_id": "x9", "text": "a", "Query-ID": 2, "qid": 1}\n{"_id": "x10", "query_id": 2, "text": "b"}\n'
    )
    assert list(read_topics(put(tmp_path, "t.jsonl", text))) == ["1", "x10"]


def test_what_may_be_an_id_is_not_replaced_by_a_position(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t.jsonl:1: is .sample_id. the topic's id\? call it id, or leave it out"):
        read_topics(put(tmp_path, "t.jsonl", '{"sample_id": 7, "question": "who"}\n'))
    # A passage's says nothing of the topic.
    found = read_topics(put(tmp_path, "t.jsonl", '{"question": "who", "answers": ["I"], "passage_id": 7}\n'))
    assert list(found) == ["0"]


def test_one_question_over_several_lines_is_one_topic(tmp_path: Path) -> None:
    text = json.dumps({"question": "who discovered radium", "answer": ["Marie Curie"]}, indent=1)
    assert read_topics(put(tmp_path, "t.json", text)) == {"0": Topic("0", "who discovered radium", ("Marie Curie",))}


def test_a_third_column_is_no_part_of_the_queries(tmp_path: Path) -> None:
    table = "".join(f"{t.id}\t{t.text}\tan answer\n" for t in TOPICS)
    said = refusal(read_topics, put(tmp_path, "t.tsv", table))
    assert (
        "t.tsv:1: 3 columns, and topics have 2; name them in a first line (qid<TAB>query<TAB>...), or take two" in said
    )
    assert list(read_topics(put(tmp_path, "t.tsv", f"qid\tquery\tanswer\n{table}")).values()) == TOPICS


def test_a_third_column_may_be_empty_here_and_there(tmp_path: Path) -> None:
    said = refusal(read_topics, put(tmp_path, "t.tsv", "1\twhat is x\tgeography\n2\twho is y\t\n"))
    assert "t.tsv:1: 3 columns" in said


@pytest.mark.parametrize("more", ["\t", "\t\t ", "\t\r"])
def test_empty_columns_at_the_end_are_none(tmp_path: Path, more: str) -> None:
    table = "".join(f"{t.id}\t{t.text}{more}\n" for t in TOPICS)
    assert list(read_topics(put(tmp_path, "t.tsv", table)).values()) == TOPICS
