"""What the parts of the segmenter node are given: what the node lends them, and what they are to work by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rclpy.node import Node

from ..bin_volume import BinVolume
from .complaints import Complaints
from .outputs import Outputs
from .parameters import Parameters
from .statistics import Statistics

if TYPE_CHECKING:
    from ..methods import Segmenter


@dataclass(frozen=True)
class Host:
    """What the node lends to its parts, for as long as it is configured.

    Attributes:
        node: for its clock, its logger and the names of its topics.
        intake: the node on which to subscribe (``lane``).
        outputs: where answers go.
        statistics, complaints: counters and warnings.
    """

    node: Node
    intake: Node
    outputs: Outputs
    statistics: Statistics
    complaints: Complaints


@dataclass(frozen=True)
class Setup:
    """By what a frame is answered: model and parameters, which change together, between two frames.

    Attributes:
        segmenter: the model.
        directory: where it was read.
        wanted: the parameters.
        volume: where parts may be.
    """

    segmenter: Segmenter
    directory: Path
    wanted: Parameters
    volume: BinVolume = BinVolume()
