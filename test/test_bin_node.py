"""The node's bin volume and tracking, over DDS: parameters, the service ~/learn_background, its file, ids in every answer."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from node_rig import PATIENCE, Rig, wait_until  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_scenes import HEIGHT, WIDTH, K, KnownAnswer, answer, boxes  # noqa: E402
from sensor_msgs_py import point_cloud2  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from instseg_ros.background import Background  # noqa: E402
from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.frame import Frame  # noqa: E402
from instseg_ros.instances import Instances  # noqa: E402
from instseg_ros.nodes import segmenter as segmenter_module  # noqa: E402
from instseg_ros.nodes import volume  # noqa: E402
from instseg_ros.nodes.messages import labels_from_message, stamp_ns  # noqa: E402

FLOOR = 0.8
NOTHING = np.s_[100:115, 60:100]
"""Pixels of the floor where the method below sees a part."""


@pytest.fixture(autouse=True, scope="module")
def look_often():
    """The watchdog's second would make these tests slow; so would thirty frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_module, "CHECK_PERIOD", 0.1)
        patch.setattr(volume, "FRAMES", 8)
        patch.setattr(volume, "SILENCE", 1.0)
        yield


class Imaginative(KnownAnswer):
    """Finds the boxes, and a part on the floor that is none."""

    def segment(self, frame: Frame) -> Instances:
        full, labels = boxes()
        if frame.shape != full.shape:
            return Instances.empty(frame.shape)
        labels[NOTHING] = 7
        return answer(full, labels)


