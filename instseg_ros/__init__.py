"""Instance segmentation for bin picking: four published methods behind one contract, as ROS 2 nodes."""

__version__ = "0.1.0"
