"""Where layers are packed."""

import pytest

from qpeft_rerank.likelihood import linears

#: For tests of packed layers, which PyTorch's oneDNN makes.
packing = pytest.mark.skipif(not linears.packs(), reason="this PyTorch has no oneDNN, which packs layers")
