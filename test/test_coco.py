"""AP by hand, the library's re-accumulation, and the same figures as pycocotools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_truth import answer, squares, truth_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instseg_ros.errors import InputError
from instseg_ros.evaluation import Evaluation
from instseg_ros.evaluation.bop_results import BopResults, bounding_box, run_lengths
from instseg_ros.evaluation.coco import CocoEvaluation, Masks, encode_labels, encode_layers, encode_masks

coco_mask = pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval (extra eval)").mask
STORED = Path(__file__).parent / "data" / "coco_scores.json"


def images_of(*pairs, counted=None):
    """(truth, answer) pairs → Masks."""
    return [
        Masks(
            truth.labels.shape,
            encode_labels(truth.labels, len(truth.part)),
            encode_labels(found.labels, len(found)),
            truth.visible_fraction,
            np.ones(len(truth.part), bool) if counted is None else counted,
            found.score,
        )
        for truth, found in pairs
    ]


def test_average_precision_by_hand():
    """Four squares; detections by score: right, wrong, right, wrong.

    Precision at recall: 1/4 → 1, 2/4 → 2/3 (interpolated), beyond → 0. COCO samples recall at 0, 0.01 … 1: 26 samples
    up to 0.25, 25 more up to 0.5.
    """
    truth = truth_of(squares(4))
    found = np.where(truth.labels > 2, 0, truth.labels)
    found[60:75, 5:25], found[60:75, 30:50] = 3, 4
    instances = answer(found, score=[0.9, 0.7, 0.8, 0.6])
    scores = CocoEvaluation(images_of((truth, instances))).accumulate()
    expected = (26 * 1 + 25 * 2 / 3) / 101
    assert [scores.ap(), scores.ap(0.5)] == pytest.approx([expected, expected])
    assert scores.ar(100) == pytest.approx(0.5) and scores.ar(1) == pytest.approx(0.25)


@pytest.mark.parametrize(("missing", "thresholds"), [(0, 10), (1, 10), (2, 9), (4, 7), (9, 2), (11, 0)])
def test_average_precision_by_overlap(missing, thresholds):
    """One square of 20 columns of which ``missing`` are not found: IoU = (20 − missing) / 20."""
    truth = truth_of(squares(1))
    found = truth.labels.copy()
    found[:, 25 - missing : 25] = 0
    scores = CocoEvaluation(images_of((truth, answer(found)))).accumulate()
    assert scores.ap() == pytest.approx(thresholds / 10)


def test_ranges_by_size_and_occlusion():
    big, small = truth_of(squares(1, size=40)), truth_of(squares(2, size=20))
    small.visible_fraction[:] = [0.2, 0.5]
    images = images_of((big, answer(big.labels)), (small, answer(np.where(small.labels == 1, 0, small.labels))))
    by_size = CocoEvaluation(images)
    assert by_size.accumulate("medium").ap() == pytest.approx(1)
    assert by_size.accumulate("small").ar() == pytest.approx(0.5)
    assert np.isnan(by_size.accumulate("large").ap())
    by_occlusion = CocoEvaluation(images, by="occlusion")
    assert [by_occlusion.accumulate(name).ar() for name in ("heavy", "medium", "little")] == pytest.approx([0, 1, 1])
    assert by_occlusion.accumulate().ap() == pytest.approx(by_size.accumulate().ap())


def test_unknown_occlusion_counts_but_has_no_class():
    truth = truth_of(squares(2))
    truth.visible_fraction[:] = np.nan
    evaluation = Evaluation()
    evaluation.add(truth, None, answer(truth.labels))
    result = evaluation.result(intervals=False)
    assert result["AP"] == pytest.approx(1) and result["AR_heavy"] is result["AR_little"] is None


def test_a_resample_scores_like_the_same_images_evaluated_anew():
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(6):
        truth = truth_of(squares(5))
        found = np.roll(truth.labels, rng.integers(0, 8), axis=1) * (rng.random(truth.labels.shape) < 0.95)
        pairs.append((truth, answer(found, score=rng.random(5))))
    sample = np.array([0, 0, 3, 5, 5, 5])
    whole = CocoEvaluation(images_of(*pairs))
    anew = CocoEvaluation(images_of(*[pairs[i] for i in sample]))
    assert whole.accumulate(sample=sample).ap() == pytest.approx(anew.accumulate().ap())
    assert whole.accumulate().ap() == pytest.approx(whole.accumulate(sample=np.arange(6)).ap())


def test_more_than_a_hundred_detections_are_cut():
    truth = truth_of(squares(1))
    found = np.zeros_like(truth.labels)
    found[60:62].ravel()[:150] = np.arange(2, 152)
    found[truth.labels == 1] = 1
    last = answer(found, score=np.concatenate([[0.1], np.full(150, 0.9)]))
    assert CocoEvaluation(images_of((truth, last))).accumulate().ar() == 0


def test_amodal_encoding_is_the_union_of_layers():
    masks = squares(2)
    masks[1, 10:30, 10:45] = True
    truth = truth_of(masks)
    assert [m["counts"] for m in encode_layers(truth.layers, 2)] == [m["counts"] for m in encode_masks(masks)]


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any))
def test_run_lengths_are_those_of_coco(mask):
    code = run_lengths(mask)
    assert sum(code["counts"]) == mask.size
    assert coco_mask.frPyObjects(code, *mask.shape)["counts"] == coco_mask.encode(mask.astype(np.uint8))["counts"]
    assert bounding_box(mask) == coco_mask.toBbox(coco_mask.encode(mask.astype(np.uint8))).tolist()


def test_bop_results_need_one_part_an_image():
    truth = truth_of(squares(2))
    with pytest.raises(InputError, match=r"parts \[1, 2\]"):
        BopResults().add((0, 0), answer(truth.labels), 0.1, np.array([1, 2]))


def stored_images():
    """The images of the stored scores: squares, shifted and cut at random, one of them hidden to 94 %."""
    rng = np.random.default_rng(7)
    for image in range(4):
        n = 3 + image
        masks = squares(n, size=20 + 6 * image, shape=(120, 320))
        if image == 2:
            masks[0, :, 42:72] = masks[1, :, 42:72]  # the first hides 94 % of the second
        truth = truth_of(masks)
        found = np.roll(truth.labels, int(rng.integers(0, 6)), axis=1)
        found[rng.random(found.shape) < 0.05 * image] = 0
        found[100:118, 5 : 5 + 20 * image] = n + 1
        score = rng.permutation(np.linspace(0.2, 0.9, int(found.max()))).round(3)
        yield image, truth, answer(found, score=score)


def test_same_scores_as_pycocotools(tmp_path):
    """Stored: pycocotools 2.0.11 on our export and on truth as bop_toolkit writes it (``ignore`` below 10 % visible, which
    BOP's fork of pycocotools honours). By size only AP is compared: bop_toolkit takes a detection's area from its box."""
    stored = json.loads(STORED.read_text())
    evaluation, export = Evaluation(), BopResults()
    for image, truth, instances in stored_images():
        evaluation.add(truth, None, instances, key=(0, image))
        export.add((0, image), instances, 0.1, truth.object_id)
    result = evaluation.result(intervals=False)
    assert {name: result[name] for name in stored["scores"]} == pytest.approx(stored["scores"], abs=1e-9)
    export.write(tmp_path / "ours_bins-test.json")
    assert json.loads((tmp_path / "ours_bins-test.json").read_text()) == stored["results"]
