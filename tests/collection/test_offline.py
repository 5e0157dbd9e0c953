"""Pyserini 2.4's look-up at import, without a network."""

import sys
import types
import urllib.request

import pytest

from qpeft_rerank.collection.offline import CATALOGUE, answered_offline


def test_a_lookup_at_import_is_answered_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.delitem(sys.modules, CATALOGUE, raising=False)
    with answered_offline():
        module = types.ModuleType(CATALOGUE)
        # What the module does when it is imported.
        exec(
            "from urllib.request import urlopen\nimport json\n"
            "class Lazy:\n    _info = None\n"
            "    def __getitem__(self, key):\n"
            "        self._info = self._info or {r['name']: r for r in json.load(urlopen('https://x'))}\n"
            "        return self._info[key]\n"
            "IMPACT = Lazy()\nALIAS = IMPACT['msmarco-v1-passage.unicoil']\n",
            vars(module),
        )
        monkeypatch.setitem(sys.modules, CATALOGUE, module)
    assert urllib.request.urlopen is unreachable
    assert module.urlopen is unreachable  # type: ignore[attr-defined]
    assert module.IMPACT._info is None  # type: ignore[attr-defined]


def test_nothing_happens_once_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, CATALOGUE, types.ModuleType(CATALOGUE))
    before = urllib.request.urlopen
    with answered_offline():
        assert urllib.request.urlopen is before
