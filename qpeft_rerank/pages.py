"""HTML pages that need nothing but themselves: templates in which all is escaped and no other script runs."""

import hashlib
from base64 import b64encode
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def page_template(source: str) -> "jinja2.Template":
    """A Jinja template of a page.

    It may use ``{{ unfold }}``, the script that opens what is folded for printing, and the filter
    ``digest``, by which the page's policy names its one script: of all scripts only that one runs.
    """
    import jinja2
    from markupsafe import Markup

    made = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    made.undefined = jinja2.StrictUndefined
    made.filters["digest"] = _digest
    made.globals["unfold"] = Markup((resources.files("qpeft_rerank") / "unfold.js").read_text("utf-8"))
    return made.from_string(source)


def _digest(text: object) -> str:
    return b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
