"""The report: complete, self-contained, honest about what cannot be compared."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_truth import answer, squares, truth_of
from small_bop import record

from instseg_ros.cli import main
from instseg_ros.drawing import colorize_depth
from instseg_ros.evaluation.pictures import Gallery, align
from instseg_ros.frame import Frame

pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval (extra eval)")
pytest.importorskip("matplotlib", reason="needs the package matplotlib (extra eval)")

from instseg_ros.evaluation import Evaluation  # noqa: E402
from instseg_ros.evaluation.table import format_markdown  # noqa: E402


def result(method: str, missing: int, images: int = 4) -> dict:
    """A result of ``images`` images of which ``missing`` columns of every square are not found."""
    evaluation = Evaluation()
    for i in range(images):
        part = ["nut", "bolt"][i % 2]
        truth = truth_of(squares(3 + i), part=[part] * (3 + i))
        found = truth.labels.copy()
        for k in range(3 + i):
            found[:, 5 + 25 * k : 5 + 25 * k + missing] = 0
        evaluation.add(truth, None, answer(found), seconds=0.1 + 0.01 * i, key=[0, i])
    return {"method": method, "data": "bins/test"} | evaluation.result()


class Page(HTMLParser):
    """Collects what the page would load, its text and its tags' balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def files(tmp_path) -> Path:
    ours = result("ours <1>", 1)
    ours["baselines"] = {"kmeans": result("kmeans", 5) | {"given": {"count": "truth", "foreground": "plane"}}}
    cv2.imwrite(str(tmp_path / "best.png"), np.full((30, 90, 3), 200, np.uint8))
    ours["pictures"] = {"best": "best.png", "worst": "gone.png"}
    (tmp_path / "ours.json").write_text(json.dumps(ours))
    return tmp_path


def test_page_is_self_contained_and_complete(files, tmp_path):
    assert main(["report", str(files / "ours.json"), "--out", str(tmp_path / "out"), "--title", "Bins & parts"]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and page.links and all(link.startswith("data:image/") for link in page.links)
    assert "http" not in text and len(page.links) == 7
    words = " ".join(page.words)
    for expected in ("Bins & parts", "ours <1>", "kmeans", "4 images, 18 instances", "bolt, nut", "gone.png is gone", "count: truth"):
        assert expected in words
    assert "<b>0.950</b>" in text  # mIoU of ours, the better one
    names = {"precision_recall", "occlusion", "parts", "counts", "centroid_errors", "latency"}
    assert {p.stem for p in (tmp_path / "out").glob("*.png")} == names
    for name in names:
        picture = cv2.imread(str(tmp_path / "out" / f"{name}.png"))
        assert picture.min() < 100 and picture.std() > 10  # something is drawn


def test_best_is_bold_in_each_column(files, tmp_path):
    main(["report", str(files / "ours.json"), "--out", str(tmp_path / "out")])
    table = re.search(r"<table>.*?</table>", (tmp_path / "out" / "report.html").read_text(), re.S)[0]
    rows = re.findall(r"<tr><td>(.*?)</tr>", table)
    assert rows[0].startswith("ours") and rows[0].count("<b>") >= 5
    assert "<b>" not in rows[1].split("<td>")[1]  # AP of the worse one


def test_markdown_of_several_parts():
    ours, other = result("ours", 1), result("kmeans", 5) | {"given": {"count": 5, "foreground": "truth"}}
    for row, missing in ((ours, 3), (other, 6)):
        row["hard"] = result("x", missing, images=1)
    caption, empty, head, line, *rows = format_markdown({"ours": ours, "kmeans": other}).splitlines()
    assert caption == "bins/test: 4 images, 18 instances that count" and empty == ""
    assert head == "|  | bolt | nut | all | hard | AP | AP50 | AR100 | s an image |" and line.count("---") == 9
    first, second = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    assert first[:3] == ["ours", "**0.95**", "**0.95**"] and second[:3] == ["kmeans (count and foreground given)", "0.75", "0.75"]
    assert first[3] == "**0.950** (0.950–0.950)" and first[4] == "**0.850**" and second[4] == "0.700"  # of 20 columns; one image
    assert first[5].startswith("**1.000** (") and first[6].startswith("1.000 (") and first[8] == "0.120"


def test_markdown_of_one_part():
    text = format_markdown({"ours": result("ours", 1, images=1)})
    assert "| ours | 1.000 | 1.000 |" in text and "**" not in text and "(" not in text


def test_hard_images_stand_beside_all(files, tmp_path):
    text = json.loads((files / "ours.json").read_text())
    text["hard"] = result("ours", 3, images=1)
    (files / "ours.json").write_text(json.dumps(text))
    assert main(["report", str(files / "ours.json"), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    table = page.split("Images on which k-means fails")[1].split("</table>")[0]
    assert table.count("<tr>") == 2 and "ours" in table and "0.850" in table  # mIoU: 17 of 20 columns


def test_other_images_are_not_compared_silently(files, tmp_path):
    (files / "other.json").write_text(json.dumps(result("kmeans", 2, images=2)))
    assert main(["report", str(files / "ours.json"), str(files / "other.json"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert "not evaluated on the same images" in text and "kmeans (other)" in text


def test_result_without_time_count_or_match(tmp_path):
    evaluation = Evaluation()
    truth = truth_of(squares(2))
    evaluation.add(truth, None, answer(np.zeros_like(truth.labels)))
    (tmp_path / "none.json").write_text(json.dumps(evaluation.result()))
    assert main(["report", str(tmp_path / "none.json"), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "does not exist"), ("{", "is not readable JSON"), ("[1]", "is not a result"), ('{"AP": 1}', "is not a result")],
)
def test_bad_results(text, message, tmp_path, capsys):
    file = tmp_path / "bad.json"
    if text is not None:
        file.write_text(text)
    assert main(["report", str(file), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0] and str(file) in error[0]
    assert not (tmp_path / "out").exists()


def test_browser_shows_the_page(files, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs the Debian package chromium")
    main(["report", str(files / "ours.json"), "--out", str(tmp_path / "out")])
    shot = tmp_path / "shot.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={shot}", "--window-size=1200,3000"]
    subprocess.run([*command, f"file://{tmp_path / 'out' / 'report.html'}"], check=True, timeout=120, capture_output=True)
    assert cv2.imread(str(shot)).std() > 10


def test_answer_takes_the_colours_of_the_truth():
    true = truth_of(squares(3)).labels
    found = np.array([0, 3, 1, 2], np.uint16)[true]
    found[60:70, 5:15] = 4
    aligned = align(true, found)
    assert np.array_equal(aligned[true > 0], true[true > 0]) and set(np.unique(aligned[60:70, 5:15])) == {4}
    assert align(np.zeros((4, 4), int), np.ones((4, 4), int)).tolist() == [[1] * 4] * 4


def test_gallery_sorts_by_overlap(tmp_path):
    gallery = Gallery()
    for i, score in enumerate((0.5, 0.9, 0.1, None)):
        rec = record(3, 1, i)
        frame = Frame(rec.depth, rec.K, rec.color)
        figures = {"key": [0, i], "part": ["nut"], "mIoU": score, "true": 3, "found": 3}
        gallery.add(frame, rec.layers[0], rec.layers[0], figures)
    written = gallery.write(tmp_path / "p", "m", rows=1, relative_to=str(tmp_path / "r.json"))
    assert written == {kind: f"p/m_{kind}.png" for kind in ("best", "median", "worst")}
    assert Gallery().write(tmp_path / "q", "m") == {} and not (tmp_path / "q").exists()
    assert colorize_depth(rec.depth).shape == (*rec.depth.shape, 3)
