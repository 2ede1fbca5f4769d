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
from instseg_ros.evaluation.bop_results import BopResults
from instseg_ros.evaluation.coco import CocoEvaluation, Masks, encode_labels, encode_layers, encode_masks

coco_mask = pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval (extra eval)").mask
SIZES = {"_small": "s", "_medium": "m", "_large": "l"}
BOP_KEYS = {key: key for key in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")}
BOP_KEYS |= {score + long: score + short for score in ("AP", "AR") for long, short in SIZES.items()}
"""bop_toolkit's name of a score → ours."""
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


@given(arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)).filter(np.any))
def test_exported_masks_are_the_labels(labels):
    export = BopResults([7])
    export.add((3, 5), answer(labels), 0.1, np.array([7]))
    rows = json.loads(json.dumps(export.rows))
    seen = [label for label in range(1, int(labels.max()) + 1) if (labels == label).any()]
    assert [np.array_equal(coco_mask.decode(row["segmentation"]), labels == label) for row, label in zip(rows, seen)] == [True] * len(seen)
    assert {(row["scene_id"], row["image_id"], row["category_id"]) for row in rows} == {(3, 5, 7)} and len(rows) == len(seen)


def test_bop_results_need_one_part_an_image():
    truth = truth_of(squares(2))
    with pytest.raises(InputError, match=r"parts \[1, 2\]"):
        BopResults([1, 2]).add((0, 0), answer(truth.labels), 0.1, np.array([1, 2]))


def stored_images():
    """The images of the stored scores: squares of three sizes, shifted and cut at random, some hidden, one to 94 %.

    Two scenes of three images; part 1 ("nut") in the even images, part 2 ("bolt") in the odd ones.
    """
    rng = np.random.default_rng(7)
    for image in range(6):
        n, size = (5, 28) if image == 1 else (2, 105) if image == 4 else (3 + image % 3, 20 + 8 * image)
        masks = squares(n, size=size, shape=(130, 320))
        if image == 2:
            masks[0, :, 47:80] = masks[1, :, 47:80]  # the first hides all but a strip of the second
        if image == 3:
            masks[0, :, 30:75] |= masks[1, :, 30:75]
        truth = truth_of(masks, part=[["nut", "bolt"][image % 2]] * n)
        truth.object_id[:] = 1 + image % 2
        found = np.roll(truth.labels, int(rng.integers(0, 6)), axis=1)
        found[rng.random(found.shape) < 0.04 * image] = 0
        found[118:130, 5 : 5 + 20 * image] = n + 1
        score = rng.permutation(np.linspace(0.2, 0.9, int(found.max())))
        yield (image // 3, image % 3), truth, answer(found, score=score)


def test_same_scores_as_bop_toolkit(tmp_path):
    """Stored: the scores that bop_toolkit (commit cea62d6, calc_gt_coco.py and eval_bop22_coco.py with BOP's fork of
    pycocotools) gives to our export of these images, written by ``bop_writer``; it takes the mean over parts."""
    stored = json.loads(STORED.read_text())
    evaluation, export = Evaluation(), BopResults([1, 2])
    for key, truth, instances in stored_images():
        evaluation.add(truth, None, instances, key=key)
        export.add(key, instances, 0.1, truth.object_id)
    parts = evaluation.result(intervals=False)["per_part"]
    known = {name: [part[key] for part in parts.values() if part[key] is not None] for name, key in BOP_KEYS.items()}
    assert {name: np.mean(values) for name, values in known.items()} == pytest.approx(stored["scores"], abs=1e-9)
    assert sum(part["instances_ignored"] for part in parts.values()) == 1
    export.write(tmp_path / "ours_bins-test.json")
    assert json.loads((tmp_path / "ours_bins-test.json").read_text()) == stored["results"]
