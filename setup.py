"""Installs with colcon (ament_python) and with pip; the version comes from package.xml."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

NAME = "instseg_ros"
ROOT = Path(__file__).resolve().parent


def shared(folder: str) -> list[tuple[str, list[str]]]:
    """Every file below ``folder``, to be installed under share/ with its path kept."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            relative = path.relative_to(ROOT)
            found.setdefault(f"share/{NAME}/{relative.parent.as_posix()}", []).append(relative.as_posix())
    return list(found.items())


EXTRAS = {
    "ros": ["ros-rclpy[fastrtps]", "ros-sensor-msgs", "ros-diagnostic-msgs", "ros-visualization-msgs", "ros-std-srvs"],
    "train": ["pytorch-lightning>=2.6", "torchmetrics", "tqdm", "faster-coco-eval>=1.6", "numba", "trimesh"],
    "synth": ["manifold3d", "trimesh", "numba", "coacd", "mujoco>=4.0", "tqdm"],
    "eval": ["faster-coco-eval>=1.6", "matplotlib", "scikit-image", "scikit-learn", "tqdm"],
    "camera": ["pyrealsense2>=2.58"],
    "peer": ["transformers>=5.0"],
    "test": ["hypothesis", "psutil", "pytest>=8,<8.4", "pytest-timeout", "pytest-xdist", "embreex"],
}

setup(
    name=NAME,
    version=ElementTree.parse(ROOT / "package.xml").findtext("version"),
    description="Instance segmentation for bin picking as ROS 2 nodes",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(exclude=["test", "test.*", "compat", "compat.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared("launch"),
        *shared("config"),
        *shared("models"),
        *shared("resource"),
    ],
    install_requires=["torch>=2.1", "numpy", "opencv-python-headless", "scipy", "safetensors", "pyyaml", "rosbags>=0.10"],
    extras_require=EXTRAS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "instseg = instseg_ros.cli:main",
            "segmenter = instseg_ros.nodes.executables:segmenter",
            "bag_player = instseg_ros.nodes.executables:bag_player",
            "evaluator = instseg_ros.nodes.executables:evaluator",
            "grasp_planner = instseg_ros.nodes.executables:grasp_planner",
            "camera = instseg_ros.nodes.executables:camera",
        ]
    },
)
