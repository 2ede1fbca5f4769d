"""The frames of a bag, each once, with their truth where the bag has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..bop import Truth
from ..errors import InputError
from ..frame import Frame
from .decoding import decode_frame, decode_part_names, decode_truth
from .matching import SLOP_NS, Bundle, bundles
from .reader import Bag, Message
from .topics import Topics, find_topics


class BagFrames:
    """Iterates over (Frame, Truth or None), one for every depth image in the bag, in recorded order; repeatable.

    Args:
        path: bag folder, .mcap or .db3 file.
        depth, info, color: topic names; None = found by realsense2_camera's names, else by type and name.
        use_color: whether to read the colour images.
        slop: seconds by which the stamps of depth and colour may differ.

    Attributes:
        topics: the names in use.
        has_truth: whether the bag has truth masks.

    Raises:
        InputError: as ``Bag`` and ``find_topics``; on iteration, for a message that cannot be used (topic and stamp).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        depth: str | None = None,
        info: str | None = None,
        color: str | None = None,
        use_color: bool = True,
        slop: float = SLOP_NS * 1e-9,
    ) -> None:
        self.path = Path(path)
        self._slop_ns = round(slop * 1e9)
        with Bag(path) as bag:
            self.topics: Topics = find_topics(bag, depth=depth, info=info, color=color if use_color else "")
            self._length = bag.counts[self.topics.depth]
        self.has_truth = self.topics.truth.masks is not None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[Frame, Truth | None]]:
        part_names: dict[int, str] = {}
        with Bag(self.path) as bag:
            for bundle in bundles(bag.messages(self.topics.names()), self.topics, slop_ns=self._slop_ns):
                for message in bundle.others:  # of the topics that were asked for, only the parts' names are left
                    text = bag.decode(message).data
                    try:
                        part_names |= decode_part_names(text)
                    except InputError as error:
                        raise InputError(f"{self.path}, {message.topic}: {error}") from None
                try:
                    frame = self._frame(bag, bundle)
                    yield frame, self._truth(bag, bundle, frame, part_names)
                except InputError as error:
                    depth = bundle.depth
                    raise InputError(f"{self.path}, {depth.topic} at {depth.stamp_ns * 1e-9:.3f} s: {error}") from None

    @staticmethod
    def _frame(bag: Bag, bundle: Bundle) -> Frame:
        color = None if bundle.color is None else bag.decode(bundle.color)
        return decode_frame(bag.decode(bundle.depth), bag.decode(bundle.info), color, bundle.depth.stamp_ns)

    @staticmethod
    def _truth(bag: Bag, bundle: Bundle, frame: Frame, part_names: dict[int, str]) -> Truth | None:
        def decoded(message: Message | None) -> Any | None:
            return None if message is None else bag.decode(message)

        if bundle.masks is None:
            return None
        truth = decode_truth(
            bag.decode(bundle.masks), decoded(bundle.layers), decoded(bundle.instances), part_names, frame.depth
        )
        if truth.labels.shape != frame.shape:
            raise InputError(
                f"truth masks are {truth.labels.shape} pixels, depth {frame.shape}: they must be of one camera"
            )
        return truth


def read_frames(path: str | Path, **options: Any) -> Iterator[Frame]:
    """The frames of a bag without their truth; ``options`` as for ``BagFrames``."""
    for frame, _ in BagFrames(path, **options):
        yield frame
