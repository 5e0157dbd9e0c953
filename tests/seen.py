"""What an HTML page holds."""

from html.parser import HTMLParser


class Seen(HTMLParser):
    """A page's elements with their attributes, its tables as rows of cells with their captions, and its texts."""

    VOID = ("meta", "input", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.captions: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "caption":
            self.captions.append("")
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
        if "caption" in self._open:
            self.captions[-1] += data.replace("\n", "")
        elif "table" in self._open and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data.replace("\n", "")
        elif "p.text" in self._open:
            self.texts[-1] += data

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        """The attributes of all elements of a tag, or of those of one class."""
        return [found for name, found in self.elements if name == tag and kind in (None, found.get("class"))]
