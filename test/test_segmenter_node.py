"""The segmenter node in this process, over DDS: what it answers, what it survives, what it says."""

from __future__ import annotations

import gc
import re
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from builtin_interfaces.msg import Time  # noqa: E402
from conftest import new_domain  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from node_rig import INPUTS, TYPES, Rig, wait_until  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.exceptions import ParameterException  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_scenes import FRAME_ID, HEIGHT, WIDTH, KnownAnswer, boxes, compressed_color, compressed_depth, messages  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.instances import Instances  # noqa: E402
from instseg_ros.nodes import engine as engine_module  # noqa: E402
from instseg_ros.nodes import outputs  # noqa: E402
from instseg_ros.nodes import segmenter as segmenter_module  # noqa: E402
from instseg_ros.nodes.messages import labels_from_message, stamp_ns  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def look_often():
    """The watchdog's second would make these tests slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_module, "CHECK_PERIOD", 0.1)
        yield


@pytest.fixture
def rig(ros_domain):
    """``rig(segmenter, **parameters)`` → a running node and its client."""
    rigs = []

    def make(segmenter=None, load=None, **options):
        rigs.append(Rig(ros_domain, load or (lambda *_: segmenter or KnownAnswer()), **options))
        return rigs[-1]

    yield make
    for made in rigs:
        made.end()


def now_ns() -> int:
    return time.time_ns()


def set_parameter(client, name, value):
    request = [Parameter(name, value=value).to_parameter_msg()]
    return client.call(SetParameters, "set_parameters", parameters=request).results[0]


# ---- answers


def test_every_topic_answers_with_the_stamp_and_frame_of_the_depth_image(rig):
    client = rig().client
    client.hear(*TYPES)
    client.connect()
    stamp = client.send_frame(boxes(stamp_ns=now_ns())[0])
    for topic in TYPES:
        message = client.wait_for(topic)
        header = message.markers[0].header if topic == "markers" else message.header
        assert (stamp_ns(header), header.frame_id) == (stamp, FRAME_ID), topic
    np.testing.assert_array_equal(labels_from_message(client.heard["masks"][0])[0], boxes()[1])
    np.testing.assert_array_equal(labels_from_message(client.heard["amodal_layers"][0])[0], boxes()[1])


def test_nothing_is_computed_for_topics_without_subscribers(rig, monkeypatch):
    made = []

    def watched(output):
        def make(frame, instances, *placement):
            made.append(output.topic)
            return output.make(frame, instances, *placement)

        return replace(output, make=make)

    monkeypatch.setattr(outputs, "OUTPUTS", [watched(output) for output in outputs.OUTPUTS])
    segmenter = KnownAnswer()
    client = rig(segmenter).client
    client.connect()
    client.send_frame(boxes(stamp_ns=now_ns())[0])
    client.wait_for_status(lambda s: s.get("skipped_unwanted") == "1")
    assert segmenter.frames == [] and made == []
    client.hear("poses")
    client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]), "poses")
    assert len(segmenter.frames) == 1 and made == ["poses"]


def test_color_reaches_models_that_want_it(rig):
    segmenter = KnownAnswer(needs_color=True)
    client = rig(segmenter).client
    client.hear("masks")
    client.connect(*INPUTS)
    frame, _ = boxes(stamp_ns=now_ns(), color=True)
    client.wait_for_stamp(client.send_frame(frame))
    np.testing.assert_array_equal(segmenter.frames[0].color, frame.color)


def test_compressed_transports(rig):
    segmenter = KnownAnswer(needs_color=True)
    inputs = {
        "depth/image/compressedDepth": CompressedImage,
        "depth/camera_info": CameraInfo,
        "color/image": Image,
        "color/image/compressed": CompressedImage,
    }
    client = rig(segmenter, inputs=inputs, depth_transport="compressedDepth", color_transport="compressed").client
    client.hear("masks")
    client.connect("depth/image/compressedDepth", "depth/camera_info", "color/image/compressed")
    depth, info, color = messages(stamp_ns=now_ns(), color=True)
    client._inputs["color/image/compressed"].publish(compressed_color(color, ".png"))
    client.send(compressed_depth(depth), info, depth_topic="depth/image/compressedDepth")
    client.wait_for("masks")
    truth, _ = boxes(color=True)
    np.testing.assert_array_equal(segmenter.frames[0].depth, truth.depth)
    np.testing.assert_array_equal(segmenter.frames[0].color, truth.color)


# ---- bad answers; bad messages, stamps, models and transport: test_faults_*.py


def test_instances_without_a_place_in_space_are_left_out(rig):
    class Blind(KnownAnswer):
        def segment(self, frame):
            found = super().segment(frame)
            centroid = found.centroid.copy()
            centroid[1] = np.nan
            return Instances(found.labels, found.score, centroid, found.covariance, found.visible_fraction, found.depth_order)

    client = rig(Blind()).client
    client.hear("masks", "poses", "markers", "instances")
    client.connect()
    client.send_frame(boxes(stamp_ns=now_ns())[0])
    assert labels_from_message(client.wait_for("masks")).max() == 5
    assert len(client.wait_for("poses").poses) == client.wait_for("instances").width == 5


# ---- newest first


class Stream(threading.Thread):
    """Sends frames at ``rate`` until ``end``; with ``wait`` none before the one before it was answered.

    Attributes:
        stamps: of the frames that were sent.
    """

    def __init__(self, client, rate, *, wait=False, color=False):
        super().__init__(daemon=True)
        self.stamps, self._client, self._period, self._wait, self._color = [], client, 1 / rate, wait, color
        self._ending = threading.Event()
        self._failure = None
        self.start()

    def run(self):
        try:
            while not self._ending.wait(self._period):
                self.stamps.append(self._client.send_frame(boxes(stamp_ns=now_ns(), color=self._color)[0]))
                if self._wait:
                    self._client.wait_for_stamp(self.stamps[-1])
        except AssertionError as failure:
            self._failure = failure

    def wait_for(self, more):
        """Wait until ``more`` frames were sent."""
        count = len(self.stamps) + more
        wait_until(lambda: self._failure or len(self.stamps) >= count, f"{count} frames to be sent")

    def end(self):
        """Send no more; returns the stamps of all."""
        self._ending.set()
        self.join(40)
        if self._failure:
            raise self._failure
        return self.stamps


def number(status, key):
    return int(status.get(key, 0))


def adds_up(status):
    """Nothing is in hand, and every frame and every depth image has its place."""
    fates = sum(number(status, key) for key in ("answered", "replaced_by_newer", "skipped"))
    frames = number(status, "received") - number(status, "requested")
    return (
        number(status, "pending") == 0
        and number(status, "received") == fates
        and number(status, "skipped") == sum(int(value) for key, value in status.items() if key.startswith("skipped_"))
        and number(status, "depth_images") == frames + number(status, "depth_refused") + number(status, "depth_unpaired")
    )


def test_overload_is_accounted_for_to_the_frame_across_transitions_swaps_and_jumps(rig):
    """60 Hz into a segmenter that takes 0.2 s."""
    models = {name: KnownAnswer(before=lambda frame: time.sleep(0.2)) for name in ("first", "second")}
    made = rig(load=lambda directory, device: models[directory.name], model="first", stale_after=0.0)
    client, node = made.client, made.node
    client.hear("masks")
    client.connect()
    stream = Stream(client, 60.0)
    stream.wait_for(40)
    assert set_parameter(client, "model", "second").successful
    stream.wait_for(20)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    stream.wait_for(5)
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    client.connect()
    stream.wait_for(20)
    assert client.call(Trigger, "segment").success
    assert client.call(SetBool, "enable", data=False).success
    stream.wait_for(10)
    assert client.call(SetBool, "enable", data=True).success
    stream.wait_for(10)
    stream.end()
    client.wait_for_stamp(client.send_frame(boxes(stamp_ns=10**9)[0]))  # back in time
    before = client.wait_for_status(lambda s: adds_up(s) and number(s, "answered") == len(client.heard["masks"]))
    client.send(messages(stamp_ns=2 * 10**9)[0])  # without camera info
    client.wait_for_status(lambda s: number(s, "depth_unpaired") == number(before, "depth_unpaired") + 1)
    client.wait_for_stamp(client.send_frame(boxes(stamp_ns=3 * 10**9)[0]))
    status = client.wait_for_status(lambda s: adds_up(s) and number(s, "answered") == number(before, "answered") + 1)
    assert number(status, "depth_unpaired") == number(before, "depth_unpaired") + 1
    assert number(status, "answered") == len(client.heard["masks"])
    assert 10 <= number(status, "answered") < number(status, "received") <= len(stream.stamps) + 2 + number(status, "requested")
    assert number(status, "replaced_by_newer") > number(status, "answered") and number(status, "skipped_idle") > 0
    assert float(status["latency_ms_p99"]) >= float(status["latency_ms_median"]) >= 200
    assert float(status["rate_in_hz"]) > float(status["rate_out_hz"]) > 0
    stamps = [stamp_ns(message.header) for message in client.heard["masks"]]
    rises = sum(later > earlier for earlier, later in zip(stamps, stamps[1:]))
    assert rises >= len(stamps) - 3  # newest first, but for the jump and the frame that was asked for once more


# ---- services


def test_idle_node_answers_on_request_only(rig):
    client = rig(stale_after=0.0).client
    client.hear("masks")
    client.connect()
    refused = client.call(Trigger, "segment")
    assert not refused.success and "no frame" in refused.message
    assert client.call(SetBool, "enable", data=False).success
    stamp = client.send_frame(boxes(stamp_ns=now_ns())[0])
    wait_until(lambda: client.call(Trigger, "segment").success, "the frame to arrive")
    assert stamp_ns(client.wait_for("masks").header) == stamp
    answered = client.call(Trigger, "segment")
    assert answered.success and "6 parts" in answered.message
    assert stamp_ns(client.wait_for("masks", 2).header) == stamp
    assert client.call(SetBool, "enable", data=True).success
    client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]))


def test_request_says_why_the_newest_frame_cannot_be_answered(rig):
    client = rig().client
    client.hear("masks")
    client.connect()
    depth, info, _ = messages(stamp_ns=now_ns())
    info.k[0] = 0.0
    client.send(depth, info)
    client.wait_for_status(lambda s: "skipped_camera_info" in s)
    refused = client.call(Trigger, "segment")
    assert not refused.success and "fx = 0" in refused.message


def test_a_request_that_waits_holds_up_neither_intake_nor_diagnostics(rig):
    go = threading.Event()
    made = rig(KnownAnswer(before=lambda frame: go.wait(20)))
    client = made.client
    client.hear("masks")
    client.connect()
    client.send_frame(boxes(stamp_ns=now_ns())[0])
    client.wait_for_status(lambda s: s["received"] == "1")
    asker = threading.Thread(target=lambda: answers.append(client.call(Trigger, "segment")), daemon=True)
    answers: list = []
    asker.start()
    wait_until(lambda: made.node._engine._worker._waiting, "the request to wait")
    for count in (2, 3, 4):
        client.send_frame(boxes(stamp_ns=now_ns())[0])
        client.wait_for_status(lambda s, c=count: int(s["received"]) >= c)  # the request took the first frame once more
    go.set()
    asker.join(20)
    assert answers[0].success


# ---- parameters


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("max_rate", 1e9, "max_rate"),
        ("sync_slop", 0.0, "sync_slop"),
        ("min_pixels", -3, "min_pixels"),
        ("stale_after", -1.0, "stale_after"),
        ("model", "nowhere", "nowhere"),
        ("device", "abacus", "abacus"),
        ("autostart", False, "autostart|read"),
    ],
)
def test_parameters_out_of_range_are_refused_with_the_reason(shared_rig, name, value, text):
    result = set_parameter(shared_rig.client, name, value)
    assert not result.successful
    assert re.search(text, result.reason), result.reason


@pytest.mark.parametrize(("name", "value"), [("max_rate", -1.0), ("roi", [1, 2]), ("depth_range", [2.0, 1.0]), ("color_transport", "mail")])
def test_a_node_is_not_made_with_parameters_that_cannot_be_used(ros_context, name, value):
    with pytest.raises((InputError, ParameterException), match=name):
        segmenter_module.SegmenterNode(context=ros_context, parameter_overrides=[Parameter(name, value=value)])


@pytest.fixture(scope="module")
def shared_rig():
    """One running node for tests that change nothing."""
    from instseg_ros.methods.segmenter import choose_device

    def load(directory, device):
        choose_device(device)
        if directory.name == "nowhere":
            raise InputError(f"model directory {directory} does not exist")
        return KnownAnswer()

    made = Rig(new_domain(), load, stale_after=0.0)
    yield made
    made.end()


def test_every_parameter_has_a_description(shared_rig):
    from instseg_ros.nodes.parameters import SPECS

    for name in (*SPECS, "autostart"):
        assert len(shared_rig.node.describe_parameter(name).description) > 20, name


def test_changed_parameters_count_from_the_next_frame(rig):
    segmenter = KnownAnswer()
    client = rig(segmenter).client
    client.hear("masks")
    client.connect()

    def labels():
        answer = client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]))
        return labels_from_message(answer)[0]

    assert labels().max() == 6
    assert set_parameter(client, "min_score", 0.75).successful  # scores fall from 1 to 0.5 over the six boxes
    assert labels().max() == 3
    assert set_parameter(client, "min_score", 0.0).successful
    assert set_parameter(client, "depth_range", [0.1, 0.735]).successful
    labels()
    assert np.nanmax(segmenter.frames[-1].depth) == pytest.approx(0.73)
    assert set_parameter(client, "roi", [20, 10, 60, 50]).successful
    assert labels().shape == (HEIGHT, WIDTH)
    assert segmenter.frames[-1].shape == (50, 60)
    assert segmenter.frames[-1].K[0, 2] == pytest.approx(79.5 - 20)
    assert set_parameter(client, "roi", [WIDTH, 0, 10, 10]).successful  # the node cannot know the size beforehand
    client.send_frame(boxes(stamp_ns=now_ns())[0])
    client.wait_for_status(lambda s: "outside" in s["last_error"])


def test_a_swap_leaves_no_frame_unanswered(rig):
    """20 Hz; the new model takes long to load and long for its first frame, which nobody waits for."""
    slow_first = []

    def warm_up(frame):
        if not slow_first:
            slow_first.append(frame.stamp_ns)
            time.sleep(0.3)

    models = {"old": KnownAnswer(before=lambda frame: time.sleep(0.01)), "new": KnownAnswer(before=warm_up)}

    def load(directory, device):
        time.sleep(0.3 if directory.name == "new" else 0.0)
        return models[directory.name]

    client = rig(load=load, model="old", stale_after=0.0).client
    client.hear("masks")
    client.connect()
    stream = Stream(client, 20.0, wait=True)
    stream.wait_for(4)
    before = len(models["old"].frames)
    assert set_parameter(client, "model", "new").successful
    stream.wait_for(4)
    sent = stream.end()
    assert [stamp_ns(message.header) for message in client.heard["masks"]] == sent
    old, new = ([frame.stamp_ns for frame in models[name].frames] for name in ("old", "new"))
    assert new[:1] == slow_first and new[0] in old  # its first frame was another's
    assert old + new[1:] == sent
    assert len(old) > before  # the old one went on meanwhile
    client.wait_for_status(lambda s: s["model"].endswith("new") and adds_up(s))


def test_a_model_that_wants_color_takes_over_when_it_has_it_and_gives_it_back(rig):
    models = {"gray": KnownAnswer(), "color": KnownAnswer(needs_color=True)}
    client = rig(load=lambda directory, device: models[directory.name], model="gray", stale_after=0.0).client
    client.hear("masks")
    client.connect()
    stream = Stream(client, 20.0, wait=True, color=True)
    for name in ("color", "gray", "color"):
        stream.wait_for(3)
        assert set_parameter(client, "model", name).successful
    stream.wait_for(3)
    sent = stream.end()
    assert [stamp_ns(message.header) for message in client.heard["masks"]] == sent
    assert all(frame.color is not None for frame in models["color"].frames)
    assert all(frame.color is None for frame in models["gray"].frames)
    client.wait_for_status(adds_up)


def test_a_model_whose_color_does_not_come_is_refused(rig, monkeypatch):
    monkeypatch.setattr(engine_module, "COLOR_PATIENCE", 0.3)
    models = {"gray": KnownAnswer(), "color": KnownAnswer(needs_color=True)}
    client = rig(load=lambda directory, device: models[directory.name], model="gray", stale_after=0.0).client
    client.hear("masks")
    client.connect()
    stream = Stream(client, 20.0, wait=True)
    stream.wait_for(3)
    refused = set_parameter(client, "model", "color")
    assert not refused.successful and "uses color" in refused.reason and "enable_color:=true" in refused.reason
    stream.wait_for(3)
    sent = stream.end()
    assert [stamp_ns(message.header) for message in client.heard["masks"]] == sent
    assert client._inputs["color/image"].get_subscription_count() == 0


def fails(error):
    def fail(frame):
        raise error

    return fail


BAD_MODELS = {
    "no directory": InputError("model directory /nowhere does not exist"),
    "bad weights": RuntimeError("size mismatch for encoder.0.weight"),
    "no room for both": MemoryError("unable to allocate 4 GiB"),
    "no such depth": KnownAnswer(before=fails(InputError("depth must be 224 x 224, got 160 x 120"))),
    "bug": KnownAnswer(before=fails(IndexError("list index out of range"))),
}


def test_a_bad_model_leaves_the_old_one_running_and_says_why(rig):
    def load(directory, device):
        model = BAD_MODELS.get(directory.name, first)
        if isinstance(model, Exception):
            raise model
        return model

    first = KnownAnswer()
    client = rig(load=load, model="first", stale_after=0.0).client
    client.hear("masks")
    client.connect()
    client.ask(lambda stamp: boxes(stamp_ns=stamp)[0])
    words = ("does not exist", "size mismatch", "4 GiB", "224 x 224", "IndexError: list index")
    for name, text in zip(BAD_MODELS, words):
        refused = set_parameter(client, "model", name)
        assert not refused.successful and text in refused.reason, refused.reason
        before = len(first.frames)
        client.ask(lambda stamp: boxes(stamp_ns=stamp)[0])
        assert len(first.frames) > before
    client.wait_for_status(lambda s: s["model"].endswith("first") and adds_up(s))


def test_a_model_that_was_replaced_is_let_go(rig):
    made = rig(load=lambda directory, device: KnownAnswer(), model="first")
    client = made.client
    client.hear("masks")
    client.connect()
    old = weakref.ref(made.node._engine.setup.segmenter)
    client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]))
    assert set_parameter(client, "model", "second").successful
    client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]))
    gc.collect()
    assert old() is None


def test_a_model_works_in_the_workers_thread_and_before_that_in_threads_that_have_ended(rig):
    """Each thread that ever ran torch has a team of threads; more than cores slow all of them."""
    loaded: list[threading.Thread] = []
    worked: dict[str, list[threading.Thread]] = {"first": [], "second": []}

    def load(directory, device):
        loaded.append(threading.current_thread())
        return KnownAnswer(before=lambda _: worked[directory.name].append(threading.current_thread()))

    client = rig(load=load, model="first").client
    client.hear("masks")
    client.connect()
    client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]))
    assert set_parameter(client, "model", "second").successful
    client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]))
    (worker,), (rehearsal, after) = worked["first"], worked["second"]
    assert after is worker and worker.is_alive()
    assert len(loaded) == 2 and not any(thread.is_alive() for thread in [*loaded, rehearsal])


def test_a_model_that_takes_long_to_load_holds_up_no_frame(rig):
    go, loading = threading.Event(), threading.Event()

    def load(directory, device):
        if directory.name == "slow":
            loading.set()
            go.wait(20)
        return KnownAnswer()

    client = rig(load=load).client
    client.hear("masks")
    client.connect()
    setter = threading.Thread(target=lambda: results.append(set_parameter(client, "model", "slow")), daemon=True)
    results: list = []
    setter.start()
    assert loading.wait(20)
    for _ in range(3):
        client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]))
    assert not results
    go.set()
    setter.join(20)
    assert results[0].successful


# ---- lifecycle


def test_a_lifecycle_manager_can_drive_the_node(rig):
    client = rig(start=False).client

    def change(transition):
        return client.call(ChangeState, "change_state", transition=Transition(id=transition)).success

    def state():
        return client.look(GetState, "get_state").current_state.label

    for _ in range(2):
        assert state() == "unconfigured"
        assert not client.call(Trigger, "segment").success
        assert change(Transition.TRANSITION_CONFIGURE)
        client.hear("masks")
        assert change(Transition.TRANSITION_ACTIVATE)
        assert state() == "active"
        client.connect()
        client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]))
        assert change(Transition.TRANSITION_DEACTIVATE)
        wait_until(lambda: client._inputs["depth/image"].get_subscription_count() == 0, "the end of the subscription")
        assert "inactive" in client.call(Trigger, "segment").message
        assert change(Transition.TRANSITION_CLEANUP)
    assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state() == "finalized"


def test_a_model_that_cannot_be_loaded_leaves_the_node_unconfigured_until_it_can(rig):
    def load(directory, device):
        if directory.name == "broken":
            raise InputError("weights are truncated")
        return KnownAnswer()

    made = rig(load=load, model="broken")
    assert not made.started
    status = made.client.wait_for_status(lambda s: "truncated" in s["message"])
    assert status["state"] == "unconfigured" and status["level"] == "2"  # ERROR
    assert set_parameter(made.client, "model", "whole").successful
    assert made.node.start()


def test_an_activation_that_fails_says_why_and_can_be_tried_again(rig, monkeypatch):
    def fail(*_, **__):
        raise InputError("no room for a subscription")

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "Intake", fail)
        made = rig()
    assert not made.started
    status = made.client.wait_for_status(lambda s: "no room" in s["message"])
    assert (status["state"], status["level"]) == ("inactive", "2")
    assert made.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    made.client.hear("masks")
    made.client.connect()
    made.client.wait_for_stamp(made.client.send_frame(boxes(stamp_ns=now_ns())[0]))


def test_loading_says_so(rig):
    go, loading = threading.Event(), threading.Event()

    def load(directory, device):
        loading.set()
        go.wait(20)
        return KnownAnswer()

    maker = threading.Thread(target=lambda: made.append(rig(load=load)), daemon=True)
    made: list = []
    maker.start()
    assert loading.wait(20)
    go.set()
    maker.join(20)
    assert made[0].started


# ---- watchdog and diagnostics


def test_silence_is_named_with_the_likely_cause(rig):
    client = rig(stale_after=0.5, inputs={"elsewhere/depth": Image, "depth/camera_info": CameraInfo}).client
    status = client.wait_for_status(lambda s: s["problems"] != "" and "elsewhere" in s["problems"])
    assert "depth is silent" in status["problems"] and "/depth/image" in status["problems"]
    assert "align_depth.enable:=true" in status["problems"]
    assert status["level"] == "2"


def test_wrong_type_is_named(rig):
    client = rig(stale_after=0.5, inputs={"depth/image": CompressedImage, "depth/camera_info": CameraInfo}).client
    status = client.wait_for_status(lambda s: "CompressedImage" in s["problems"])
    assert "depth_transport" in status["problems"]


def test_stamps_that_never_meet_are_named_with_their_distance(rig):
    client = rig(stale_after=0.5).client
    client.connect()
    depth, info, _ = messages()
    depth.header = type(depth.header)(stamp=Time(sec=1000), frame_id=FRAME_ID)
    info.header.stamp = Time(sec=1000, nanosec=500_000_000)
    problems, deadline = "", time.monotonic() + 30
    while "sync_slop" not in problems and time.monotonic() < deadline:  # the problem goes when no more images come
        client.send(depth, info)
        depth.header.stamp.sec += 1
        info.header.stamp.sec += 1
        time.sleep(0.05)
        problems = client.status.get("problems", "")
    assert "0.500 s apart" in problems


def test_diagnostics_of_a_healthy_node(rig):
    client = rig().client
    client.hear("masks")
    client.connect()
    for _ in range(5):
        client.wait_for_stamp(client.send_frame(boxes(stamp_ns=now_ns())[0]))
    status = client.wait_for_status(lambda s: s["answered"] == "5")
    assert (status["level"], status["state"], status["enabled"], status["instances"]) == ("0", "active", "True", "6")
    assert status["method"] == "known answer"
    assert float(status["latency_ms_p99"]) >= float(status["latency_ms_median"]) >= float(status["segment_ms_median"]) >= 0
    assert float(status["rate_out_hz"]) > 0
