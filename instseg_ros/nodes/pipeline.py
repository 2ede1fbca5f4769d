"""What happens to one set of messages, from the camera's to the answer's; runs in the worker's thread."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass

import numpy as np

from ..camera_info import distortion_pixels
from ..errors import InputError
from ..frame import Frame
from ..instances import Instances
from .finish import Finish
from .host import Host, Setup
from .messages import BadFrame, frame_from_messages
from .model_faults import check_answer, model_fault
from .parameters import Parameters
from .sets import Arrival
from .transforms import Transforms

CLOCKS_DISAGREE = 60.0
"""Seconds. A frame older than this was not delayed: its publisher has another clock (a bag, say)."""
DISTORTED = 1.0
"""Pixels by which a lens may move the image's corners without a word."""


@dataclass(frozen=True)
class Job:
    """A set of messages, and by what it is answered."""

    arrival: Arrival
    setup: Setup


class Pipeline:
    """Messages → frame → instances → messages."""

    def __init__(self, host: Host, transforms: Transforms) -> None:
        self._host, self._transforms, self._finish = host, transforms, Finish(host)
        self._lens: list[float] = []

    def rehearse(self, job: Job) -> None:
        """Have the model answer a frame for nobody, unless the frame itself is bad. InputError: the model cannot."""
        try:
            view = _look(_frame(job.setup, job.arrival), job.setup.wanted)
        except InputError:
            return
        self._segment(job.setup, view)

    def answer(self, job: Job) -> tuple[bool, str]:
        """Answer one frame or skip it. Returns whether all went well, and what was done; never raises."""
        try:
            return True, self._answer(job.setup, job.arrival)
        except BadFrame as error:
            return self._skip(error.reason, str(error))
        except InputError as error:
            return self._skip("refused", str(error))
        except Exception as error:  # whatever happens, the node lives
            self._host.node.get_logger().debug(traceback.format_exc())
            return self._skip("failed", f"the answer could not be made: {type(error).__name__}: {error}")

    def _answer(self, setup: Setup, arrival: Arrival) -> str:
        host = self._host
        if not host.outputs.wanted():
            host.statistics.frame_skipped("unwanted")
            return "nothing computed: nobody subscribes to any topic of this node"
        self._check_age(arrival, setup.wanted.stale_after)
        frame = _frame(setup, arrival)
        self._look_at_lens(arrival)
        view = _look(frame, setup.wanted)
        begin = time.monotonic()
        found = self._segment(setup, view)
        segment = time.monotonic() - begin
        instances = self._finish(setup, found, frame)
        placement = self._transforms.placement(frame, setup.wanted.target_frame)  # after the model: TF had time to come
        host.outputs.publish(frame, instances, placement)
        host.statistics.frame_answered(time.monotonic() - arrival.received, segment, len(instances))
        return f"{len(instances)} parts in {segment * 1e3:.0f} ms"

    def _segment(self, setup: Setup, view: Frame) -> Instances:
        try:
            found = setup.segmenter.segment(view)
            complaint = setup.segmenter.complaint(view)
        except InputError:
            raise
        except BaseException as error:  # whatever a model does, even sys.exit(), the node lives
            self._host.node.get_logger().debug(traceback.format_exc())
            raise model_fault(error) from None
        check_answer(found, view)
        if complaint:
            self._host.statistics.error(complaint)
            self._host.complaints.warn("model", complaint)
        return found

    def _check_age(self, arrival: Arrival, stale_after: float) -> None:
        """Refuse frames that were delayed: a robot must not move by an old picture."""
        stamp = arrival.depth.header.stamp
        waited = time.monotonic() - arrival.received
        age = self._host.node.get_clock().now().nanoseconds * 1e-9 - (stamp.sec + stamp.nanosec * 1e-9)
        if age > CLOCKS_DISAGREE:
            self._host.complaints.warn(
                "clock",
                f"stamps are {age:.0f} s behind this node's clock, so delays go unnoticed: for a bag, publish its clock "
                "and set use_sim_time",
            )
            age = waited
        if stale_after > 0 and max(age, waited) > stale_after:
            raise BadFrame("stale", f"the frame is {max(age, waited):.1f} s old, more than stale_after = {stale_after:g} s")

    def _look_at_lens(self, arrival: Arrival) -> None:
        """Say it once where the lens distorts: no method undoes that."""
        coefficients = list(arrival.info.d)
        if coefficients != self._lens:
            self._lens = coefficients
            if (pixels := distortion_pixels(arrival.info)) > DISTORTED:
                text = (
                    f"camera_info says that the lens moves the image's corners by {pixels:.0f} pixels, which is not undone: unless "
                    "the image is rectified already, rectify it (image_proc), or positions near the border are off"
                )
                self._host.statistics.error(text)
                self._host.complaints.warn("distortion", text)

    def _skip(self, reason: str, why: str) -> tuple[bool, str]:
        self._host.statistics.frame_skipped(reason, why)
        self._host.complaints.warn(reason, f"frame skipped: {why}")
        return False, why


def _frame(setup: Setup, arrival: Arrival) -> Frame:
    color = arrival.color if setup.segmenter.needs_color else None  # it may come from before a change of the model
    return frame_from_messages(arrival.depth, arrival.info, color)


def _look(frame: Frame, wanted: Parameters) -> Frame:
    """Before the model: what it gets to see of the frame."""
    view = wanted.region.apply(frame)
    if view is not frame and np.isnan(view.depth).all():
        raise BadFrame("no_depth", "no valid depth within roi and depth_range: widen them or look where the camera points")
    return view
