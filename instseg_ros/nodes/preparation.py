"""From parameters to what a frame is answered by: the model, and where parts may be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rclpy.node import Node

from ..background import Background
from ..errors import InputError
from ..resources import find_model
from . import parameters
from .complaints import Complaints
from .host import Setup
from .parameters import Parameters
from .passing_thread import in_passing_thread
from .statistics import Statistics
from .volume import load_background, volume_of

if TYPE_CHECKING:
    from ..methods import Segmenter


def load_segmenter(directory: Path, device: str) -> Segmenter:
    """Model directory and device → segmenter."""
    from .. import methods  # here, because torch takes seconds in which the node should already say what it does

    return methods.load_segmenter(directory, device)


class Preparation:
    """Loads what parameters name.

    Args:
        load: model directory and device → segmenter.
        node: for its logger.
        statistics, complaints: of the node.
    """

    def __init__(self, load: Callable[[Path, str], Segmenter], node: Node, statistics: Statistics, complaints: Complaints) -> None:
        self._load, self._node = load, node
        self._statistics, self._complaints = statistics, complaints

    def setup(self, wanted: Parameters, now: Setup | None) -> Setup:
        """What ``wanted`` asks for; what it leaves as it is in ``now`` is not read again.

        Raises:
            InputError, and whatever a model raises: it cannot be loaded.
        """
        changed = set(parameters.SPECS) if now is None else now.wanted.changed(wanted)
        # A new model is loaded beside the old one, which goes on answering.
        setup = self._model(wanted) if changed & parameters.NEED_RELOAD else replace(now, wanted=wanted)
        background = self._background(wanted) if "background_file" in changed else now.volume.background
        return replace(setup, volume=volume_of(wanted, background))

    def _model(self, wanted: Parameters) -> Setup:
        directory = find_model(wanted.model)
        log = self._node.get_logger()
        log.info(f"loading model {directory} on {wanted.device}")
        begin = time.monotonic()
        segmenter = in_passing_thread(self._segmenter, directory, wanted)
        log.info(f"loaded in {time.monotonic() - begin:.1f} s: {segmenter.description or directory.name}")
        return Setup(segmenter, directory, wanted)

    def _segmenter(self, directory: Path, wanted: Parameters) -> Segmenter:
        segmenter = self._load(directory, wanted.device)
        if not wanted.amodal_model:
            return segmenter
        from ..methods.amodal import AmodalSegmenter  # here, as above

        return AmodalSegmenter(segmenter, self._load(find_model(wanted.amodal_model), wanted.device))

    def _background(self, wanted: Parameters) -> Background | None:
        """Parts are found without one, too."""
        try:
            return load_background(wanted)
        except InputError as error:
            self._statistics.error(str(error))
            self._complaints.warn("background", f"no background: {error}")
            return None
