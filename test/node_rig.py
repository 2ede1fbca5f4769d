"""A segmenter node and a client that publishes to it and hears its answers, in the test's process over DDS."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from conftest import open_context
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from instseg_ros.nodes.messages import frame_to_messages, stamp_ns
from instseg_ros.nodes.runner import Spinner
from instseg_ros.nodes.segmenter import SegmenterNode

TYPES = {
    "masks": Image,
    "instances": PointCloud2,
    "poses": PoseArray,
    "amodal_layers": Image,
    "markers": MarkerArray,
    "points": PointCloud2,
    "overlay": Image,
}
INPUTS = {"depth/image": Image, "depth/camera_info": CameraInfo, "color/image": Image}
PATIENCE = 30.0


class Client(Node):
    """Publishes camera topics and keeps what the node answers.

    Attributes:
        heard: topic → messages, in order.
        peer: the node, where it runs in this process.
    """

    def __init__(
        self,
        context: object,
        node: str = "/instseg",
        inputs: dict[str, type] | None = None,
        namespace: str = "",
        remappings: dict[str, str] | None = None,
    ) -> None:
        words = [word for topic, name in (remappings or {}).items() for word in ("-r", f"{name}:={topic}")]
        super().__init__("client", namespace=namespace, context=context, cli_args=["--ros-args", *words] if words else None)
        self.peer: SegmenterNode | None = None
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self._callers: dict[str, Any] = {}
        self._node = f"{namespace}{node}"
        self._inputs = {n: self.create_publisher(t, n, QoSProfile(depth=10)) for n, t in (inputs or INPUTS).items()}
        self.create_subscription(DiagnosticArray, "/diagnostics", self.heard["diagnostics"].append, 10)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(self)
        self._spinner = Spinner(executor)
        self._spinner.start()

    def hear(self, *topics: str) -> None:
        """Subscribe to answers and wait until both sides know of the connection."""
        for topic in topics:
            subscription = self.create_subscription(TYPES[topic], f"{self._node}/{topic}", self.heard[topic].append, 10)
            wait_until(lambda: _publishers(self, subscription) > 0, f"a publisher of {topic}")
            if self.peer is not None:
                (publisher,) = (p for output, p in self.peer._outputs._publishers if output.topic == topic)
                wait_until(lambda: publisher.get_subscription_count() > 0, f"the node to know that {topic} is heard")

    def connect(self, *names: str) -> None:
        """Wait until somebody subscribes to these inputs, and both sides know of the connection."""
        for name in names or ("depth/image", "depth/camera_info"):
            publisher = self._inputs[name]
            wait_until(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {name}")
            if self.peer is not None:
                (there,) = (s.sub for s in self.peer._engine.intake._subscribers.values() if s.sub.topic_name == publisher.topic_name)
                wait_until(lambda: _publishers(self.peer, there) > 0, f"the node to know of {name}")

    def send(self, depth: Any, info: CameraInfo | None = None, color: Any = None, depth_topic: str = "depth/image") -> None:
        """Publish one set of messages."""
        for name, message in (("color/image", color), ("depth/camera_info", info), (depth_topic, depth)):
            if message is not None:
                self._inputs[name].publish(message)

    def send_frame(self, frame: Any) -> int:
        """Publish a frame. Returns its stamp in nanoseconds."""
        self.send(*frame_to_messages(frame))
        return frame.stamp_ns

    def ask(self, make_frame: Callable[[int], Any], topic: str = "masks") -> Any:
        """Send frames (of the stamp that ``make_frame`` is given), one a second, until one is answered: the first may be lost
        while a node in another process does not yet know of this one. Returns the answer."""
        before = len(self.heard[topic])
        sent = 0.0

        def answered() -> bool:
            nonlocal sent
            if time.monotonic() - sent > 1.0:
                sent = time.monotonic()
                self.send_frame(make_frame(time.time_ns()))
            return len(self.heard[topic]) > before

        wait_until(answered, f"an answer on {topic}")
        return self.heard[topic][-1]

    def wait_for(self, topic: str, count: int = 1) -> Any:
        """The ``count``-th message of a topic, waiting for it."""
        wait_until(lambda: len(self.heard[topic]) >= count, lambda: f"{topic}: {len(self.heard[topic])} of {count}; {self.status}")
        return self.heard[topic][count - 1]

    def wait_for_stamp(self, stamp: int, topic: str = "masks") -> Any:
        """The answer to the frame of this stamp."""
        found: list[Any] = []

        def come() -> bool:
            found[:] = [m for m in self.heard[topic] if stamp_ns(m.header) == stamp]
            return bool(found)

        wait_until(come, lambda: f"an answer to {stamp} on {topic}; {self.status}")
        return found[0]

    @property
    def status(self) -> dict[str, str]:
        """Values of the newest diagnostics, with ``level`` and ``message``."""
        if not self.heard["diagnostics"]:
            return {}
        status = self.heard["diagnostics"][-1].status[0]
        return {pair.key: pair.value for pair in status.values} | {"level": str(status.level[0]), "message": status.message}

    def wait_for_status(self, holds: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """The first diagnostics for which ``holds``."""
        wait_until(lambda: bool(self.status) and holds(self.status), lambda: f"a certain status, last: {self.status}")
        return self.status

    def call(self, type_: type, name: str, **fields: Any) -> Any:
        """Call a service of the node."""
        future = self.request(type_, name, **fields)
        wait_until(future.done, f"an answer of {name}")
        return future.result()

    def request(self, type_: type, name: str, **fields: Any) -> Any:
        """Call a service of the node; the future answer."""
        return self._client(type_, name).call_async(type_.Request(**fields))

    def look(self, type_: type, name: str) -> Any:
        """Call a service that changes nothing, once a second until it answers: a new client's first answer may be lost."""
        client, futures = self._client(type_, name), []

        def answered() -> bool:
            if len(futures) <= time.monotonic() - begin:
                futures.append(client.call_async(type_.Request()))
            return any(future.done() for future in futures)

        begin = time.monotonic()
        wait_until(answered, f"an answer of {name}")
        return next(future.result() for future in futures if future.done())

    def _client(self, type_: type, name: str) -> Any:
        """The client of a service; where the node runs in this process, it knows of the client: else it would answer nobody."""
        if name not in self._callers:
            self._callers[name] = self.create_client(type_, f"{self._node}/{name}")
        client = self._callers[name]
        assert client.wait_for_service(PATIENCE), f"no service {name}"
        if self.peer is not None and hasattr(self.peer, "count_clients"):  # not before Jazzy
            wait_until(lambda: self.peer.count_clients(client.service_name) > 0, f"the node to know of the client of {name}")
        return client

    def end(self) -> None:
        """Stop spinning."""
        self._spinner.stop()
        self.destroy_node()


