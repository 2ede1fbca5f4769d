"""Putting together the messages that belong to one depth image, by their stamps, in one pass over the bag."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import InputError
from .reader import Message
from .topics import Topics

SLOP_NS = 20_000_000
"""Colour belongs to a depth image when their stamps differ by at most this much."""
PATIENCE_NS = 1_000_000_000
"""Recording time for which a companion may come later than its depth image."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """One depth image and what belongs to it.

    Attributes:
        depth: the depth image.
        info: the camera info nearest in time.
        color: the colour image within the slop, or None.
        masks, layers, instances: the truth of exactly this stamp, or None.
        others: messages of other topics recorded since the last depth image, in order.
    """

    depth: Message
    info: Message
    color: Message | None
    masks: Message | None
    layers: Message | None
    instances: Message | None
    others: tuple[Message, ...]


def bundles(messages: Iterable[Message], topics: Topics, *, slop_ns: int = SLOP_NS) -> Iterator[Bundle]:
    """One bundle for every depth image, in recorded order; each depth image comes exactly once.

    Raises:
        InputError: there is no camera info at all.
    """
    matcher = _Matcher(topics, slop_ns)
    for message in messages:
        matcher.add(message)
        yield from matcher.ready(message.log_ns)
    yield from matcher.ready(None)
    if matcher.waiting:
        raise InputError(f"{len(matcher.waiting)} depth images on {topics.depth} have no camera info on {topics.info}")


class _Matcher:
    def __init__(self, topics: Topics, slop_ns: int) -> None:
        truth = topics.truth
        named = {
            "info": topics.info,
            "color": topics.color,
            "masks": truth.masks,
            "layers": truth.layers,
            "instances": truth.instances,
        }
        self.roles = {topic: role for role, topic in named.items() if topic is not None}
        self.slop = {"color": slop_ns, "masks": 0, "layers": 0, "instances": 0}
        self.depth_topic = topics.depth
        self.waiting: deque[Message] = deque()
        self.streams: dict[str, deque[Message]] = {role: deque() for role in self.roles.values()}
        self.others: list[Message] = []

    def add(self, message: Message) -> None:
        role = self.roles.get(message.topic)
        if message.topic == self.depth_topic:
            self.waiting.append(message)
        elif role is None:
            self.others.append(message)
        else:
            stream = self.streams[role]
            if stream and message.stamp_ns < stream[-1].stamp_ns:
                stream.clear()  # time jumped back: what came before would stay for ever
            stream.append(message)

    def ready(self, now: int | None) -> Iterator[Bundle]:
        """Bundles that are complete, or for which nothing will come any more; ``now`` None = the bag is at its end."""
        while self.waiting and self.streams["info"] and self._settled(self.waiting[0], now):
            depth = self.waiting.popleft()
            chosen = {role: self._nearest(role, depth.stamp_ns) for role in self.streams}
            info = chosen.pop("info")
            assert info is not None
            others, self.others = tuple(self.others), []
            yield Bundle(
                depth=depth,
                info=info,
                others=others,
                **{k: chosen.get(k) for k in ("color", "masks", "layers", "instances")},
            )
            for stream in self.streams.values():
                while len(stream) > 1 and stream[1].stamp_ns <= depth.stamp_ns:
                    stream.popleft()

    def _settled(self, depth: Message, now: int | None) -> bool:
        if now is None or now - depth.log_ns > PATIENCE_NS:
            return True
        return all(stream and stream[-1].stamp_ns >= depth.stamp_ns for stream in self.streams.values())

    def _nearest(self, role: str, stamp_ns: int) -> Message | None:
        stream = self.streams[role]
        if not stream:
            return None
        best = min(stream, key=lambda message: abs(message.stamp_ns - stamp_ns))
        far = role in self.slop and abs(best.stamp_ns - stamp_ns) > self.slop[role]
        return None if far else best
