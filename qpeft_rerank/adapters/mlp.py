"""The MLP g over the hint block (method 4.1)."""

from torch import Tensor, nn


class HintMLP(nn.Module):
    """Linear, then ``layers`` times ReLU and Linear, all square; nothing at all for 0 layers.

    :param dimension: of the embeddings, in and out.
    :param residual: add the input.
    :param zeros: then start with a last layer of zeros: untrained, g changes nothing, so training starts from hints
        that the model can read instead of from noise.
    """

    def __init__(self, dimension: int, layers: int, residual: bool, zeros: bool = True) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.ReLU(), nn.Linear(dimension, dimension)]
        self.net = nn.Sequential(nn.Linear(dimension, dimension), *parts) if layers else nn.Sequential()
        self.residual = residual and layers > 0
        if self.residual and zeros:
            last = self.net[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """Float32 ``[..., d]`` in and out."""
        return vectors + self.net(vectors) if self.residual else self.net(vectors)
