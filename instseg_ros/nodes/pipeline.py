"""What happens to one set of messages, from the camera's to the answer's; runs in the worker's thread."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..frame import Frame
from ..instances import Instances
from .host import Host, Setup
from .messages import BadFrame, frame_from_messages
from .model_faults import model_fault
from .parameters import Parameters
from .sets import Arrival
from .transforms import Transforms

CLOCKS_DISAGREE = 60.0
"""Seconds. A frame older than this was not delayed: its publisher has another clock (a bag, say)."""


@dataclass(frozen=True)
class Job:
    """A set of messages, and by what it is answered."""

    arrival: Arrival
    setup: Setup


class Pipeline:
    """Messages → frame → instances → messages."""

    def __init__(self, host: Host, transforms: Transforms) -> None:
        self._host, self._transforms = host, transforms

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
        view = _look(frame, setup.wanted)
        begin = time.monotonic()
        found = self._segment(setup, view)
        segment = time.monotonic() - begin
        instances = _finish(found, frame, setup.wanted)
        placement = self._transforms.placement(frame, setup.wanted.target_frame)  # after the model: TF had time to come
        host.outputs.publish(frame, instances, placement)
        host.statistics.frame_answered(time.monotonic() - arrival.received, segment, len(instances))
        return f"{len(instances)} parts in {segment * 1e3:.0f} ms"

    def _segment(self, setup: Setup, view: Frame) -> Instances:
        try:
            return setup.segmenter.segment(view)
        except InputError:
            raise
        except Exception as error:  # whatever a model does, the node lives
            self._host.node.get_logger().debug(traceback.format_exc())
            raise model_fault(error) from None

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


def _finish(found: Instances, frame: Frame, wanted: Parameters) -> Instances:
    """After the model: what is published of its answer, in the pixels of the whole frame."""
    return wanted.region.restore(_select(found, wanted), frame.shape)


def _select(instances: Instances, wanted: Parameters) -> Instances:
    """Without what is too small, too unsure, or has no place in space."""
    keep = instances.score >= wanted.min_score
    keep &= np.isfinite(instances.centroid).all(1) & np.isfinite(instances.covariance).all((1, 2))
    if wanted.min_pixels > 0:
        keep &= instances.pixels >= wanted.min_pixels
    return instances.select(keep)
