"""Results → one self-contained HTML page, with the figures as PNG files beside it."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from pathlib import Path

import cv2

from ..errors import InputError
from ..files import read_json, write_atomic
from .table import Column, best_text, cell, label, used_columns

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1250px; padding: 0 1rem; color: #1b1b1b; background: #fff }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { padding: .25rem .45rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap }
th:first-child, td:first-child { text-align: left } td small { color: #777; display: block; font-size: 10px }
img { max-width: 100%; height: auto } figure { margin: 1rem 0 } figcaption, .note { color: #555; font-size: 13px }
.warning { background: #fff4d6; padding: .5rem .8rem } details { margin: .6rem 0 }
"""


def load_results(files: list[str]) -> dict[str, dict]:
    """Results of ``instseg evaluate`` by name of the method, each file's baselines after its first method.

    Raises:
        InputError: a file is missing, not JSON, or not such a result.
    """
    results: dict[str, dict] = {}
    for file in files:
        loaded = read_json(file)
        if not isinstance(loaded, dict) or not {"AP", "per_part", "plots", "per_image", "interval"} <= loaded.keys():
            raise InputError(f"{file} is not a result of `instseg evaluate` or `instseg replay`: make it with their --json")
        found = {loaded.get("method", Path(file).stem): loaded} | loaded.get("baselines", {})
        for name, result in found.items():
            unique = name if name not in results else f"{name} ({Path(file).stem})"
            if unique in results:
                raise InputError(f"{file}: its method {name!r} is there twice: give each result once")
            results[unique] = {**result, "folder": str(Path(file).resolve().parent)}
    return results