class Shuffling(KnownAnswer):
    """Finds the boxes, in another order every time."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = np.random.default_rng(0)

    def segment(self, frame: Frame) -> Instances:
        full, labels = boxes()
        order = np.concatenate([[0], 1 + self._rng.permutation(6)]).astype(np.uint16)
        return answer(full, order[labels])


@pytest.fixture
def rig(ros_domain):
    """``rig(segmenter, **parameters)`` → a running node and its client, who hears the masks."""
    rigs = []

    def make(segmenter=None, load=None, hear=("masks",), **options):
        made = Rig(ros_domain, load or (lambda *_: segmenter or Imaginative()), **options)
        rigs.append(made)
        made.client.hear(*hear)
        made.client.connect()
        return made

    yield make
    for made in rigs:
        made.end()


def now() -> int:
    return time.time_ns()


def view(stamp: int | None = None) -> Frame:
    return boxes(stamp_ns=stamp or now())[0]


def empty_bin(stamp: int, rng: np.random.Generator, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Frame:
    return replace(view(stamp), depth=(FLOOR + rng.normal(0, 1e-3, shape)).astype(np.float32))


def learn(client, make=empty_bin):
    """Call ~/learn_background while the camera sends what ``make`` makes of stamp and generator. Returns the response."""
    rng, service = np.random.default_rng(0), client.create_client(Trigger, "/instseg/learn_background")
    assert service.wait_for_service(PATIENCE)
    future = service.call_async(Trigger.Request())

    def learned() -> bool:
        client.send_frame(make(now(), rng))
        return future.done()

    wait_until(learned, "an answer of learn_background")
    return future.result()


def answered(client, stamp: int | None = None):
    """The masks of a view of the full bin; sent again and again, because some of a fast row of frames are lost."""
    sent, last = set(), 0.0

    def come() -> list:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            sent.add(client.send_frame(view(stamp)))
        return [m for m in client.heard["masks"] if stamp_ns(m.header) in sent]

    wait_until(come, lambda: f"an answer to a view; {client.status}")
    return labels_from_message(come()[0])[0]


def found(client, stamp: int | None = None) -> set[int]:
    """Labels in the answer to a view of the full bin."""
    return set(np.unique(answered(client, stamp)).tolist()) - {0}


def set_parameters(client, **values):
    request = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    return client.call(SetParameters, "set_parameters", parameters=request).results


# ---- bin volume


def test_what_is_learned_from_the_empty_bin_is_no_part_and_the_file_outlives_the_node(rig, tmp_path):
    path = tmp_path / "bins" / "left.npz"
    client = rig(background_file=str(path)).client
    assert found(client) == set(range(1, 8))
    response = learn(client)
    assert response.success and str(path) in response.message and "160 x 120, 100% known, median depth 0.800 m" in response.message
    assert found(client) == set(range(1, 7))
    client.wait_for_status(lambda s: s["bin_volume"].startswith("background: 160 x 120"))
    truth, labels = boxes()
    assert (answered(client) != labels).mean() < 0.02  # a pixel where a box meets the floor
    assert Background.load(path).frame_id == truth.frame_id


def test_a_node_starts_with_the_background_of_its_file(rig, tmp_path):
    rng = np.random.default_rng(1)
    Background.learn([empty_bin(i, rng) for i in range(5)]).save(tmp_path / "bin.npz")
    assert found(rig(background_file=str(tmp_path / "bin.npz")).client) == set(range(1, 7))


@pytest.mark.parametrize("kind", ["size", "intrinsics", "broken"])
def test_a_background_that_does_not_fit_is_named_and_segmentation_goes_on_without_it(rig, tmp_path, kind):
    path, rng = tmp_path / "bin.npz", np.random.default_rng(1)
    other = {"size": lambda f: replace(f, depth=f.depth[:60].copy()), "intrinsics": lambda f: replace(f, K=K * 1.01)}
    frames = [other.get(kind, lambda f: f)(empty_bin(i, rng)) for i in range(5)]
    Background.learn(frames).save(path)
    if kind == "broken":
        path.write_bytes(path.read_bytes()[:500])
    client = rig(background_file=str(path)).client
    assert found(client) == set(range(1, 8))
    status = client.wait_for_status(lambda s: "learn_background" in s["last_error"])
    assert ("bin.npz" if kind == "broken" else kind) in status["last_error"]
    assert learn(client).success  # and here is the remedy
    assert found(client) == set(range(1, 7))


def test_learning_that_fails_says_why_and_changes_nothing(rig, tmp_path):
    client = rig().client
    refused = client.call(Trigger, "learn_background")
    assert not refused.success and "0 of 8 frames" in refused.message
    assert learn(client).success
    refused = learn(client, lambda stamp, rng: replace(view(stamp), depth=np.full((HEIGHT, WIDTH), rng.uniform(0.3, 1), np.float32)))
    assert not refused.success and "view changes" in refused.message
    (tmp_path / "file").touch()
    assert set_parameters(client, background_file=str(tmp_path / "file" / "bin.npz"))[0].successful
    refused = learn(client)
    assert not refused.success and "cannot write" in refused.message
    assert set_parameters(client, background_file="")[0].successful


def test_learning_needs_an_active_node(rig, ros_domain):
    made = Rig(ros_domain, lambda *_: Imaginative(), start=False)
    try:
        refused = made.client.call(Trigger, "learn_background")
        assert not refused.success and "not configured" in refused.message
    finally:
        made.end()


def test_a_camera_that_was_pushed_is_noticed(rig):
    client = rig().client
    assert learn(client).success

    def noticed() -> bool:  # the node looks every two seconds
        client.send_frame(replace(view(), depth=view().depth + np.float32(0.05)))
        return "have moved" in client.status.get("last_error", "")

    wait_until(noticed, "the warning")


def test_plane_and_box_by_parameter(rig):
    client = rig(bin_volume=[0.0, 0.0, -1.0, FLOOR - 0.01]).client
    assert found(client) == set(range(1, 7))
    # A box around the upper left part: 40 × 34 pixels from (12, 15), at 0.74 m.
    x, y = ((np.array([12 + 20, 15 + 17]) - K[:2, 2]) / 150 * 0.74).tolist()
    assert set_parameters(client, bin_volume=[x, y, 0.74, 0.0, 0.0, 0.0, 1.0, 0.21, 0.18, 0.05])[0].successful
    assert found(client) == {1}
    refused = set_parameters(client, bin_volume=[1.0, 2.0])[0]
    assert not refused.successful and "got 2" in refused.reason
    assert set_parameters(client, bin_volume=[0.0, 0.0, 0.0, 0.0])[0].successful
    assert found(client) == set(range(1, 8))


def test_a_file_that_is_set_while_the_node_runs(rig, tmp_path):
    client = rig().client
    assert learn(client).success
    (tmp_path / "broken.npz").write_text("no")
    for name, text in (("broken.npz", "is no background"), ("missing.npz", "does not exist")):
        assert set_parameters(client, background_file=str(tmp_path / name))[0].successful
        client.wait_for_status(lambda s, t=text: t in s["last_error"] and s["bin_volume"] == "none")
        assert found(client) == set(range(1, 8))
    assert learn(client).success
    assert found(client) == set(range(1, 7))
    assert Background.load(tmp_path / "missing.npz")
    assert set_parameters(client, background_file="")[0].successful
    assert found(client) == set(range(1, 8))


# ---- tracking


def places(masks: np.ndarray) -> dict[int, int]:
    """Id → true label of the box that it covers."""
    truth = boxes()[1]
    return {int(i): int(np.median(truth[masks == i])) for i in np.unique(masks) if i}


def test_ids_stay_with_their_part_and_all_topics_agree(rig):
    client = rig(Shuffling(), tracking=True, hear=("masks", "instances", "amodal_layers", "markers")).client
    seen = []
    for _ in range(4):
        stamp = client.send_frame(view())
        masks = labels_from_message(client.wait_for_stamp(stamp))[0]
        seen.append(places(masks))
        table = point_cloud2.read_points(client.wait_for_stamp(stamp, "instances"))
        assert dict(zip(table["label"].tolist(), table["pixels"].tolist())) == {i: int((masks == i).sum()) for i in seen[-1]}
        np.testing.assert_array_equal(labels_from_message(client.wait_for_stamp(stamp, "amodal_layers"))[0], masks)
    assert len(seen[0]) == 6 and all(one == seen[0] for one in seen)
    wait_until(lambda: len(client.heard["markers"]) >= 4, "the last markers")
    assert {m.id for m in client.heard["markers"][-1].markers[1:]} == set(seen[0])
    # Off: labels as the method lists them; on again: new parts, new ids.
    assert set_parameters(client, tracking=False)[0].successful
    assert found(client) == set(range(1, 7))
    assert set_parameters(client, tracking=True)[0].successful
    assert found(client) == set(range(7, 13))


def test_a_jump_back_in_time_and_another_model_begin_anew(rig):
    client = rig(load=lambda *_: Shuffling(), tracking=True, stale_after=0.0).client
    for second, first in ((1000, 1), (1001, 1), (1002, 1), (10, 7), (11, 7)):
        assert found(client, second * 10**9) == set(range(first, first + 6))
    assert set_parameters(client, device="cpu")[0].successful  # loads it anew
    assert found(client, 12 * 10**9) == set(range(13, 19))


@pytest.mark.parametrize(
    ("name", "value"),
    [("tracking_max_move", 0.0), ("tracking_max_move", 99.0), ("tracking_max_missed", -1), ("background_margin", -0.1), ("bin_volume", [1.0])],
)
def test_a_node_is_not_made_with_values_out_of_range(ros_context, name, value):
    from rclpy.exceptions import ParameterException

    with pytest.raises((InputError, ParameterException), match=name):
        segmenter_module.SegmenterNode(context=ros_context, parameter_overrides=[Parameter(name, value=value)])
