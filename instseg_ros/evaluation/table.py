"""Results as one compact table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

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
    ("amodal_AP50", "am. 50", ".3f"),
    ("visible_error_mean", "vis. err", ".3f"),
    ("order_accuracy", "order", ".3f"),
    ("count_accuracy", "count", ".3f"),
    ("centroid_mm_median", "mm", ".2f"),
)
"""(key of a result, heading, format); seconds and sizes follow."""

HIGHER_IS_BETTER = {key: key not in ("centroid_mm_median", "visible_error_mean") for key, _, _ in COLUMNS}


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


class Column(NamedTuple):
    """A column of a Markdown table: its heading, where in a result the scores lie, which one, its format."""

    heading: str
    path: tuple[str, ...]
    key: str
    form: str

    def row(self, result: dict) -> dict:
        """The scores of the column's part or subset; empty where a result has none."""
        for key in self.path:
            result = result.get(key) or {}
        return result

    def cells(self, results: list[dict]) -> list[str]:
        """One cell a result, the best in bold, with 95 % intervals except for single parts (which would be too wide)."""
        rows = [self.row(result) for result in results]
        best, cells = best_text(rows, self.key, self.form), []
        for row in rows:
            text = cell(row.get(self.key), self.form)
            text = f"**{text}**" if text == best else text
            low, high = (row.get("interval") or {}).get(self.key) or (None, None)
            shown = low is not None and row.get(self.key) is not None and "per_part" not in self.path
            cells.append(f"{text} ({low:{self.form}}–{high:{self.form}})" if shown else text)
        return cells


def format_markdown(results: dict[str, dict]) -> str:
    """A table for a README: a caption, then one row a method, the best of each column in bold, 95 % intervals in brackets.

    Several parts: one-to-one mIoU of each part, of all and of the hard images, then AP, AP50 and AR of all. One part: the
    columns of the terminal's table.
    """
    rows = list(results.values())
    first = rows[0]
    columns = _columns_of_parts(first)
    if len(first["per_part"]) < 2:
        columns = [Column(title, (), key, form) for key, title, form in used_columns(rows)]
    seconds = [cell(row["seconds"]["median"], ".3f") for row in rows]
    table = [[label(name, row) for name, row in results.items()], *(column.cells(rows) for column in columns), seconds]
    lines = [["", *(column.heading for column in columns), "s an image"], ["---"] * len(table), *zip(*table)]
    told = f"{first.get('data') or 'unnamed data'}: {first['images']} images, {first['instances']} instances that count"
    return "\n".join([told, "", *(f"| {' | '.join(line)} |" for line in lines)])


def _columns_of_parts(result: dict) -> list[Column]:
    columns = [Column(part, ("per_part", part), "mIoU", ".2f") for part in result["per_part"]]
    columns.append(Column("all", (), "mIoU", ".3f"))
    if result.get("hard"):
        columns.append(Column("hard", ("hard",), "mIoU", ".3f"))
    return columns + [Column(key, (), key, ".3f") for key in ("AP", "AP50", "AR100")]


def best_text(rows: Iterable[dict], key: str, form: str) -> str | None:
    """The best value of a column as it is printed; None where fewer than two different ones are printed."""
    values = {row[key] for row in rows if row.get(key) is not None}
    if len({format(value, form) for value in values}) < 2:
        return None
    return format(max(values) if HIGHER_IS_BETTER.get(key, True) else min(values), form)
