"""Five awkward passages, and the page about them."""

from pathlib import Path

from tests.seen import Seen

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


def page_of(tmp_path: Path) -> str:
    return (tmp_path / "page.html").read_text("utf-8")


def texts_are_whole(seen: Seen) -> bool:
    texts = {text.strip().split(" cut here")[0] for text in seen.texts}
    return {f"{PASSAGES[1][1]}. {PASSAGES[1][2]}", f"{PASSAGES[0][1]}. {PASSAGES[0][2]}", "Empty"} <= texts
