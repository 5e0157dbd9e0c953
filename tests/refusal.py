"""What something is refused with."""

from collections.abc import Callable
from typing import Any

import pytest

from qpeft_rerank.errors import InputError


def refusal(action: Callable[..., Any], *args: Any) -> str:
    """The message of an action's refusal, which is one line."""
    with pytest.raises(InputError) as caught:
        action(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)