def write_report(results: dict[str, dict], out: str | Path, title: str = "Instance segmentation: evaluation") -> list[Path]:
    """Write ``report.html`` and one PNG a figure into the folder ``out``; returns the paths, the page first."""
    from .figures import FIGURES

    out = Path(out)
    sections, written = [], []
    for name, (heading, draw) in FIGURES.items():
        buffer = BytesIO()
        draw(results).savefig(buffer, dpi=110, format="png")
        path = out / f"{name}.png"
        write_atomic(path, lambda temporary, data=buffer.getvalue(): temporary.write_bytes(data))
        written.append(path)
        sections.append(f"<h2>{escape(heading)}</h2>\n<figure>{_image(buffer.getvalue(), 'png', heading)}</figure>")
    page = "\n".join(
        [
            f"<!doctype html>\n<html lang='en'>\n<head><meta charset='utf-8'><title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>",
            f"<h1>{escape(title)}</h1>",
            _evidence(results),
            "<h2>All parts together</h2>",
            _table(results),
            _legend(results),
            _hard(results),
            *sections,
            _per_part(results),
            _sheets(results),
            _rules(results),
            "</body>\n</html>\n",
        ]
    )
    path = out / "report.html"
    write_atomic(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return [path, *written]


def _evidence(results: dict[str, dict]) -> str:
    lines, seen = [], {(r.get("data"), r["images"], r["instances"]) for r in results.values()}
    for data, images, instances in sorted(seen, key=str):
        lines.append(f"{escape(str(data or 'unnamed data'))}: {images} images, {instances} instances that count")
    names = sorted({part for result in results.values() for part in result["per_part"]})
    text = f"<p>{'<br>'.join(lines)}<br>parts: {escape(', '.join(names))}</p>"
    if len(seen) > 1:
        text += "<p class='warning'>The methods were not evaluated on the same images: do not compare them.</p>"
    return text


def _legend(results: dict[str, dict]) -> str:
    intervals = "; 95 % intervals below (bootstrap over images)" if any(row["interval"] for row in results.values()) else ""
    return (
        f"<p class='note'>Best in bold{intervals}. AP, AR: COCO, IoU 0.50 to 0.95. heavy, medium, little: AR by occlusion. "
        "mIoU: one-to-one; best: each true instance takes its best match. order: of covering pairs, those ranked right. count: "
        "images with the right number. am. 50: AP50 of whole masks. vis. err: mean error of the visible fraction. "
        "mm: median centroid error.</p>"
    )


def _table(rows: dict[str, dict]) -> str:
    columns = used_columns(rows.values())
    head = "".join(f"<th>{escape(title)}</th>" for _, title, _ in columns)
    best = {key: best_text(rows.values(), key, form) for key, _, form in columns}
    body = []
    for name, row in rows.items():
        cells = []
        for key, _, form in columns:
            text = cell(row.get(key), form)
            if text == best[key]:
                text = f"<b>{text}</b>"
            low, high = row["interval"].get(key) or (None, None)
            if low is not None and row.get(key) is not None:
                text += f"<small>{format(low, form)}–{format(high, form)}</small>"
            cells.append(f"<td>{text}</td>")
        cells.append(f"<td>{cell(row['seconds']['median'], '.3f')}</td>")
        body.append(f"<tr><td>{_name(label(name, row))}</td>{''.join(cells)}</tr>")
    return f"<table><tr><th></th>{head}<th>s/image</th></tr>{''.join(body)}</table>"


def _hard(results: dict[str, dict]) -> str:
    rows = {label(name, result): result["hard"] for name, result in results.items() if result.get("hard")}
    if not rows:
        return ""
    images = sorted({row["images"] for row in rows.values()})
    return (
        "<h2>Images on which k-means fails</h2>"
        f"<p class='note'>{' or '.join(map(str, images))} of the images above, the lowest-scoring share of each part.</p>{_table(rows)}"
    )


def _per_part(results: dict[str, dict]) -> str:
    names = sorted({part for result in results.values() for part in result["per_part"]})
    if len(names) < 2:
        return ""
    tables = []
    for part in names:
        rows = {label(name, r): r["per_part"][part] for name, r in results.items() if part in r["per_part"]}
        size = next(iter(rows.values()))
        summary = f"{escape(part)}: {size['images']} images, {size['instances']} instances"
        tables.append(f"<details><summary>{summary}</summary>{_table(rows)}</details>")
    return f"<h2>Tables of the parts</h2>{_overlap_by_part(results, names)}{''.join(tables)}"


def _overlap_by_part(results: dict[str, dict], names: list[str]) -> str:
    columns = [Column(name, ("per_part", name), "mIoU", ".2f") for name in names]
    cells = zip(*(column.cells(list(results.values())) for column in columns))
    labels = [_name(label(name, row)) for name, row in results.items()]
    rows = [f"<tr><td>{name}</td>{''.join(map(_bold_cell, line))}</tr>" for name, line in zip(labels, cells)]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f"<table><tr><th>mIoU, one-to-one</th>{head}</tr>{''.join(rows)}</table>"


def _name(text: str) -> str:
    """A method's name; what it was told stands below in small, so that the table stays narrow."""
    name, _, told = text.rpartition(" (")
    return f"{escape(name)}<small>({escape(told)}</small>" if told.endswith(" given)") else escape(text)


def _bold_cell(markdown: str) -> str:
    return f"<td><b>{markdown[2:-2]}</b></td>" if markdown.startswith("**") else f"<td>{markdown}</td>"


def _sheets(results: dict[str, dict]) -> str:
    blocks = []
    for name, result in results.items():
        for kind, relative in (result.get("pictures") or {}).items():
            path = Path(result["folder"]) / relative
            picture = cv2.imread(str(path)) if path.is_file() else None
            if picture is None:
                blocks.append(f"<p class='warning'>{escape(name)}: the contact sheet {escape(str(relative))} is gone.</p>")
                continue
            jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
            caption = f"{name}: {kind} images by mIoU; each row: image, truth, answer"
            blocks.append(
                f"<details{' open' if kind == 'median' else ''}><summary>{escape(caption)}</summary>"
                f"<figure>{_image(jpeg, 'jpeg', caption)}</figure></details>"
            )
    return "<h2>Pictures</h2>" + "".join(blocks) if blocks else ""


def _rules(results: dict[str, dict]) -> str:
    rules = next(iter(results.values())).get("protocol") or {}
    items = "".join(f"<li>{escape(str(key))}: {escape(_rule(value))}</li>" for key, value in rules.items())
    for name, result in results.items():
        if result.get("given"):
            given = ", ".join(f"{key}: {value}" for key, value in result["given"].items())
            items += f"<li>told to {escape(name)}: {escape(given)}</li>"
    return f"<h2>Rules</h2><ul class='note'>{items}</ul>"


def _rule(value: object) -> str:
    """A rule's value in words: ``{"heavy": [0, 0.3], …}`` → ``heavy 0 to 0.3, …``."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_rule(item)}" for name, item in value.items())
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)


def _image(data: bytes, kind: str, text: str) -> str:
    return f"<img alt='{escape(text, quote=True)}' src='data:image/{kind};base64,{base64.b64encode(data).decode()}'>"
