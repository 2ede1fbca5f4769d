"""Stand-in for the Python package ``message_filters`` of ROS 2: filters that pass messages on by their time stamps."""

from .filters import SimpleFilter, Subscriber
from .synchronizers import ApproximateTimeSynchronizer, TimeSynchronizer

__all__ = ["ApproximateTimeSynchronizer", "SimpleFilter", "Subscriber", "TimeSynchronizer"]
