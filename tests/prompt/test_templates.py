"""Templates: the ones that ship, the user's own, and what is wrong with a bad one."""

from importlib import resources
from pathlib import Path

import pytest

from qpeft_rerank.errors import InputError
from qpeft_rerank.prompt import Template, load_template, named_templates
from qpeft_rerank.prompt.templates import render_passage
from tests.refusal import refusal

GOOD = 'passage: "Text: {passage}"\nquestion: "\\nAsk:"\ntarget: " {query}"\n'


def test_the_shipped_ones_load() -> None:
    assert named_templates() == ["plain", "qpeft", "upr"]
    for name in named_templates():
        assert load_template(name).name == name


def test_a_users_file_is_named_after_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, "utf-8")
    template = load_template(str(path))
    assert (template.name, template.question) == ("mine", "\nAsk:")


def test_a_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD, "utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_template("~/mine.yaml").name == "mine"


@pytest.mark.parametrize("shipped", named_templates())
def test_another_prompt_may_not_go_by_the_name_of_one_that_ships(shipped: str, tmp_path: Path) -> None:
    """Runs are called by the prompt; a copy that was not edited is the same prompt wherever it lies."""
    text = (resources.files("qpeft_rerank.prompt") / "named" / f"{shipped}.yaml").read_text("utf-8")
    copy, edited, other = tmp_path / "copy.yaml", tmp_path / "edited.yaml", tmp_path / f"{shipped}.yaml"
    copy.write_text(text, "utf-8")
    assert load_template(str(copy)) == load_template(shipped)
    edited.write_text(text + "bos: never\n", "utf-8")
    other.write_text(GOOD, "utf-8")
    for path in (edited, other):
        said = refusal(load_template, str(path))
        assert said.startswith(f"{path}: is called {shipped}, as one that ships, and is another; give it a name")
    edited.write_text(text.replace(f"name: {shipped}", "name: mine") + "bos: never\n", "utf-8")
    assert load_template(str(edited)).name == "mine"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "colour: red\n", "unknown key 'colour'"),
        (GOOD.replace("target", "targets"), "unknown key 'targets'"),
        ('passage: "{passage}"\nquestion: ""\n', "'target' is missing"),
        (GOOD.replace("{passage}", "{body}"), "{body}"),
        (GOOD.replace("{passage}", ""), "must hold {passage} or {text} once"),
        (GOOD.replace("{passage}", "{title} {passage}"), "use {title} with {text}"),
        (GOOD.replace("{query}", "{query}?"), "must end with {query}"),
        (GOOD.replace("{query}", "what"), "must hold {query}"),
        (GOOD + "score_eos: perhaps\n", "score_eos is true or false"),
        (GOOD + "bos: sometimes\n", "bos is auto, always or never"),
        ("- a\n- b\n", "YAML mapping"),
        ('passage: "unclosed\n', ":2: not YAML"),
        ("name: 2024-01-01\n" + GOOD, "name must be text, not date"),
        ("name: null\n" + GOOD, "name must be text, not NoneType"),
        ("name: 2024-13-45\n" + GOOD, "not YAML (month must be in 1..12)"),
        ('name: "\\ud83d"\n' + GOOD, "name has half a surrogate pair"),
        ('prompt: "\\ud83d"\n' + GOOD, "prompt has half a surrogate pair"),
        ('name: "a\\0b"\n' + GOOD, "name has a zero byte; take it out"),
        ("passage: \x07{passage}\n", "unacceptable character #x0007"),
        ("name: mine\nscore_eos: 1\n" + GOOD, "score_eos is true or false"),
    ],
)
def test_a_bad_file_gets_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        load_template(str(path))
    assert str(caught.value).startswith(str(path)) and says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="plain, qpeft, upr"):
        load_template("plian")


@pytest.mark.parametrize(
    ("region", "title", "expected"),
    [
        ("{passage}", "Ada", "Ada. wrote"),
        ("{passage}", "", "wrote"),
        ("{passage}", " ", "wrote"),
        ("{title} {text}", "Ada", "Ada wrote"),
        ("{title} {text}", "", "wrote"),
        ("{text} -- {title}", "Ada", "wrote -- Ada"),
        ("{text} -- {title}", "", "wrote"),
        ("{text}", "Ada", "wrote"),
    ],
)
def test_a_missing_title_leaves_no_separator(region: str, title: str, expected: str) -> None:
    assert render_passage(region, title, "wrote") == expected


@pytest.mark.parametrize(
    ("passage", "untitled"),
    [("Title: {title}\nText: {text}", "Title: wrote"), ("{text} ({title})", "wrote)"), ("{title} ({text})", "wrote)")],
)
def test_what_stands_around_the_fields_stays_without_a_title(passage: str, untitled: str) -> None:
    before, region, after = Template("mine", passage, "", "{query}").passage_region()
    assert before + render_passage(region, "", "wrote") + after == untitled


def test_braces_in_a_passage_are_text() -> None:
    assert render_passage("{title} {text}", "{text}", "{title}") == "{text} {title}"
