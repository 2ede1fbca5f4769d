"""Table and figure of an experiment on shapes: rows (variant, instances, seed, figures) in, Markdown and a figure out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from .shapes import KEYS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[dict[str, Any]]

PUBLISHED = {
    ("layered-ceilings", "2 layers", 6): {"AP": 0.8584, "AR100": 0.8627, "AR_heavy": 0.7408},
    ("layered-ceilings", "3 layers", 6): {"AP": 0.9703, "AR100": 0.9744, "AR_heavy": 0.9509},
    ("layered-ceilings", "2 layers", 12): {"AP": 0.6594, "AR100": 0.6611, "AR_heavy": 0.5251},
    ("layered-ceilings", "3 layers", 12): {"AP": 0.8703, "AR100": 0.8729, "AR_heavy": 0.8206},
    ("layered-ceilings", "4 layers", 12): {"AP": 0.9584, "AR100": 0.9629, "AR_heavy": 0.9475},
    ("layered-truth", "network", 6): {"AP": 0.7673, "AR100": 0.7933, "AR_heavy": 0.6190},
    ("layered-truth", "true classes", 6): {"AP": 0.7959, "AR100": 0.8300},
    ("layered-truth", "network", 12): {"AP": 0.5262, "AR100": 0.5697, "AR_heavy": 0.4049},
    ("layered-truth", "true classes", 12): {"AP": 0.5419, "AR100": 0.6013},
}
"""(experiment, variant, instances) → figures of the paper (Tables 1 and 2, section 5; its networks have two layers)."""


def shapes_table(name: str, title: str, rows: Rows) -> str:
    """One line a number of instances and variant, mean ± standard deviation over seeds; the paper's AP, AR100 and AR heavy behind it."""
    lines = [["N", "", *KEYS, "paper: AP / AR100 / AR_heavy"]]
    lines.append(["---"] * len(lines[0]))
    for instances in _names(rows, "instances"):
        for variant in _names([row for row in rows if row["instances"] == instances], "variant"):
            known = PUBLISHED.get((name, variant, instances), {})
            told = " / ".join(f"{known[key]:.3f}" if key in known else "–" for key in ("AP", "AR100", "AR_heavy")) if known else ""
            lines.append([str(instances), variant, *(_spread(_values(rows, variant, instances, key)) for key in KEYS), told])
    images = sorted({row["figures"]["images"] for row in rows})
    seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
    told = (
        f"{title}. {' or '.join(map(str, images))} test images, N shapes of each class, masks at 64 × 64, class-agnostic"
        + (f"; seeds {', '.join(map(str, seeds))}." if seeds else ".")
    )
    return "\n".join([told, "", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def shapes_figure(title: str, rows: Rows) -> Figure:
    """AP, AR100 and AR of heavily hidden shapes over the number of instances of a class, a curve a variant (the paper's Fig. 3)."""
    import matplotlib

    matplotlib.use("Agg")  # no display, on servers as on robots
    from matplotlib.figure import Figure

    from .figures import COLORS

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    numbers = sorted(_names(rows, "instances"))
    for panel, key in zip(figure.subplots(1, 3, sharey=True), ("AP", "AR100", "AR_heavy")):
        for i, variant in enumerate(_names(rows, "variant")):
            points = [(n, values) for n in numbers if (values := _values(rows, variant, n, key))]
            error = [stdev(values) if len(values) > 1 else 0.0 for _, values in points]
            color = COLORS[i % len(COLORS)]
            panel.errorbar([n for n, _ in points], [mean(v) for _, v in points], error, color=color, marker="o", capsize=2, label=variant)
        panel.set(title=key.replace("_", " "), xlabel="instances of each class", ylim=(0, 1.02), xticks=numbers)
        panel.grid(axis="y", alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    return figure


def _names(rows: Rows, key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _values(rows: Rows, variant: str, instances: int, key: str) -> list[float]:
    """Of every seed that is there; figures that cannot be computed (None) are left out."""
    found = (row["figures"][key] for row in rows if row["variant"] == variant and row["instances"] == instances)
    return [value for value in found if value is not None]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
