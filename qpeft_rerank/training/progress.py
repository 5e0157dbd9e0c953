"""The bar on stderr: steps, loss, dev metric, tokens a second."""

from qpeft_rerank.console import say

# Weight of a new value in the running mean that the bar shows.
_FRESH = 0.1


class Progress:
    """A bar over optimizer steps, silent on processes other than the main one. Use it in a ``with`` block.

    :param steps: of the whole training.
    :param done: before this start.
    """

    def __init__(self, steps: int, done: int, shown: bool) -> None:
        from tqdm import tqdm

        self._shown = shown
        self._loss: float | None = None
        self._speed: float | None = None
        self._dev: float | None = None
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=not shown, dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def step(self, loss: float, tokens: int, seconds: float) -> None:
        """Count one optimizer step."""
        self._loss = _mixed(self._loss, loss)
        self._speed = _mixed(self._speed, tokens / max(seconds, 1e-9))
        shown = {"loss": f"{self._loss:.3f}", "tokens/s": f"{self._speed:.0f}"}
        if self._dev is not None:
            shown["dev"] = f"{self._dev:.3f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def judged(self, epoch: int, value: float) -> None:
        """Report the dev metric of an epoch, 0 being before any training."""
        self._dev = value
        if self._shown:
            self._bar.clear()
            when = f"after epoch {epoch}" if epoch else "untrained"
            loss = f", loss {self._loss:.3f}" if self._loss is not None else ""
            say(f"dev MRR@10 {when}: {value:.4f}{loss}")


def _mixed(old: float | None, new: float) -> float:
    return new if old is None else old + _FRESH * (new - old)
