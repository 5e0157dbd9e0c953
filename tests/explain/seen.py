"""Five awkward passages, and what a page about them holds."""

from html.parser import HTMLParser
from pathlib import Path

EVIL = (
    '</p><script src="http://calls.invalid/s.js">alert(1)</script><img src=http://calls.invalid/i.png> "q" \'s\' & &lt;'
)


PASSAGES = [
    ("a<b&c", 'Title "of" <b>a</b>', EVIL),
    ("d2", "Kurt Gödel", "Kurt Gödel proved, 証明 🙂, that arithmetic is incomplete."),
    ("d3", "", "Grace Hopper wrote the first compiler and popularised the word bug. " * 8),
    ("d4", "Empty", ""),
    ("d5", "", ""),
]


TOPICS = {"t<1>": 'who "wrote" <script>alert(2)</script> & Gödel\'s bug', "t2": "bug"}
KINDS = ["plain", "qpeft-r", "qpeft-a", "soft-prompt"]


class Seen(HTMLParser):
    """A page's elements, and its text by element."""

    VOID = ("meta", "input", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "p" and dict(attrs).get("class") == "text":
            self.texts.append("")
            tag = "p.text"
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().split(".")[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "table" in self._open and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data.replace("\n", "")
        elif "p.text" in self._open:
            self.texts[-1] += data

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and kind in (None, found.get("class"))]


def page_of(tmp_path: Path) -> str:
    return (tmp_path / "page.html").read_text("utf-8")


def texts_are_whole(seen: Seen) -> bool:
    texts = {text.strip().split(" cut here")[0] for text in seen.texts}
    return {f"{PASSAGES[1][1]}. {PASSAGES[1][2]}", f"{PASSAGES[0][1]}. {PASSAGES[0][2]}", "Empty"} <= texts
