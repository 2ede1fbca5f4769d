"""What is installed: every subpackage, every shipped file, one version, and every command that is promised."""

import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

import instseg_ros
from instseg_ros.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> dict[str, str]:
    """Names of the files in a wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("instseg_ros", "config", "launch"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("package.xml", "setup.py", "setup.cfg", "pyproject.toml", "resource/instseg_ros"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        return {name: archive.read(name).decode(errors="replace") for name in archive.namelist()}


def test_wheel_holds_every_module_and_shared_file(wheel):
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "instseg_ros").rglob("*.py")}
    assert modules - wheel.keys() == set()
    shared = {name.split(".data/data/")[1] for name in wheel if ".data/data/" in name}
    for name in ("config/bin_picking.yaml", "config/fastdds_shm.xml", "launch/bin_picking.launch.py", "config/train/clusternet_compact.yaml"):
        assert f"share/instseg_ros/{name}" in shared
    assert "share/ament_index/resource_index/packages/instseg_ros" in shared
    assert not any(name.startswith(("test", "compat")) for name in wheel)


def test_one_version(wheel):
    version = ElementTree.parse(ROOT / "package.xml").findtext("version")
    assert instseg_ros.__version__ == version
    metadata = next(text for name, text in wheel.items() if name.endswith("METADATA"))
    assert f"\nVersion: {version}\n" in metadata


def test_entry_points_exist(wheel):
    text = next(text for name, text in wheel.items() if name.endswith("entry_points.txt"))
    found = dict(re.findall(r"^(\w+) = ([\w.:]+)$", text, re.M))
    assert found.keys() >= {"instseg", "segmenter", "bag_player", "evaluator"}
    for target in found.values():
        module, name = target.split(":")
        if ".nodes." in module:
            pytest.importorskip("rclpy")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "-h"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "example:" in text and f"instseg {command}" in text


def test_requirements_never_pull_another_torch():
    lines = [line for file in (ROOT / "requirements").glob("*.txt") for line in file.read_text().splitlines() if line and line[0] != "#"]
    assert "torch==2.13.0" in lines
    assert not any(re.match(r"(torchvision|timm|segmentation-models)", line) for line in lines)
    assert all("==" in line or line == "setuptools<80" for line in lines)
