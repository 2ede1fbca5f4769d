"""Metrics against values worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from evaluation_truth import answer, labels_of, squares, truth_of
from hypothesis import given, settings
from hypothesis import strategies as st

from instseg_ros.errors import InputError
from instseg_ros.evaluation import Evaluation
from instseg_ros.evaluation.metrics import best_match, covariance_errors, one_to_one, order_score, overlap, true_order

pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval (extra eval)")


def evaluate(truth, instances, **options):
    evaluation = Evaluation()
    evaluation.add(truth, None, instances, **options)
    return evaluation.result(intervals=False)


def test_overlap_by_hand():
    true = np.array([[1, 1, 2, 2], [1, 1, 2, 0]])
    found = np.array([[1, 1, 1, 2], [1, 0, 2, 2]])
    shared, iou = overlap(true, found, 2, 3)
    assert shared.tolist() == [[3, 0, 0], [1, 2, 0]]
    assert np.allclose(iou, [[3 / 5, 0, 0], [1 / 6, 2 / 4, 0]])


def test_one_to_one_takes_the_best_total_and_never_a_pair_without_overlap():
    match, value = one_to_one(np.array([[0.6, 0.5], [0.5, 0.0], [0.0, 0.0]]))
    assert match.tolist() == [1, 0, -1] and value.tolist() == [0.5, 0.5, 0.0]


def test_no_instances_on_either_side():
    assert one_to_one(np.zeros((0, 3)))[0].shape == (0,) and best_match(np.zeros((3, 0))).tolist() == [0, 0, 0]


def test_perfect_answer_is_perfect():
    masks = squares(6)
    masks[3, 10:30, 60:75] = True  # lies partly under square 2
    truth = truth_of(masks)
    result = evaluate(truth, answer(truth.labels, layers=truth.layers), seconds=0.25)
    ones = "AP AP50 AP75 AR10 AR100 mIoU mIoU_best amodal_AP amodal_AR100 order_accuracy count_accuracy".split()
    assert {name: result[name] for name in ones} == pytest.approx(dict.fromkeys(ones, 1.0))
    assert result["centroid_mm_median"] == result["count_error"] == 0
    assert result["seconds"]["median"] == 0.25 and result["order_pairs"] == 1
    assert result["AR1"] == pytest.approx(1 / 6)


def test_nothing_found():
    truth = truth_of(squares(3))
    result = evaluate(truth, answer(np.zeros_like(truth.labels)))
    assert result["AP"] == result["AR100"] == result["mIoU"] == result["mIoU_best"] == 0
    assert result["count_error"] == 3 and result["count_bias"] == -3 and result["centroid_mm_median"] is None


@pytest.mark.parametrize("n", [2, 5, 8])
def test_one_constant_label_flatters_best_match_only(n):
    truth = truth_of(squares(n))
    result = evaluate(truth, answer((truth.labels > 0).astype(np.uint16)))
    assert result["mIoU_best"] == pytest.approx(1 / n)
    assert result["mIoU"] == pytest.approx(1 / n**2)


def test_error_of_the_visible_fraction_is_the_mean_over_what_is_known():
    truth = truth_of(squares(4))
    told = np.array([1.0, 0.7, np.nan, 0.9])
    result = evaluate(truth, answer(truth.labels, visible_fraction=told))
    assert result["visible_error_mean"] == pytest.approx((0 + 0.3 + 0.1) / 3, abs=1e-6)
    assert evaluate(truth, answer(truth.labels, visible_fraction=np.full(4, np.nan)))["visible_error_mean"] is None


def test_hidden_instances_are_ignored():
    masks = squares(2)
    masks = np.concatenate([masks, masks[:1]])  # a third one, entirely under the first
    hidden = truth_of(masks)
    result = evaluate(hidden, answer(labels_of(squares(2))))
    assert result["AP"] == pytest.approx(1) and result["mIoU"] == 1 and result["count_accuracy"] == 1
    assert (result["instances"], result["instances_ignored"]) == (2, 1)


def test_detection_on_an_ignored_instance_is_no_mistake():
    masks = squares(2, size=20)
    cover = np.zeros_like(masks[:1])
    cover[0, 10:30, 31:50] = True  # leaves one column of 20 of square 2: 5 % visible
    truth = truth_of(np.concatenate([cover, masks]))
    assert truth.visible_fraction[2] == pytest.approx(0.05)
    result = evaluate(truth, answer(truth.labels, score=[0.5, 0.4, 0.9]))
    assert result["AP"] == pytest.approx(1) and result["count_accuracy"] == 1


def test_recall_by_occlusion():
    masks = squares(3)
    cover = np.zeros_like(masks[:1])
    cover[0, 10:30, 25 + 5 + 4 : 50] = True  # square 2 keeps 4 of 20 columns: heavy
    cover[0, 10:20, 55:75] = True  # square 3 keeps its lower half: medium
    truth = truth_of(np.concatenate([cover, masks]))
    found = truth.labels.copy()
    found[found == 3] = 0  # the heavily occluded one is missed
    result = evaluate(truth, answer(found))
    assert (result["AR_heavy"], result["AR_medium"]) == (0, 1) and result["AR_little"] == pytest.approx(1)
    assert result["AR100"] == pytest.approx(3 / 4)


def test_centroid_and_covariance_errors():
    truth = truth_of(squares(2), centroid=[[0, 0, 0.6], [0.1, 0, 0.6]])
    wide = np.tile(np.diag([9e-4, 1e-4, 1e-4]), (2, 1, 1))
    result = evaluate(truth, answer(truth.labels, centroid=[[0.003, 0, 0.604], [0.1, 0, 0.601]], covariance=wide))
    assert result["centroid_mm_mean"] == pytest.approx((5 + 1) / 2, abs=1e-3)
    assert result["sigma_mm_mean"] == pytest.approx((30 - 20) / 3, abs=1e-3)
    assert result["covariance_mean"] == pytest.approx(5 / np.sqrt(18), abs=1e-4)


def test_rotated_covariance_has_no_sigma_error():
    a = np.diag([4e-4, 1e-4, 2e-4])[None]
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    relative, sigma = covariance_errors(turn @ a @ turn.T, a)
    assert sigma == pytest.approx(0, abs=1e-12) and relative > 0.5


def test_only_matched_instances_have_a_centroid_error():
    truth = truth_of(squares(2), centroid=[[0, 0, 0.6], [0.1, 0, 0.6]])
    found = truth.labels.copy()
    found[:, 30:40] = 0  # half of square 2 is missed: IoU 0.5 still counts
    far = answer(found, centroid=[[0, 0, 0.6], [9, 9, 9]])
    assert evaluate(truth, far)["matched"] == 2
    found[:, 30:41] = 0
    assert evaluate(truth, answer(found, centroid=[[0, 0, 0.6], [9, 9, 9]]))["centroid_mm_mean"] == pytest.approx(0, abs=1e-3)


def test_order_of_a_pile():
    masks = np.zeros((3, 20, 20), bool)
    masks[0, :10], masks[1, 5:15], masks[2, 10:] = True, True, True
    truth = truth_of(masks)
    pairs = true_order(truth.layers, 3)
    assert pairs.tolist() == [[0, 1], [1, 2]]
    match, iou = np.arange(3), np.ones(3)
    assert order_score(pairs, match, iou, np.array([0, 1, 2])) == (2, 2)
    assert order_score(pairs, match, iou, np.array([1, 0, 2])) == (1, 2)
    assert order_score(pairs, match, np.array([1, 1, 0.2]), np.array([1, 0, 2])) == (0, 1)


def test_amodal_scores_need_layers():
    masks = squares(2)
    masks[1, 10:30, 10:45] = True
    truth = truth_of(masks)
    assert evaluate(truth, answer(truth.labels))["amodal_AP"] is None
    flat = np.stack([truth.labels, np.zeros_like(truth.labels)])  # two layers, but nothing behind
    assert evaluate(truth, answer(truth.labels, layers=flat))["amodal_AP"] < 1
    assert evaluate(truth, answer(truth.labels, layers=truth.layers))["amodal_AP"] == pytest.approx(1)


def test_parts_are_scored_apart():
    nuts, bolts = truth_of(squares(2), part=["nut"] * 2), truth_of(squares(3), part=["bolt"] * 3)
    evaluation = Evaluation()
    evaluation.add(nuts, None, answer(nuts.labels), key=[0, 1])
    evaluation.add(bolts, None, answer(np.zeros_like(bolts.labels)), key=[0, 2])
    result = evaluation.result()
    assert result["parts"] == ["bolt", "nut"]
    assert result["per_part"]["nut"]["mIoU"] == 1 and result["per_part"]["bolt"]["mIoU"] == 0
    assert result["mIoU"] == pytest.approx(2 / 5) and result["per_part"]["nut"]["images"] == 1


def test_mixed_bin_ignores_the_other_part():
    truth = truth_of(squares(4), part=["nut", "nut", "bolt", "bolt"])
    found = np.where(truth.labels > 2, 0, truth.labels)  # only the nuts are found
    result = evaluate(truth, answer(found))["per_part"]
    assert result["nut"]["AP"] == pytest.approx(1) and result["bolt"]["AP"] == 0
    assert result["nut"]["count_accuracy"] is None and result["bolt"]["instances"] == 2


def test_intervals_hold_the_score_and_repeat():
    evaluation = Evaluation()
    for i in range(12):
        truth = truth_of(squares(4))
        evaluation.add(truth, None, answer(np.where(truth.labels > i % 4 + 1, 0, truth.labels)), seconds=0.1)
    result = evaluation.result(seed=3)
    for name in ("AP", "AR100", "mIoU", "count_accuracy"):
        low, high = result["interval"][name]
        assert low < result[name] < high
    assert result == evaluation.result(seed=3) != evaluation.result(seed=4)
    json.dumps(result, allow_nan=False)


def test_no_images_at_all():
    result = Evaluation().result()
    assert result["images"] == 0 and result["AP"] is None and result["seconds"]["median"] is None


def test_image_without_parts():
    truth = truth_of(np.zeros((0, 40, 40), bool))
    result = evaluate(truth, answer(np.zeros((40, 40), np.uint16)))
    assert result["AP"] is None and result["count_accuracy"] == 1


def test_sizes_must_agree():
    with pytest.raises(InputError, match=r"\(80, 400\).*\(10, 10\)"):
        Evaluation().add(truth_of(squares(1)), None, answer(np.zeros((10, 10), np.uint16)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_numbering_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 6, size=2)
    true = rng.integers(0, n + 1, (12, 12)).repeat(3, 0).repeat(3, 1)
    found = rng.integers(0, m + 1, (12, 12)).repeat(3, 0).repeat(3, 1)
    iou = overlap(true, found, n, m)[1]
    p, q = rng.permutation(n), rng.permutation(m)
    rename = lambda labels, order: np.concatenate([[0], order + 1])[labels]  # noqa: E731
    again = overlap(rename(true, p), rename(found, q), n, m)[1]
    assert np.allclose(again[np.ix_(p, q)], iou)
    assert one_to_one(again)[1].sum() == pytest.approx(one_to_one(iou)[1].sum())
    assert np.allclose(best_match(again)[p], best_match(iou))
    assert (one_to_one(iou)[1] <= best_match(iou) + 1e-12).all()
