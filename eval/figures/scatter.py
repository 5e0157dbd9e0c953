"""First-stage scores by likelihoods: one dot a candidate, both as distances from their topic's mean."""

import numpy

from eval.figures.style import GAIN, Panel, panel, to_svg
from eval.mixing import Scored

# Relevant candidates are few: they are drawn last, larger and opaque.
_OTHER, _RELEVANT = "#8d8d99", GAIN


def draw(name: str, title: str, scored: Scored) -> Panel | None:
    """A panel; None where no topic has two candidates."""
    first, new, relevant, agreements = [], [], [], []
    for topic in scored.topics:
        hits = scored.first.get(topic, [])
        base = numpy.array([hit.score for hit in hits])
        likelihood = numpy.array([scored.likelihood[topic][hit.docid] for hit in hits])
        if len(hits) < 2:
            continue
        agreement = _rank_correlation(base, likelihood)
        agreements += [] if agreement is None else [agreement]
        first.append(base - base.mean())
        new.append(likelihood - likelihood.mean())
        relevant.append(numpy.array([scored.qrels.get(topic, {}).get(hit.docid, 0) > 0 for hit in hits]))
    if not first:
        return None
    x, y, hit = map(numpy.concatenate, (first, new, relevant))
    rho = f"rank correlation {numpy.mean(agreements):+.2f}" if agreements else "no rank correlation"
    said = (
        f"{title}: {len(x):,} candidates of {len(first)} topics, {int(hit.sum()):,} relevant; "
        f"mean {rho} between first stage and model within a topic"
    )
    if hit.any():
        said += (
            f"; relevant candidates lie {x[hit].mean():+.2f} from their topic's mean first-stage score and "
            f"{y[hit].mean():+.2f} nats from its mean likelihood"
        )
    with panel(3.5, 2.9) as (figure, axes):
        # As pixels: thousands of dots would make the page slow and large.
        axes.scatter(x[~hit], y[~hit], s=6, color=_OTHER, alpha=0.35, linewidths=0, rasterized=True)
        axes.scatter(x[hit], y[hit], s=9, color=_RELEVANT, alpha=0.8, linewidths=0, rasterized=True)
        axes.set_xlabel("first stage − topic's mean")
        axes.set_ylabel("log P − topic's mean, nats")
        # Single outliers would flatten all others.
        axes.set_xlim(*_most(x))
        axes.set_ylim(*_most(y))
        figure.set_dpi(150)
        svg = to_svg(figure, f"scatter-{name}", said)
    return Panel(title, svg, said, f"{len(x):,} candidates, {int(hit.sum()):,} relevant; mean {rho} within a topic")


def _most(values: numpy.ndarray) -> tuple[float, float]:
    """Limits that hold all but the outermost two thousandths at either end."""
    low, high = numpy.quantile(values, [0.002, 0.998])
    room = 0.08 * float(high - low) or 1.0
    return float(low) - room, float(high) + room


def _rank_correlation(left: numpy.ndarray, right: numpy.ndarray) -> float | None:
    """Spearman's rho; None where one side is all equal."""
    from scipy.stats import spearmanr

    if not (numpy.ptp(left) and numpy.ptp(right)):
        return None
    return float(spearmanr(left, right).statistic)
