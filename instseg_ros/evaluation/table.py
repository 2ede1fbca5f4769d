"""Results as one compact table for the terminal."""

from __future__ import annotations

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


def rows_of(name: str, result: dict) -> list[tuple[str, str, dict]]:
    """(method, part, scores) of a result: all parts together first, then each one if there are several."""
    rows = [(name, "all", result)]
    if len(result["per_part"]) > 1:
        rows += [(name, part, scores) for part, scores in result["per_part"].items()]
    return rows


def cell(value: float | None, form: str) -> str:
    """A formatted value, a dash for None."""
    return "–" if value is None else format(value, form)


def format_table(results: dict[str, dict]) -> str:
    """One row a method and part; columns as in ``COLUMNS``, then seconds an image (median), images and instances."""
    head = ["method", "part", *(title for _, title, _ in COLUMNS), "s/image", "images", "instances"]
    lines = [head]
    for name, result in results.items():
        for method, part, scores in rows_of(name, result):
            lines.append(
                [
                    method,
                    part,
                    *(cell(scores[key], form) for key, _, form in COLUMNS),
                    cell(scores["seconds"]["median"], ".3f"),
                    str(scores["images"]),
                    str(scores["instances"]),
                ]
            )
    width = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(text.ljust(w) if i < 2 else text.rjust(w) for i, (text, w) in enumerate(zip(line, width))).rstrip()
        for line in lines
    )
