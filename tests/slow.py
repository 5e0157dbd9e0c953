"""Cases of a test that are all run, but most of them after the quick tests."""

from collections.abc import Iterable

import pytest
from _pytest.mark.structures import ParameterSet


def slow_but(cases: Iterable[str], *quick: str) -> "list[str | ParameterSet]":
    """All the cases, slow but for the named ones: of these each stands for others."""
    cases = list(cases)
    assert set(quick) <= set(cases)
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]
