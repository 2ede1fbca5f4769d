"""Faults of the model, its device and the parameters: the frame is counted, the reason told, the next frame answered."""

from __future__ import annotations

import re
import threading
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

import torch  # noqa: E402
from fault_bench import Bench  # noqa: E402
from rcl_interfaces.msg import ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.msg import Parameter as ParameterMessage  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from ros_scenes import HEIGHT, WIDTH, KnownAnswer, answer, boxes  # noqa: E402

from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.instances import Instances  # noqa: E402
from instseg_ros.nodes import segmenter as segmenter_module  # noqa: E402
from instseg_ros.nodes.messages import labels_from_message  # noqa: E402


class Fickle(KnownAnswer):
    """Does once what it was told to, and is right ever after.

    Attributes:
        prank: right answer → what to give instead; it may raise.
    """

    def __init__(self):
        super().__init__()
        self.prank = None

    def segment(self, frame):
        right = super().segment(frame)
        prank, self.prank = self.prank, None
        return right if prank is None else prank(right)


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_module, "CHECK_PERIOD", 0.02)
        made = Bench(segmenter=Fickle())
        yield made
        made.end()


def raises(error):
    def prank(_):
        raise error

    return prank


def of_size(height, width):
    """An answer to an image of another size."""

    def prank(_):
        labels = np.zeros((height, width), np.uint16)
        labels[0, 0] = 1
        frame, _ = boxes()
        return replace(answer(frame, boxes()[1]), labels=labels, layers=labels[None])

    return prank


def changed(**fields):
    def prank(right):
        return replace(right, **{name: make(getattr(right, name).copy()) for name, make in fields.items()})

    return prank


