"""Tracking: which part of this frame is which of the last one; ids in every output; the score of all that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instseg_ros import tracking
from instseg_ros.clouds import instance_table, instances_from
from instseg_ros.errors import InputError
from instseg_ros.evaluation.track_score import TrackScore
from instseg_ros.frame import Frame
from instseg_ros.geometry import deproject, depth_order, gaussian_distance, label_moments
from instseg_ros.instances import Instances
from instseg_ros.tracking import HIGHEST_ID, Tracker, TrackingOptions

SHAPE = (96, 128)
K = np.array([[150.0, 0, 63.5], [0, 150.0, 47.5], [0, 0, 1]])
FLOOR = 0.8
SECOND = 10**9


def scene(*boxes: tuple[int, int, int, int, float], stamp: int = 0, noise: np.random.Generator | None = None) -> tuple[Frame, Instances]:
    """Boxes (left, top, width, height in pixels, depth in m) on a floor, drawn in this order, and the right answer."""
    depth, labels = np.full(SHAPE, FLOOR, np.float32), np.zeros(SHAPE, np.uint16)
    for i, (left, top, width, height, z) in enumerate(boxes):
        area = np.s_[max(top, 0) : top + height, max(left, 0) : left + width]
        depth[area], labels[area] = z, i + 1
    if noise is not None:
        depth += noise.normal(0, 1e-3, SHAPE).astype(np.float32)
    frame = Frame(depth, K, stamp_ns=stamp)
    return frame, answer(frame, labels, len(boxes))


def answer(frame: Frame, labels: np.ndarray, n: int) -> Instances:
    centroid, covariance, _ = label_moments(labels, deproject(frame.depth, frame.K), n)
    seen = np.isfinite(centroid[:, 0])
    centroid[~seen], covariance[~seen] = 0, 0
    return Instances(
        labels,
        np.ones(n, np.float32),
        centroid.astype(np.float32),
        covariance.astype(np.float32),
        np.full(n, np.nan, np.float32),
        depth_order(labels, frame.depth, n),
    ).select(seen)


def permuted(instances: Instances, order: np.ndarray) -> Instances:
    """The same instances listed in another order: new row i is the old row order[i]."""
    relabel = np.zeros(len(order) + 1, np.uint16)
    relabel[order + 1] = np.arange(1, len(order) + 1)
    rows = {name: getattr(instances, name)[order] for name in ("score", "centroid", "covariance", "visible_fraction", "depth_order")}
    return Instances(labels=relabel[instances.labels], **rows)


GRID = [(10 + 38 * (i % 3), 8 + 30 * (i // 3), 24, 20, 0.75 - 0.004 * i) for i in range(9)]
"""Nine parts side by side."""


# ---- which is which


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_in_a_static_scene_no_id_ever_changes_however_the_labels_are_permuted(seed, count):
    rng, tracker = np.random.default_rng(seed), Tracker()
    boxes = [GRID[i] for i in rng.permutation(9)[:count]]
    first = tracker.update(*scene(*boxes, noise=rng))
    assert sorted(first) == list(range(1, count + 1))
    for _ in range(5):
        frame, instances = scene(*boxes, noise=rng)
        order = rng.permutation(count)
        np.testing.assert_array_equal(tracker.update(frame, permuted(instances, order)), first[order])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_labels_decides_nothing(seed):
    rng = np.random.default_rng(seed)
    one, other = Tracker(), Tracker()
    boxes = [list(box) for box in GRID]
    for step in range(6):
        for box in boxes:  # parts slide, some are not found
            box[0] += int(rng.integers(-3, 4))
            box[1] += int(rng.integers(-3, 4))
        frame, instances = scene(*(tuple(box) for box in boxes), stamp=step)
        instances = instances.select(rng.random(len(instances)) < 0.8)
        order = rng.permutation(len(instances))
        np.testing.assert_array_equal(one.update(frame, instances)[order], other.update(frame, permuted(instances, order)))


def test_parts_that_cross_are_told_apart_by_their_shape():
    """A long upright part passes over a long lying one: their middles coincide on the way, their covariances never do."""
    tracker = Tracker()
    for step in range(40):
        lying, upright = (20 + 2 * step, 43, 36, 10, 0.76), (98 - 2 * step, 30, 10, 36, 0.75)
        ids = tracker.update(*scene(lying, upright, stamp=step))
        assert ids.tolist() == [2, 1]  # numbered from the top


def test_a_part_that_leaps_is_a_new_one():
    tracker = Tracker()
    assert tracker.update(*scene((10, 10, 20, 20, 0.7))).tolist() == [1]
    assert tracker.update(*scene((80, 60, 20, 20, 0.7))).tolist() == [2]


def test_a_part_that_is_not_found_keeps_its_id_for_max_missed_frames():
    frame, both = scene(GRID[0], GRID[1])
    tracker = Tracker(TrackingOptions(max_missed=3))
    assert tracker.update(frame, both).tolist() == [2, 1]
    for missed, expected in ((3, [2, 1]), (4, [2, 3])):
        for _ in range(missed):
            assert tracker.update(frame, both.select([True, False])).tolist() == [2]
        assert tracker.update(frame, both).tolist() == expected


def test_a_part_behind_an_arm_keeps_its_id_and_one_that_was_taken_does_not():
    part = (50, 30, 24, 20, 0.74)
    arm = (40, 0, 50, 90, 0.5)
    tracker = Tracker()
    assert tracker.update(*scene(part)).tolist() == [1]
    for found in (np.array([False]), np.array([True])):  # whatever the method makes of the arm
        frame, instances = scene(arm)
        tracker.update(frame, instances.select(found))
    assert tracker.update(*scene(part))[0] == 1
    for hidden, expected in ((False, [1]), (True, [3])):
        frame, nothing = scene(*([] if hidden else [part]))  # not found: without, then with a view of the floor in its place
        tracker.update(frame, nothing.select(np.zeros(len(nothing), bool)))
        assert tracker.update(*scene(part)).tolist() == expected


def test_a_part_that_appears_under_a_taken_one_is_new():
    """The one below lies as near as many a part moves; the view tells that the upper one is gone."""
    tracker = Tracker(TrackingOptions(max_move=2.0))
    assert tracker.update(*scene((50, 30, 30, 26, 0.70))).tolist() == [1]
    frame, below = scene((53, 33, 24, 20, 0.73))
    tracker.update(frame, below.select([False]))
    assert tracker.update(frame, below).tolist() == [2]


def test_a_part_whose_middle_is_guessed_anew_keeps_its_id_by_its_mask():
    tracker, rng = Tracker(), np.random.default_rng(0)
    first = tracker.update(*scene(*GRID))
    for _ in range(5):
        frame, instances = scene(*GRID)
        jump = rng.normal(0, 0.1, instances.centroid.shape).astype(np.float32)
        np.testing.assert_array_equal(tracker.update(frame, replace(instances, centroid=instances.centroid + jump)), first)


def test_the_same_mask_of_another_surface_is_another_part():
    tracker = Tracker(TrackingOptions(max_move=0.1))
    assert tracker.update(*scene((50, 30, 24, 20, 0.70))).tolist() == [1]
    assert tracker.update(*scene((50, 30, 24, 20, 0.73))).tolist() == [2]


@pytest.mark.parametrize(
    ("change", "forgets"),
    [
        (lambda f: replace(f, stamp_ns=9 * SECOND), True),
        (lambda f: replace(f, stamp_ns=10 * SECOND), False),
        (lambda f: replace(f, stamp_ns=99 * SECOND), False),
        (lambda f: replace(f, frame_id="other_camera"), True),
        (lambda f: replace(f, K=f.K * [[1.01], [1], [1]]), True),
        (lambda f: f, False),
    ],
    ids=["time jumps back", "same frame again", "time jumps forward", "other frame_id", "other intrinsics", "nothing"],
)
def test_another_camera_or_an_earlier_time_forgets_the_parts_but_not_the_ids(change, forgets):
    tracker = Tracker()
    frame, instances = scene(*GRID[:3], stamp=10 * SECOND)
    first = tracker.update(frame, instances)
    again = tracker.update(change(frame), instances)
    np.testing.assert_array_equal(again, first + 3 if forgets else first)


def test_another_size_forgets_the_parts():
    tracker = Tracker()
    frame, instances = scene(*GRID[:3])
    tracker.update(frame, instances)
    half = Frame(frame.depth[:48].copy(), K)
    assert min(tracker.update(half, answer(half, instances.labels[:48].copy(), 3))) > 3


def test_ids_run_out_at_the_highest_and_then_skip_those_in_use():
    tracker = Tracker(TrackingOptions(max_missed=0))
    tracker.update(*scene(GRID[0]))
    tracker._last_id = HIGHEST_ID - 1
    ids = tracker.update(*scene(GRID[0], GRID[4], GRID[8]))
    assert ids[0] == 1 and sorted(ids[1:]) == [2, HIGHEST_ID]


def test_ghosts_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(tracking, "MOST_MISSED", 20)
    tracker = Tracker(TrackingOptions(max_missed=1000))
    for step in range(60):
        left, top = 9 * (step % 14), 9 * (step // 14 % 4)  # on the floor, each time elsewhere
        ids = tracker.update(*scene((left, top, 3, 3, FLOOR), GRID[7], stamp=step))
        assert ids[1] == 1
    assert len(tracker._tracks) == 2 + 20 and tracker._tracks.missed.max() == 20
    assert (np.diff(tracker._tracks.missed) >= 0).all()


def test_frames_without_parts():
    frame, instances = scene()
    tracker = Tracker()
    assert tracker.update(frame, instances).shape == (0,)
    tracker.update(*scene(*GRID))
    assert tracker.update(frame, instances).shape == (0,)


@pytest.mark.parametrize("options", [{"max_move": 0.0}, {"max_move": float("nan")}, {"max_missed": -1}, {"max_missed": 70000}])
def test_options_out_of_range(options):
    with pytest.raises(InputError, match=next(iter(options))):
        TrackingOptions(**options)


def test_distance_of_gaussians():
    def covariance(*sigmas):
        return np.diag(np.square(sigmas))

    mean = np.array([0.3, -0.1, 0.5])
    assert gaussian_distance(mean, covariance(1, 2, 3), mean, covariance(1, 2, 3)) == pytest.approx(0, abs=1e-6)
    assert gaussian_distance(mean, covariance(1, 2, 3), mean + [3, 0, 4], covariance(1, 2, 3)) == pytest.approx(5)
    # Along common axes it is the distance of the standard deviations.
    assert gaussian_distance(mean, covariance(1, 2, 3), mean, covariance(2, 4, 5)) == pytest.approx(3)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert gaussian_distance(mean, covariance(1, 2, 3), mean, turn @ covariance(1, 2, 3) @ turn.T) == pytest.approx(2**0.5)


# ---- ids in the answer


def tracked() -> tuple[Frame, Instances]:
    frame, instances = scene(*GRID[:3])
    layers = np.stack([instances.labels, np.where(instances.labels == 1, 2, 0).astype(np.uint16)])
    return frame, replace(instances, layers=layers, ids=np.array([70, 7, 65535], np.uint16))


def test_ids_go_through_the_instance_table_and_back():
    _, instances = tracked()
    table = instance_table(instances)
    assert table["label"].tolist() == [70, 7, 65535]
    again = instances_from(instances.named(instances.labels), table, instances.named(instances.layers))
    for name in ("labels", "layers", "score", "ids", "depth_order", "centroid"):
        np.testing.assert_array_equal(getattr(again, name), getattr(instances, name))
    with pytest.raises(InputError, match="id 70 .* not in the instance cloud"):
        instances_from(instances.named(instances.labels), table[1:])


def test_a_selection_keeps_its_ids():
    assert tracked()[1].select([True, False, True]).ids.tolist() == [70, 65535]


@pytest.mark.parametrize("ids", [[1, 1, 2], [0, 1, 2], [1, 2]])
def test_ids_must_name_every_instance_once(ids):
    with pytest.raises(InputError, match="ids"):
        replace(scene(*GRID[:3])[1], ids=np.array(ids, np.uint16))


def test_every_topic_uses_the_ids():
    pytest.importorskip("rclpy", reason="ROS 2 is not on the path")
    from sensor_msgs_py import point_cloud2

    from instseg_ros.drawing import id_colors
    from instseg_ros.nodes import answers
    from instseg_ros.nodes.markers import markers
    from instseg_ros.nodes.messages import labels_from_message

    frame, instances = tracked()
    masks = labels_from_message(answers.masks(frame, instances))[0]
    layers = labels_from_message(answers.amodal_layers(frame, instances))
    assert {int(i): int((masks == i).sum()) for i in np.unique(masks)[1:]} == dict(zip([7, 70, 65535], instances.pixels[[1, 0, 2]].tolist()))
    np.testing.assert_array_equal(layers[0], masks)
    assert set(np.unique(layers[1])) == {0, 7}
    assert point_cloud2.read_points(answers.instances_cloud(frame, instances))["label"].tolist() == [70, 7, 65535]
    points = point_cloud2.read_points(answers.points(frame, instances))
    np.testing.assert_array_equal(points["label"], masks[np.isfinite(frame.depth)])
    drawn = markers(frame, instances).markers[1:]
    assert [m.id for m in drawn] == [70, 70, 7, 7, 65535, 65535] and drawn[1].text.startswith("70 ")
    color = id_colors(np.array([70]))[0] / 255
    assert [drawn[0].color.r, drawn[0].color.g, drawn[0].color.b] == pytest.approx(color.tolist())


# ---- the score


def strip(*numbers: int) -> np.ndarray:
    """A label image of one row, five pixels a number."""
    return np.repeat(np.array(numbers, np.uint16), 5)[None]


def test_score_of_a_sequence_counted_by_hand():
    score, numbers, seen = TrackScore(), np.array([1, 2]), np.array([1.0, 1.0])
    score.add(strip(1, 2), numbers, seen, strip(1, 2), np.array([10, 20]))
    score.add(strip(1, 2), numbers, seen, strip(2, 1), np.array([20, 10]))  # other labels, same ids
    score.add(strip(1, 2), numbers, seen, strip(1, 0), np.array([10]))  # a miss
    score.add(strip(1, 2), numbers, seen, strip(1, 2), np.array([20, 30]))  # 1 changes its id to that of 2, 2 gets a new one
    score.add(strip(1, 2, 0), numbers, seen, strip(1, 2, 3), np.array([20, 30, 40]))  # and one too many
    result = score.result()
    assert {k: result[k] for k in ("frames", "matches", "switches", "handed_on")} == {"frames": 5, "matches": 9, "switches": 2, "handed_on": 1}
    assert result["MOTA"] == pytest.approx(1 - (1 + 1 + 2) / 10)
    # 1 = 10 in three frames; 2 = 20 or 30 in two.
    assert result["IDF1"] == pytest.approx(2 * 5 / (10 + 10))


def test_what_is_hardly_visible_does_not_count():
    score = TrackScore()
    for id_ in (1, 2, 3):
        score.add(strip(1, 2), np.array([1, 2]), np.array([1.0, 0.05]), strip(1, 2), np.array([9, id_]))
    assert score.result() == {"frames": 3, "matches": 3, "switches": 0, "switch_share": 0, "handed_on": 0, "MOTA": 1, "IDF1": 1}


# ---- a simulated bin


@pytest.fixture(scope="module")
def film():
    """A bin from which every tenth frame a part is taken."""
    pytest.importorskip("mujoco", reason="needs the package mujoco")
    from instseg_ros.synthesis.emptying import emptying
    from instseg_ros.synthesis.parts import load_part

    return list(emptying(load_part("bolt"), 10, 45, seed=3, every=9))


def test_a_film_shows_the_parts_that_are_left_and_what_is_still_stands_still(film):
    assert [len(shot.numbers) for shot in film[::9]] == [10, 9, 8, 7, 6]
    for before, shot in zip(film, film[1:]):
        assert set(np.unique(shot.labels)) - {0} <= set(shot.numbers) <= set(before.numbers)
        assert shot.frame.stamp_ns - before.frame.stamp_ns == SECOND // 10
        assert not np.array_equal(shot.frame.depth, before.frame.depth, equal_nan=True)  # new noise in every frame
    still = [np.mean((before.labels != shot.labels)[before.labels > 0]) for before, shot in zip(film[:9], film[1:9])]
    assert max(still) == 0


def test_ids_stay_with_parts_that_settle_while_others_are_taken(film):
    """True instances, worsened: some are missed, middles are off by millimetres, outlines by pixels, the order is random."""
    import cv2

    rng = np.random.default_rng(0)
    scores = {"tracked": TrackScore(), "labels": TrackScore()}
    tracker = Tracker()
    for shot in film:
        count = int(shot.labels.max())
        labels = cv2.erode(shot.labels, np.ones((3, 3), np.uint8)) * (rng.random(shot.labels.shape) < 0.9)
        found = answer(shot.frame, labels.astype(np.uint16), count)
        found = found.select((rng.random(len(found)) < 0.95) & (found.pixels > 30))
        found = permuted(found, rng.permutation(len(found)))
        found = replace(found, centroid=found.centroid + rng.normal(0, 2e-3, found.centroid.shape).astype(np.float32))
        for name, ids in (("tracked", tracker.update(shot.frame, found)), ("labels", np.arange(1, len(found) + 1))):
            scores[name].add(shot.labels, shot.numbers, shot.visible_fraction, found.labels, ids)
    assert scores["tracked"].result()["switch_share"] <= 0.01 < 0.3 < scores["labels"].result()["switch_share"]
    assert scores["tracked"].result()["handed_on"] == 0


def test_the_benchmark_compares_tracking_with_the_labels_as_they_are(film):
    from instseg_ros.benchmarks.tracking import follow

    truth = {shot.frame: answer(shot.frame, shot.labels, int(shot.labels.max())) for shot in film}

    class Truth:
        def segment(self, frame):
            found = truth[frame]
            return found if frame.stamp_ns % 2 else permuted(found, np.random.default_rng(frame.stamp_ns).permutation(len(found)))

    seconds = []
    scores = follow(Truth(), film, seconds)
    assert len(seconds) == scores["tracked"]["frames"] == len(film)
    assert scores["tracked"]["switches"] == 0 < scores["untracked"]["switches"]
    assert scores["tracked"]["IDF1"] > 0.99 > 0.6 > scores["untracked"]["IDF1"]


def test_the_benchmark_needs_frames_enough_to_see_a_part_taken(capsys):
    from instseg_ros import cli

    assert cli.main(["bench", "tracking", "--frames", "30"]) == 2
    assert "--frames must be above 30" in capsys.readouterr().err


def test_too_few_parts_for_the_film():
    pytest.importorskip("mujoco", reason="needs the package mujoco")
    from instseg_ros.synthesis.emptying import emptying
    from instseg_ros.synthesis.parts import load_part

    with pytest.raises(InputError, match="3 parts do not last for 100 frames"):
        next(emptying(load_part("bolt"), 3, 100, seed=0))