class Rig:
    """Node and client.

    Args:
        domain: ROS domain.
        load: model directory and device → segmenter.
        start: let the node configure and activate itself.
        inputs: topics that the client can publish to.
        parameters: of the node.
    """

    def __init__(
        self, domain: int, load: Callable, *, start: bool = True, inputs: dict[str, type] | None = None, **parameters: Any
    ) -> None:
        self._contexts = contextlib.ExitStack()
        context, other = (self._contexts.enter_context(open_context(domain)) for _ in range(2))
        overrides = [Parameter(name, value=value) for name, value in {"autostart": start, **parameters}.items()]
        self.client = Client(other, inputs=inputs)
        self.node = SegmenterNode(load=load, context=context, parameter_overrides=overrides)
        self.client.peer = self.node
        executor = SingleThreadedExecutor(context=context)  # as the process runs it
        executor.add_node(self.node)
        self._spinner = Spinner(executor)
        self._spinner.start()
        self.started = self.node.start()

    def end(self) -> None:
        """Take both down."""
        self._spinner.stop()
        self.node.close()
        self.node.destroy_node()
        self.client.end()
        self._contexts.close()


def _publishers(node: Node, subscription: Any) -> int:
    """Publishers that a subscription is connected to; before Iron rclpy knows those of the graph only."""
    if hasattr(subscription, "get_publisher_count"):
        return subscription.get_publisher_count()
    return node.count_publishers(subscription.topic_name)


def wait_until(holds: Callable[[], bool], what: str | Callable[[], str], timeout: float = PATIENCE) -> None:
    """Wait for a condition; the test fails with ``what`` was waited for."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what() if callable(what) else what}"
        time.sleep(0.01)