PRANKS = {
    "CUDA out of memory": (raises(torch.cuda.OutOfMemoryError("Tried to allocate 2.00 GiB")), "out_of_memory", "2.00 GiB.*roi"),
    "out of memory as a plain error": (raises(RuntimeError("CUDA error: out of memory")), "out_of_memory", "roi"),
    "out of host memory": (raises(MemoryError("Unable to allocate 9 GiB")), "out_of_memory", "9 GiB"),
    "device lost": (raises(RuntimeError("CUDA error: an illegal memory access was encountered")), "failed", "illegal memory"),
    "a bug": (raises(IndexError("index 7 is out of bounds")), "failed", "IndexError: index 7"),
    "an assertion": (raises(AssertionError()), "failed", "AssertionError"),
    "a message of many lines": (raises(ValueError("one\ntwo\n" * 500)), "failed", "ValueError: one two"),
    "an end of recursion": (raises(RecursionError("maximum recursion depth exceeded")), "failed", "RecursionError"),
    "an exit": (raises(SystemExit(3)), "failed", "SystemExit: 3"),
    "an interrupt": (raises(KeyboardInterrupt()), "failed", "KeyboardInterrupt"),
    "a refusal": (raises(InputError("depth must be 224 x 224")), "refused", "224 x 224"),
    "no answer": (lambda right: None, "failed", "NoneType"),
    "an array for an answer": (lambda right: right.labels, "failed", "ndarray"),
    "an answer of half the size": (of_size(HEIGHT // 2, WIDTH // 2), "failed", "80 x 60.*160 x 120"),
    "an answer of one row": (of_size(1, WIDTH), "failed", "160 x 1.*160 x 120"),
    "an answer of one pixel": (of_size(1, 1), "failed", "1 x 1.*160 x 120"),
    "labels without rows": (lambda right: replace(right, score=right.score[:2]), "refused", "must be float32 of shape"),
    "scores of NaN": (changed(score=lambda score: score * np.nan), "refused", "score must lie in"),
    "labels of 64 bits": (changed(labels=lambda labels: labels.astype(np.int64)), "refused", "uint16"),
}


@pytest.mark.parametrize("name", PRANKS)
def test_a_model_that_fails_on_a_frame_is_asked_again(bench, name):
    bench.segmenter.prank, reason, says = PRANKS[name]
    before = bench.counts()
    bench.publish(*bench.scene())
    key = f"skipped_{reason}"
    status = bench.client.wait_for_status(lambda s: int(s.get(key, 0)) == before.get(key, 0) + 1)
    assert re.search(says, status["last_error"]), status["last_error"]
    assert "\n" not in status["last_error"] and len(status["last_error"]) < 500
    assert status["level"] == "1"  # WARN
    bench.check_good_frame()
    after = bench.counts()
    assert (after["received"], after["answered"]) == (before["received"] + 2, before["answered"] + 1)


@pytest.mark.parametrize("field", ["centroid", "covariance"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parts_without_a_place_in_space_are_left_out(bench, field, value):
    def prank(right):
        values = getattr(right, field).copy()
        values[1] = value
        return replace(right, **{field: values})

    bench.segmenter.prank = prank
    found = bench.client.wait_for_stamp(bench.publish(*bench.scene()))
    labels, truth = labels_from_message(found)[0], boxes()[1]
    assert labels.max() == 5 and (labels[truth == 2] == 0).all() and (labels[truth == 3] == 2).all()
    bench.check_good_frame()


def test_an_answer_without_parts_is_an_answer(bench):
    bench.segmenter.prank = lambda right: Instances.empty(right.labels.shape)
    assert labels_from_message(bench.client.wait_for_stamp(bench.publish(*bench.scene()))).max() == 0
    bench.check_good_frame()


def test_a_model_that_hangs_is_named_and_answers_again_when_it_comes_back(bench, monkeypatch):
    monkeypatch.setattr(segmenter_module, "LONG_AT_WORK", 0.2)
    go = threading.Event()
    bench.segmenter.prank = lambda right: right if go.wait(20) else None
    stamp = bench.publish(*bench.scene())
    status = bench.client.wait_for_status(lambda s: "at work on one frame" in s["problems"])
    assert status["level"] == "2"  # ERROR
    go.set()
    bench.client.wait_for_stamp(stamp)
    bench.client.wait_for_status(lambda s: "at work" not in s["problems"])
    bench.check_good_frame()


# ---- parameters, as any tool may send them

V, T = ParameterValue, ParameterType
PARAMETERS = {
    "unknown": ("nonsense", V(type=T.PARAMETER_INTEGER, integer_value=1), "undeclared"),
    "without value": ("max_rate", V(), "."),
    "number as text": ("max_rate", V(type=T.PARAMETER_STRING, string_value="fast"), "max_rate must be a number"),
    "one number for two": ("depth_range", V(type=T.PARAMETER_INTEGER, integer_value=5), "depth_range must be numbers in brackets"),
    "float for a whole number": ("min_pixels", V(type=T.PARAMETER_DOUBLE, double_value=5.0), "type"),
    "truth for text": ("model", V(type=T.PARAMETER_BOOL, bool_value=True), "type"),
    "text for a rectangle": ("roi", V(type=T.PARAMETER_STRING, string_value="all"), "type"),
    "floats for a rectangle": ("roi", V(type=T.PARAMETER_DOUBLE_ARRAY, double_array_value=[0.0] * 4), "type"),
    "rectangle of three": ("roi", V(type=T.PARAMETER_INTEGER_ARRAY, integer_array_value=[1, 2, 3]), "roi must be four"),
    "rectangle of none": ("roi", V(type=T.PARAMETER_INTEGER_ARRAY), "roi must be four"),
    "negative rectangle": ("roi", V(type=T.PARAMETER_INTEGER_ARRAY, integer_array_value=[0, 0, -5, 5]), "roi"),
    "rectangle beyond any image": ("roi", V(type=T.PARAMETER_INTEGER_ARRAY, integer_array_value=[2**62] * 4), "roi|answered"),
    "rate of NaN": ("max_rate", V(type=T.PARAMETER_DOUBLE, double_value=float("nan")), "max_rate"),
    "rate of inf": ("max_rate", V(type=T.PARAMETER_DOUBLE, double_value=float("inf")), "max_rate"),
    "negative rate": ("max_rate", V(type=T.PARAMETER_DOUBLE, double_value=-1.0), "max_rate"),
    "score beyond 1": ("min_score", V(type=T.PARAMETER_DOUBLE, double_value=1.1), "min_score"),
    "depth range of inf": ("depth_range", V(type=T.PARAMETER_DOUBLE_ARRAY, double_array_value=[0.0, float("inf")]), "depth_range"),
    "depth range of NaN": ("depth_range", V(type=T.PARAMETER_DOUBLE_ARRAY, double_array_value=[0.5, float("nan")]), "depth_range"),
    "depth range turned round": ("depth_range", V(type=T.PARAMETER_DOUBLE_ARRAY, double_array_value=[2.0, 1.0]), "depth_range"),
    "transport unknown": ("color_transport", V(type=T.PARAMETER_STRING, string_value="theora"), "theora|raw, compressed"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_that_cannot_be_used_is_refused_and_changes_nothing(bench, name):
    parameter, value, says = PARAMETERS[name]
    request = [ParameterMessage(name=parameter, value=value)]
    result = bench.client.call(SetParameters, "set_parameters", parameters=request).results[0]
    if result.successful and "answered" in says:  # what no check beforehand can know
        bench.publish(*bench.scene())
        bench.client.wait_for_status(lambda s: "outside" in s["last_error"])
        reset = [ParameterMessage(name=parameter, value=V(type=T.PARAMETER_INTEGER_ARRAY, integer_array_value=[0] * 4))]
        assert bench.client.call(SetParameters, "set_parameters", parameters=reset).results[0].successful
    else:
        assert not result.successful and re.search(says, result.reason), result.reason
    bench.check_good_frame()
