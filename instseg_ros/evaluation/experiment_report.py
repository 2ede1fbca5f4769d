"""Table and figure of an experiment: results of its cells (part, variant, seed, mIoU, hard …) in, Markdown and a figure out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cells = Sequence[dict[str, Any]]


def experiment_table(title: str, cells: Cells) -> str:
    """One row a variant, in the order of the cells: mIoU one-to-one on the hard and on all images of each part, mean ± standard
    deviation over seeds; then the mean over parts, best-match in brackets behind it."""
    parts, variants = _names(cells, "part"), _names(cells, "variant")
    head = ["", *(f"{part} {kind}" for part in parts for kind in ("hard", "all")), "mean hard", "mean all"]
    rows = [head, ["---"] * len(head)]
    for variant in variants:
        values = [_spread(_values(cells, variant, part, hard)) for part in parts for hard in (True, False)]
        means = [_overall(cells, variant, parts, hard) for hard in (True, False)]
        rows.append([variant, *values, *means])
    trained = [cell for cell in cells if cell["train_images"]]
    images = sorted({cell["test_images"] for cell in cells})
    seeds = sorted({cell["seed"] for cell in trained})
    told = (
        f"{title}. mIoU one-to-one (behind the means: best match), {' or '.join(map(str, images))} test images a part, "
        f"seeds {', '.join(map(str, seeds)) or 'none yet'}."
    )
    return "\n".join([told, "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def experiment_figure(title: str, axis: str, cells: Cells) -> Figure:
    """A curve a part over the variants' numbers where ``axis`` names these, else bars a variant; k-means as dashed lines."""
    import matplotlib

    matplotlib.use("Agg")  # no display, on servers as on robots
    from matplotlib.figure import Figure

    from .figures import COLORS

    parts = _names(cells, "part")
    trained = [cell for cell in cells if cell["train_images"]]
    variants = _names(trained, "variant")
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for panel, hard in zip(figure.subplots(1, 2, sharey=True), (True, False)):
        for i, part in enumerate(parts):
            color = COLORS[i % len(COLORS)]
            values = [_values(trained, variant, part, hard) for variant in variants]
            known = [j for j, value in enumerate(values) if value]
            height = [mean(values[j]) for j in known]
            error = [stdev(values[j]) if len(values[j]) > 1 else 0.0 for j in known]
            if axis:
                panel.errorbar([float(variants[j]) for j in known], height, error, color=color, marker="o", capsize=2, label=part)
            else:
                width = 0.8 / len(parts)
                at = [j + (i - (len(parts) - 1) / 2) * width for j in known]
                panel.bar(at, height, 0.92 * width, yerr=error, color=color, capsize=2, label=part)
            for cell in cells:
                if not cell["train_images"] and cell["part"] == part and _figure(cell, hard) is not None:
                    panel.axhline(_figure(cell, hard), color=color, linestyle="--", linewidth=1)
        panel.set(title="images on which k-means fails" if hard else "all test images", ylim=(0, 1), xlabel=axis)
        panel.grid(axis="y", alpha=0.3)
        if not axis:
            panel.set_xticks(range(len(variants)), variants, rotation=20, ha="right", fontsize=8)
    figure.axes[0].set_ylabel("mIoU one-to-one (dashed: k-means)")
    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.axes[0].legend(fontsize=8)
    return figure


def _names(cells: Cells, key: str) -> list[str]:
    return list(dict.fromkeys(cell[key] for cell in cells))


def _figure(cell: dict[str, Any], hard: bool, key: str = "mIoU") -> float | None:
    scores = cell["hard"] if hard else cell
    return None if scores is None else scores[key]


def _values(cells: Cells, variant: str, part: str, hard: bool, key: str = "mIoU") -> list[float]:
    """The figure of every seed that is there."""
    found = (_figure(cell, hard, key) for cell in cells if cell["variant"] == variant and cell["part"] == part)
    return [value for value in found if value is not None]


def _overall(cells: Cells, variant: str, parts: Sequence[str], hard: bool) -> str:
    """Mean over parts, once every part is there."""
    one, best = ([_values(cells, variant, part, hard, key) for part in parts] for key in ("mIoU", "mIoU_best"))
    if not all(one):
        return "–"
    return f"{mean(map(mean, one)):.3f} ({mean(map(mean, best)):.3f})"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
