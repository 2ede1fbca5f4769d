"""pyrealsense2, imported when it is needed: a robot whose camera has another driver need not have it."""

from __future__ import annotations

from types import ModuleType

from rclpy.utilities import get_rmw_implementation_identifier

from ...errors import InputError


def load() -> ModuleType:
    """The module pyrealsense2. InputError where it cannot be imported, naming the package that is missing."""
    # This loads ROS' middleware, which must come first: the wheel of pyrealsense2 has a Fast DDS of its own, and its singletons
    # (GNU unique symbols: one per process) under ROS' nodes end the process with a segmentation fault.
    get_rmw_implementation_identifier()
    try:
        import pyrealsense2
    except ImportError as error:
        if "libusb" in str(error):
            raise InputError("pyrealsense2 needs the system package libusb-1.0-0: sudo apt install libusb-1.0-0") from None
        raise InputError(f"the camera node needs pyrealsense2 ({error}): pip install pyrealsense2") from None
    return pyrealsense2
