"""Prompt templates: five named pieces of text, from a shipped file or the user's own YAML.

A prompt is the concatenation ``[BOS] prompt passage [hints] question target``. Only ``target`` is
scored. Only the text between the first and the last passage field is ever truncated.
"""

import re
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import at_home, parse_yaml
from qpeft_rerank.trec.lines import is_text

PASSAGE_FIELDS = ("title", "text", "passage")
_FIELD = re.compile(r"\{(\w*)\}")
_ALLOWED = {
    "prompt": (),
    "passage": PASSAGE_FIELDS,
    "hints": ("hints",),
    "question": (),
    "target": ("query",),
}


@dataclass(frozen=True, slots=True)
class Template:
    """One prompt, piece by piece.

    ``passage`` holds ``{passage}`` (``title. text``, or the text alone where there is no title), or
    ``{text}`` with or without ``{title}``. ``hints`` is left out when no adapter fills ``{hints}``;
    it stands before the passage when ``hints_first`` is true, else between passage and question.
    ``bos`` says whether the sequence starts with BOS: ``auto`` takes what the tokenizer puts before a
    text, be it several tokens (:attr:`~qpeft_rerank.prompt.pieces.Pieces.start`). ``score_bos`` puts
    a second BOS in front of the query and scores it, as Q-PEFT's authors do (Q-PEFT section 3.4);
    it has no effect on a model whose sequences do not start with BOS.
    """

    name: str
    passage: str
    question: str
    target: str
    prompt: str = ""
    hints: str = "\nhints: {hints}"
    hints_first: bool = False
    bos: Literal["auto", "always", "never"] = "auto"
    score_bos: bool = False
    score_eos: bool = False

    def __post_init__(self) -> None:
        for piece in ("name", *_ALLOWED):
            text = getattr(self, piece)
            if not isinstance(text, str):  # YAML makes a date, a number or a truth value of some bare words
                raise InputError(
                    f"prompt {self.name}: {piece} must be text, not {type(text).__name__}; put it in quotes"
                )
            if not is_text(text):
                raise InputError(f"prompt {self.name!r}: {piece} has half a surrogate pair; mend the escape")
        if "\0" in self.name:  # which no file's name may hold
            raise InputError(f"prompt {self.name!r}: name has a zero byte; take it out")
        for piece, allowed in _ALLOWED.items():
            used = _FIELD.findall(getattr(self, piece))
            unknown = [field for field in used if field not in allowed]
            if unknown:
                known = ", ".join(f"{{{field}}}" for field in allowed) or "no field"
                raise InputError(f"prompt {self.name}: {piece} has {{{unknown[0]}}}; it may hold {known}")
            if len(used) != len(set(used)):
                raise InputError(f"prompt {self.name}: {piece} names a field twice")
        body = [field for field in _FIELD.findall(self.passage) if field != "title"]
        if len(body) != 1:
            raise InputError(f"prompt {self.name}: passage must hold {{passage}} or {{text}} once")
        if body == ["passage"] and "{title}" in self.passage:
            raise InputError(f"prompt {self.name}: {{passage}} has the title in it; use {{title}} with {{text}}")
        if "{hints}" not in self.hints:
            raise InputError(f"prompt {self.name}: hints must hold {{hints}}")
        if "{query}" not in self.target:
            raise InputError(f"prompt {self.name}: target must hold {{query}}")
        if self.target.rpartition("{query}")[2]:
            raise InputError(f"prompt {self.name}: target must end with {{query}}; use score_eos for an end mark")
        if self.bos not in ("auto", "always", "never"):
            raise InputError(f"prompt {self.name}: bos is auto, always or never, not {self.bos!r}")
        for flag in ("hints_first", "score_bos", "score_eos"):
            if not isinstance(getattr(self, flag), bool):
                raise InputError(f"prompt {self.name}: {flag} is true or false")

    def passage_region(self) -> tuple[str, str, str]:
        """Split the passage piece into ``(before, region, after)``; the region spans all its fields."""
        found = list(_FIELD.finditer(self.passage))
        start, end = found[0].start(), found[-1].end()
        return self.passage[:start], self.passage[start:end], self.passage[end:]

    def to_dict(self) -> dict[str, Any]:
        """The template as plain data, in the keys of a YAML file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def content(self) -> dict[str, Any]:
        """The same without the name: what decides scores."""
        return {key: value for key, value in self.to_dict().items() if key != "name"}


def render_passage(region: str, title: str, text: str) -> str:
    """Fill the fields of a passage region.

    Without a title, ``{title}`` vanishes together with the text between it and ``{text}``. What stands
    before the first field and after the last is no part of the region and stays: nothing tells a label
    of the title alone (``Title: {title}``) from one of the whole (``Passage: {title} {text}``).
    """
    title = title if title.strip() else ""
    if not title:
        region = re.sub(r"\{title\}[^{]*(?=\{)|[^}]*\{title\}", "", region)
    joined = f"{title}. {text}" if title and text else title or text
    values = {"title": title, "text": text, "passage": joined}
    return _FIELD.sub(lambda match: values[match[1]], region)


def template_from_dict(values: Any, source: str) -> Template:
    """Check plain data and make a :class:`Template`; faults name ``source``."""
    if not isinstance(values, dict):
        raise InputError(f"{source}: a prompt file is a YAML mapping with passage, question and target")
    known = [field.name for field in fields(Template)]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise InputError(f"{source}: unknown key {unknown[0]!r}; a prompt has {', '.join(known)}")
    missing = [key for key in ("passage", "question", "target") if key not in values]
    if missing:
        raise InputError(f"{source}: {missing[0]!r} is missing; a prompt needs passage, question and target")
    try:
        return Template(**{"name": Path(source).stem, **values})
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def named_templates() -> list[str]:
    """The names of the prompts that ship."""
    folder = resources.files("qpeft_rerank.prompt") / "named"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_template(name: str) -> Template:
    """Load a prompt by its name (``plain``, ``qpeft``, ``upr``) or from a YAML file.

    :raises InputError: if there is none, it is damaged, or has the name of one that ships and is another.
    """
    if name in named_templates():
        text = (resources.files("qpeft_rerank.prompt") / "named" / f"{name}.yaml").read_text("utf-8")
        return template_from_dict(parse_yaml(text, name), name)
    path = at_home(name)
    if not path.is_file():
        raise InputError(f"no prompt {name!r}: give {', '.join(named_templates())} or a YAML file")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: cannot be read as UTF-8 text ({error})") from None
    made = template_from_dict(parse_yaml(text, name), name)
    # Runs are called by it, so theirs would pass for those of the other.
    if made.name in named_templates() and made.content != load_template(made.name).content:
        raise InputError(
            f"{name}: is called {made.name}, as one that ships, and is another; give it a name of its own (name: ...)"
        )
    return made
