"""What loading an adapter is refused with."""

from qpeft_rerank.adapters.store import load_adapter
from tests.refusal import refusal


def refused(name, model):
    return refusal(load_adapter, str(name), model)
