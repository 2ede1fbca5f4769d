"""Answers kept on disk: given back unchanged, made again where the image changed, refused where the settings did."""

from __future__ import annotations

import json

import numpy as np
import pytest
from evaluation_truth import answer, squares, truth_of
from small_bop import K, write_small_bop

from instseg_ros.cli import main
from instseg_ros.errors import InputError
from instseg_ros.evaluation.kept import ROWS, KeptAnswers
from instseg_ros.frame import Frame

SETTINGS = {"baseline": "x", "count": 5, "seed": 0}


def scene(n: int = 3, depth: float = 0.6):
    """(frame, truth, answer) of n squares; the last one is found whole behind the first."""
    truth = truth_of(squares(n))
    layers = np.stack([truth.labels, np.where(truth.labels == 1, n, 0).astype(np.uint16)])
    instances = answer(truth.labels, layers=layers, score=np.linspace(0.1, 0.9, n), visible_fraction=[0.3, np.nan, 1.0][:n])
    return Frame(np.full(truth.labels.shape, depth, np.float32), K), truth, instances


def test_answers_come_back_unchanged(tmp_path):
    frame, truth, instances = scene()
    nothing = answer(np.zeros((9, 7), np.uint16))
    empty = Frame(np.full((9, 7), 0.6, np.float32), K), truth_of(np.zeros((0, 9, 7)))
    with KeptAnswers(tmp_path / "k" / "a.npz", SETTINGS) as kept:
        kept.add((0, 4), frame, truth, instances, 0.25)
        kept.add((2, 1), *empty, nothing, 0.5)
    again = KeptAnswers(tmp_path / "k" / "a.npz", SETTINGS)
    found, seconds = again.find((0, 4), frame, truth)
    assert seconds == 0.25 and again.find((2, 1), *empty)[1] == 0.5 and again.find((2, 1), *empty)[0].labels.shape == (9, 7)
    for name in ("labels", "layers", *ROWS):
        assert np.array_equal(getattr(found, name), getattr(instances, name), equal_nan=name == "visible_fraction")


def test_changed_images_are_answered_anew(tmp_path):
    frame, truth, instances = scene()
    kept = KeptAnswers(tmp_path / "a.npz", SETTINGS)
    kept.add((0, 0), frame, truth, instances, 0.1)
    assert kept.find((0, 0), *scene(depth=0.601)[:2]) is None and kept.find((0, 1), frame, truth) is None
    truth.labels[0, 0] = 1
    assert kept.find((0, 0), frame, truth) is None


def test_other_settings_and_damage_are_named(tmp_path):
    file = tmp_path / "a.npz"
    with KeptAnswers(file, SETTINGS) as kept:
        kept.add((0, 0), *scene(), 0.1)
    with pytest.raises(InputError, match="made with another count, seed.*--keep"):
        KeptAnswers(file, SETTINGS | {"count": 4, "seed": 1})
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a file of arrays", b"PK\x03\x04" + whole[4:200]):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged.*delete it"):
            KeptAnswers(file, SETTINGS)


def test_interrupted_evaluation_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval (extra eval)")
    from instseg_ros.methods.classical.segmenter import ClassicalSegmenter

    data, segment, asked = write_small_bop(tmp_path / "bop"), ClassicalSegmenter.segment, []

    def counting(self, frame, **given):
        if len(asked) == 2 and "stop" in asked:
            raise KeyboardInterrupt
        asked.append("stop" if not asked else "go")
        return segment(self, frame, **given)

    monkeypatch.setattr(ClassicalSegmenter, "segment", counting)
    words = ["evaluate", "--baseline", "components", "--data", str(data), "--no-intervals", "--json", str(tmp_path / "r.json")]
    assert main([*words, "--keep", str(tmp_path / "keep")]) == 130 and len(asked) == 2
    asked[:] = ["go"]
    assert main([*words, "--keep", str(tmp_path / "keep")]) == 0 and len(asked) == 1 + 2  # four images, two were kept
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["images"] == 4
    assert main(words) == 0
    anew = json.loads((tmp_path / "r.json").read_text())
    assert all(result[key] == anew[key] for key in ("AP", "mIoU", "AR100", "count_accuracy", "centroid_mm_median"))
    assert main([*words, "--keep", str(tmp_path / "keep"), "--seed", "3"]) == 2
