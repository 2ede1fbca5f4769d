"""Results as one compact table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

COLUMNS = (
    ("AP", "AP", ".3f"),
    ("AP50", "AP50", ".3f"),
    ("AP75", "AP75", ".3f"),
    ("AR100", "AR", ".3f"),
    ("AR_heavy", "heavy", ".3f"),
    ("AR_medium", "medium", ".3f"),
    ("AR_little", "little", ".3f"),
    ("mIoU", "mIoU", ".3f"),
    ("mIoU_best", "best", ".3f"),
    ("amodal_AP", "amodal", ".3f"),
    ("order_accuracy", "order", ".3f"),
    ("count_accuracy", "count", ".3f"),
    ("centroid_mm_median", "mm", ".2f"),
)
"""(key of a result, heading, format); seconds and sizes follow."""

HIGHER_IS_BETTER = {key: key != "centroid_mm_median" for key, _, _ in COLUMNS}


def used_columns(rows: Iterable[dict]) -> list[tuple[str, str, str]]:
    """The columns in which at least one of the rows has a value."""
    rows = list(rows)
    return [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows)]


def label(name: str, result: dict) -> str:
    """The method's name, with what it was told about the truth: such figures are not those of a method on its own."""
    given = result.get("given") or {}
    told = [key for key, free in (("count", "estimate"), ("foreground", "plane")) if given.get(key, free) != free]
    return f"{name} ({' and '.join(told)} given)" if told else name


def cell(value: float | None, form: str) -> str:
    """A formatted value, a dash for None."""
    return "–" if value is None else format(value, form)


def format_table(results: dict[str, dict]) -> str:
    """One row a method and part (all parts together first, then the hard images where these are known); then seconds an
    image (median), images and instances."""
    columns = used_columns(results.values())
    lines = [["method", "part", *(title for _, title, _ in columns), "s/image", "images", "instances"]]
    for name, result in results.items():
        parts = result["per_part"] if len(result["per_part"]) > 1 else {}
        hard = {"all, hard": result["hard"]} if result.get("hard") else {}
        for part, scores in {"all": result, **hard, **parts}.items():
            values = [cell(scores[key], form) for key, _, form in columns]
            seconds = cell(scores["seconds"]["median"], ".3f")
            lines.append([label(name, result), part, *values, seconds, str(scores["images"]), str(scores["instances"])])
    width = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(text.ljust(w) if i < 2 else text.rjust(w) for i, (text, w) in enumerate(zip(line, width))).rstrip()
        for line in lines
    )
