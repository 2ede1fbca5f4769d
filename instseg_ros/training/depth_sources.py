"""Where unlabelled depth comes from. Nothing but depth and intrinsics is ever read here: no mask, no truth, no colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ..bags import Bag, TruthTopics, bundles, find_topics
from ..bags.decoding import decode_frame
from ..bags.topics import depth_topics
from ..bop import BopDataset
from ..errors import InputError
from ..frame import Frame


class DepthSource(Protocol):
    """Depth frames that can be read again: ``name`` for messages, ``title`` for model cards (no paths of this
    machine), ``key`` that changes with the content."""

    name: str
    title: str
    key: list[Any]

    def __len__(self) -> int: ...

    def frames(self, wanted: set[int] | None = None) -> Iterator[Frame]:
        """All frames, or those of the given numbers, in order; colour is left out."""
        ...


class BopDepth:
    """Split of a BOP dataset: scene_camera.json and depth/."""

    def __init__(self, path: str | Path, split: str | None) -> None:
        self.dataset = BopDataset(path, split)
        self.name = f"{self.dataset.root}/{self.dataset.split}"
        self.title = f"{self.dataset.root.resolve().name}/{self.dataset.split}"
        self.key = ["bop", str(self.dataset.folder.resolve()), len(self.dataset)]

    def __len__(self) -> int:
        return len(self.dataset)

    def frames(self, wanted: set[int] | None = None) -> Iterator[Frame]:
        for i in range(len(self)):
            if wanted is None or i in wanted:
                yield self.dataset.frame(i, color=False)


class BagDepth:
    """Depth topic of a rosbag2 and its camera info."""

    def __init__(self, path: str | Path, topic: str | None, info: str | None) -> None:
        self.path, self.name, self.title = Path(path), str(path), Path(path).resolve().name
        with Bag(path) as bag:
            # Depth alone: neither colour nor the truth that a simulated bag may carry.
            self.topics = replace(find_topics(bag, depth=topic, info=info, color=""), truth=TruthTopics())
            known = depth_topics(bag)
            if self.topics.depth not in known:
                raise InputError(f"{path}: {topic} holds no depth images, {', '.join(known) or 'no topic'} does: name it with --topic")
            self._length = bag.counts[self.topics.depth]
            self.key = ["bag", str(self.path.resolve()), self.topics.depth, self.topics.info, self._length, bag.duration_ns]

    def __len__(self) -> int:
        return self._length

    def frames(self, wanted: set[int] | None = None) -> Iterator[Frame]:
        with Bag(self.path) as bag:
            for i, bundle in enumerate(bundles(bag.messages(self.topics.names()), self.topics)):
                if wanted is not None and i not in wanted:
                    continue
                try:
                    yield decode_frame(bag.decode(bundle.depth), bag.decode(bundle.info), None, bundle.depth.stamp_ns)
                except InputError as error:
                    raise InputError(f"{self.path}, {self.topics.depth} at {bundle.depth.stamp_ns * 1e-9:.3f} s: {error}") from None
