"""Stand-in for the package ``cv_bridge`` of ROS 2: image messages from and to OpenCV arrays."""

from .bridge import CvBridge, CvBridgeError

__all__ = ["CvBridge", "CvBridgeError"]
