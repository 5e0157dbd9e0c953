"""The model card's head is YAML, whatever the base model is called."""

from pathlib import Path

import pytest
import yaml

from qpeft_rerank.adapters.card import Card, render
from qpeft_rerank.likelihood.sources import ModelSource


@pytest.mark.parametrize(
    "name",
    [
        "models/\U0001f600",
        "caf\xe9 \u65e5\u672c",
        'a "quoted" name',
        "C:\\models\\new",
        "key: value # no comment",
        "- *star & 'tick'",
        "tab\tand\nline",
        "\x07 \x7f \x85 \x9f \xa0",
        "\u2028 \u2029 \ufeff \ufffe",
        "\U000e0001 \U0010ffff",
    ],
)
def test_any_name_survives_the_head(name):
    text = render(Card(), "mine", "qpeft-a", ModelSource("model", Path(), name), {"torch": "1"})
    head = text.removeprefix("---\n").partition("\n---\n")[0]
    assert yaml.safe_load(head)["base_model"] == name
    text.encode("utf-8")
