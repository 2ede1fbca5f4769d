"""Reading and writing rosbag2 (sqlite3 and mcap, plain or zstd) with the library ``rosbags``; no ROS needed."""

from .frames import BagFrames, read_frames
from .matching import Bundle, bundles
from .reader import Bag, Message
from .topics import Topics, TruthTopics, find_topics
from .writer import BagWriter

__all__ = [
    "Bag",
    "BagFrames",
    "BagWriter",
    "Bundle",
    "Message",
    "Topics",
    "TruthTopics",
    "bundles",
    "find_topics",
    "read_frames",
]
