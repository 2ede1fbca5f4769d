"""Instance segmentation for bin picking: four published methods behind one contract, as ROS 2 nodes."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.etree import ElementTree

try:
    __version__ = version("instseg_ros")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = ElementTree.parse(Path(__file__).resolve().parent.parent / "package.xml").findtext("version", "unknown")
