"""The ScanNet protocol on scenes whose score can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instseg_ros.evaluation.average_precision_3d import Scene3D, average_precision, class_table


def scene(instance, true_class, answers, least=1) -> Scene3D:
    """``answers``: (points, class, score) each."""
    instance = np.asarray(instance)
    masks = np.zeros((len(answers), len(instance)), bool)
    for row, (points, _, _) in enumerate(answers):
        masks[row, list(points)] = True
    kinds, scores = (np.array([a[k] for a in answers]) for k in (1, 2))
    return Scene3D(instance, np.asarray(true_class), masks, kinds, scores, least)


def test_perfect_answer_scores_one_in_every_class():
    one = scene([1, 1, 2, 2, 2, 0], [1, 2], [([0, 1], 1, 0.4), ([2, 3, 4], 2, 0.9)])
    table = class_table([one], (1, 2, 3))
    for kind in (1, 2):
        assert table[kind] == pytest.approx({"AP": 1, "AP50": 1, "AP25": 1})
    assert np.isnan(list(table[3].values())).all()


def test_overlap_decides_at_which_threshold_an_answer_counts():
    half = scene([1, 1, 1, 1, 0], [1], [([0, 1, 2], 1, 1.0)])  # 3 of 4
    assert [average_precision([half], 1, t) for t in (0.25, 0.5, 0.7, 0.75)] == [1, 1, 1, 0]
    assert class_table([half], [1])[1]["AP"] == pytest.approx(5 / 9)  # 0.50, 0.55, …, 0.70 of nine thresholds


def test_a_surer_false_answer_costs_precision():
    truth, right, wrong = [1, 1, 2, 2, 2, 2], ([0, 1], 1, 0.5), ([4, 5], 1, 0.9)
    # Points (recall, precision): after the first answer (0, 0), after both (1, 1/2), and the start (0, 1).
    # Each is weighted by half of the recall between its neighbours: 1/2 at (1, 1/2), 1/2 at (0, 0), 0 at the start.
    assert average_precision([scene(truth, [1, 2], [right, wrong])], 1, 0.5) == pytest.approx(0.25)
    # A false answer that is less sure than all right ones adds no recall, so its precision has no weight.
    assert average_precision([scene(truth, [1, 2], [right, ([4, 5], 1, 0.1)])], 1, 0.5) == pytest.approx(1)


def test_second_answer_to_the_same_instance_is_false():
    once = scene([1, 1, 1, 1], [1], [([0, 1, 2, 3], 1, 0.9), ([0, 1, 2], 1, 0.95)])
    # The surer one takes it: (1, 1), then (1, 1/2): half a step at (1, 1/2) is nothing, the rest at 1.
    assert average_precision([once], 1, 0.5) == pytest.approx(0.5 * 0 + 0.5 * 1 + 0.5 * 1)


def test_answers_on_what_is_not_evaluated_do_not_count():
    void = scene([1, 1, 0, 0, 2, 2], [1, 0], [([0, 1], 1, 0.5), ([2, 3], 1, 0.9), ([4, 5], 1, 0.8)])
    assert average_precision([void], 1, 0.5) == pytest.approx(1)
    small = scene([1, 1, 1, 2], [1, 1], [([0, 1, 2], 1, 0.5), ([3], 1, 0.9)], least=2)
    assert average_precision([small], 1, 0.5) == pytest.approx(1)


def test_missed_instances_and_scenes_are_counted():
    found, missed = scene([1, 1], [1], [([0, 1], 1, 0.5)]), scene([1, 1], [1], [])
    # Recall 1/2 at precision 1, then nothing: the area is 1/2, and half a step to recall 0.
    assert average_precision([found, missed], 1, 0.5) == pytest.approx(0.5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_score_lies_between_none_and_all_and_forgets_the_order(seed):
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(3):
        instance, kinds = rng.integers(0, 4, 30), rng.integers(0, 3, 3)
        masks, score = rng.random((5, 30)) < 0.3, rng.permutation(5) / 5
        masks[:3] |= instance[None] == np.arange(1, 4)[:, None]
        scenes.append(Scene3D(instance, kinds, masks, rng.integers(1, 3, 5), score + rng.random() * 0.01))
    for kind in (1, 2):
        ap = average_precision(scenes, kind, 0.25)
        if not np.isnan(ap):
            assert 0 <= ap <= 1
            turned = [Scene3D(s.instance, s.true_class, s.masks[::-1], s.found_class[::-1], s.score[::-1]) for s in scenes[::-1]]
            assert average_precision(turned, kind, 0.25) == pytest.approx(ap)
