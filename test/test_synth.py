"""``instseg synth``: complete, repeatable, resumable data, and one clear line for what cannot be made."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest

for package in ("mujoco", "manifold3d", "numba", "tqdm"):
    pytest.importorskip(package)

from instseg_ros.bop import BopDataset  # noqa: E402
from instseg_ros.cli import main  # noqa: E402
from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.geometry import deproject  # noqa: E402
from instseg_ros.synthesis import bins, runner  # noqa: E402
from instseg_ros.synthesis.bins import BinsRecipe  # noqa: E402
from instseg_ros.synthesis.runner import generate  # noqa: E402

SMALL = BinsRecipe(parts=("nut", "cone"), scenes=5, instances=(2, 4), camera="insta10", seed=3)


@pytest.fixture(autouse=True)
def two_piles_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "PILES_PER_FOLDER", 2)


def digest(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_set_is_complete_and_consistent(tmp_path: Path) -> None:
    config = replace(SMALL, views=2, noise="none", camera="d435", scenes=3)
    summary = generate(config, tmp_path / "set")
    assert summary["images"] == 6 and summary["complete"]
    assert json.loads((tmp_path / "set/dataset_train.json").read_text()) == summary
    data = BopDataset(tmp_path / "set")
    assert len(data) == 6 and {data.truth(i).part[0] for i in range(6)} == {"nut", "cone"}
    assert [data.truth(i).part[0] for i in range(0, 6, 2)] == ["nut", "cone", "nut"]
    for i in range(6):
        frame, truth = data.frame(i), data.truth(i, amodal=True, layers=True)
        n = len(truth)
        assert 2 <= n <= 4 and frame.color.shape == (480, 640, 3) and np.isfinite(frame.depth).all()
        assert np.array_equal(truth.layers[0], truth.labels)
        assert all((truth.masks[k] | (truth.labels != k + 1)).all() for k in range(n)), "visible lies inside amodal"
        points = deproject(frame.depth, frame.K)
        for k in range(n):  # visible points lie on the part: within its radius of the centroid
            mine = points[truth.labels == k + 1]
            if len(mine):
                radius = 3 * np.sqrt(np.trace(truth.covariance[k]))
                assert (np.linalg.norm(mine - truth.centroid[k], axis=1) < radius).all()
    # Both views show the same pile: the parts keep their distances.
    a, b = data.truth(0).centroid, data.truth(1).centroid
    assert np.allclose(np.linalg.norm(a[0] - a, axis=1), np.linalg.norm(b[0] - b, axis=1), atol=1e-9)
    assert not np.allclose(a, b)


def test_one_pile_can_be_made_again_alone(tmp_path: Path) -> None:
    config = SMALL
    generate(config, tmp_path / "set")
    data = BopDataset(tmp_path / "set")
    record = config.look(config.settle(3)[0], 3, 0)
    i = data.keys.index((1, 1))
    assert np.array_equal(data.truth(i).labels, record.layers[0]) and np.array_equal(data.frame(i).color, record.color)


def test_splits_and_seeds_differ(tmp_path: Path) -> None:
    config = replace(SMALL, scenes=1)
    images = []
    for number, other in enumerate((config, replace(config, split="val"), replace(config, seed=4))):
        generate(other, tmp_path / str(number))
        images.append(BopDataset(tmp_path / str(number)).frame(0).depth)
    assert not any(np.array_equal(images[0], image, equal_nan=True) for image in images[1:])


def test_run_again_continues_and_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SMALL
    generate(config, tmp_path / "whole")

    real, made = runner._write, []

    def stop_after_one(job: tuple) -> int:
        if made:
            raise KeyboardInterrupt
        made.append(job)
        return real(job)

    monkeypatch.setattr(runner, "_write", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        generate(config, tmp_path / "parts")
    assert not json.loads((tmp_path / "parts/dataset_train.json").read_text())["complete"]
    (tmp_path / "parts/train/.000001.999.part/depth").mkdir(parents=True)  # as a killed run leaves it
    monkeypatch.setattr(runner, "_write", real)
    counts: list[int] = []
    generate(config, tmp_path / "parts", progress=counts.append)
    assert counts == [2, 2, 1], "the finished folder is counted first, and not made again"
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_other_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    config = replace(SMALL, scenes=1)
    generate(config, tmp_path / "set")
    before = digest(tmp_path / "set")
    with pytest.raises(InputError, match="another seed: choose another --out"):
        generate(replace(config, seed=9), tmp_path / "set")
    assert digest(tmp_path / "set") == before
    generate(replace(config, split="val", seed=9), tmp_path / "set")  # another split is welcome
    assert len(BopDataset(tmp_path / "set", "val")) == 1
    (tmp_path / "foreign/train").mkdir(parents=True)
    with pytest.raises(InputError, match="was not made by this command"):
        generate(config, tmp_path / "foreign")


def command(out: Path, workers: int) -> list[str]:
    return [
        sys.executable, "-m", "instseg_ros", "synth", "bins", "--part", "cone", "--scenes", "42", "--instances", "2",
        "--camera", "insta10", "--seed", "1", "--workers", str(workers), "--out", str(out),
    ]  # fmt: skip


def test_bytes_do_not_depend_on_workers_nor_on_a_kill(tmp_path: Path) -> None:
    """Three folders by one process; by two, all killed with SIGKILL when the first folder is there, and continued."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command(tmp_path / "one", 1), check=True, **quiet)
    process = subprocess.Popen(command(tmp_path / "two", 2), start_new_session=True, **quiet)
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "two/train").glob("0*")) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finished = list((tmp_path / "two/train").glob("0*"))
    assert 1 <= len(finished) < 3, "the kill came too late to test anything"
    subprocess.run(command(tmp_path / "two", 2), check=True, **quiet)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "gear"], "unknown part 'gear'"),
        (["--part", "nut", "--scenes", "0"], "--scenes must be positive"),
        (["--part", "nut", "--instances", "0"], "--instances must lie in 1…30"),
        (["--part", "nut", "--instances", "5-2"], "--instances must lie in 1…30"),
        (["--part", "nut", "--instances", "many"], "--instances must be a number or LOW-HIGH"),
        (["--part", "nut", "--camera", "zed"], "unknown camera 'zed'"),
        (["--part", "nut", "--noise", "x"], "unknown noise 'x'"),
        (["--part", "nut", "--split", "x"], "unknown split 'x'"),
        (["--part", "nut", "--seed", "-1"], "--seed must not be negative"),
        (["--part", "nut", "--bin", "5"], "--bin must be two half sides"),
        (["--part", "nut", "--bin", "0,1"], "--bin must be positive"),
        (["--part", "nut", "--bin", "0.001,0.001"], "too narrow"),
        (["--mesh", "no.stl"], "needs its unit"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str) -> None:
    scenes = [] if "--scenes" in arguments else ["--scenes", "1"]
    assert main(["synth", "bins", *arguments, *scenes, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("instseg synth: ") and message in error


Usage = namedtuple("Usage", "total used free")


def test_small_disk_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda path: Usage(1, 1, 10_000))
    with pytest.raises(InputError, match="needs about .* MB but has 0.0 MB free"):
        generate(SMALL, tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 0.4 MB that calls itself large enough."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 1 << 40))
        yield folder
    subprocess.run(["umount", str(folder)], check=True)


KINDS = {
    "bins": ["bins", "--part", "cone", "--scenes", "42", "--instances", "2", "--camera", "insta10"],
    "shapes": ["shapes", "--scenes", "300", "--instances", "1"],
    "voxels": ["voxels", "--scenes", "300"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_full_disk_is_one_line_and_leaves_whole_scenes_only(small_disk: Path, capsys: pytest.CaptureFixture, kind: str) -> None:
    assert main(["synth", *KINDS[kind], "--out", str(small_disk / "set")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("instseg synth: cannot write") and "No space left on device" in error
    assert not list(small_disk.rglob(".*")) and not list(small_disk.rglob("*.part"))
    assert not json.loads((small_disk / "set/dataset_train.json").read_text())["complete"]
    for path in small_disk.rglob("*.json"):
        json.loads(path.read_text())
    assert all(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None for path in small_disk.rglob("*.png"))


def test_run_goes_on_when_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full from the thirtieth file on, and later is not."""
    generate(SMALL, tmp_path / "whole")
    write_bytes, files = Path.write_bytes, count(1)

    def full(self: Path, data: bytes) -> int:
        if next(files) >= 30:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return write_bytes(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match="cannot write .*No space left on device; choose a folder with space"):
            generate(SMALL, tmp_path / "set")
    assert not list((tmp_path / "set/train").glob(".*"))
    generate(SMALL, tmp_path / "set")
    assert digest(tmp_path / "set") == digest(tmp_path / "whole")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["file/set", "/proc/instseg-set"])
def test_folders_that_cannot_be_written_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, kind: str, place: str
) -> None:
    """Not even root may write below a file or in /proc."""
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main(["synth", *KINDS[kind], "--out", place]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("instseg synth: ") and place in error and "Traceback" not in error


def test_leftover_that_cannot_be_deleted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(replace(SMALL, scenes=1), tmp_path / "set")
    (tmp_path / "set/train/.000001.999.part").mkdir()

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(runner.shutil, "rmtree", refuse)
    with pytest.raises(InputError, match="cannot delete .*999.part.*: Operation not permitted"):
        generate(replace(SMALL, scenes=1), tmp_path / "set")


def test_command_line_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "set"
    arguments = ["synth", "bins", "--part", "nut,bolt", "--scenes", "2", "--instances", "3", "--camera", "insta10", "--bin", "0.06,0.05"]
    assert main([*arguments, "--out", str(out), "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["images"] == 2
    assert BopDataset(out).part_names == {1: "nut", 4: "bolt"}


def test_bag_holds_the_same_images(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("rosbags")
    from instseg_ros.bags import BagFrames

    arguments = ["synth", "bins", "--part", "cone", "--scenes", "2", "--instances", "3", "--camera", "insta10"]
    arguments += ["--out", str(tmp_path / "set"), "--bag", str(tmp_path / "bag")]
    assert main(arguments) == 0
    data, bag = BopDataset(tmp_path / "set"), list(BagFrames(tmp_path / "bag"))
    assert len(bag) == len(data) == 2
    for i, (frame, truth) in enumerate(bag):
        wrote = data.truth(i, layers=True)
        assert np.array_equal(frame.color, data.frame(i).color) and np.allclose(frame.K, data.frame(i).K)
        assert np.nanmax(np.abs(frame.depth - data.frame(i).depth)) <= 0.00051
        assert np.array_equal(truth.labels, wrote.labels) and truth.part == wrote.part
        assert np.allclose(truth.centroid, wrote.centroid, atol=1e-6)
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*arguments[:-1], str(tmp_path / "blind"), "--no-truth"]) == 0
    assert all(truth is None for _, truth in BagFrames(tmp_path / "blind"))


def test_own_mesh(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    trimesh = pytest.importorskip("trimesh")
    trimesh.creation.box((30, 20, 10)).export(tmp_path / "my brick.stl")
    arguments = ["synth", "bins", "--mesh", str(tmp_path / "my brick.stl"), "--units", "mm", "--scenes", "2", "--camera", "insta10"]
    assert main([*arguments, "--out", str(tmp_path / "set"), "--workers", "2"]) == 0
    data = BopDataset(tmp_path / "set")
    truth = data.truth(0)
    assert len(set(truth.part)) == 1 and "brick" in truth.part[0]
    # Surface moments of a cuboid, from its six faces: x² over the faces normal to x, y and z.
    a, b, c = 0.015, 0.010, 0.005
    area = np.array([b * c, a * c, a * b])
    second = [(area[k] * e * e + (area.sum() - area[k]) * e * e / 3) / area.sum() for k, e in enumerate((a, b, c))]
    assert np.allclose(np.sort(np.linalg.eigvalsh(truth.covariance[0])), np.sort(second), rtol=1e-6)
    assert str(tmp_path) not in (tmp_path / "set/dataset_train.json").read_text()
    assert main([*arguments[:3], str(tmp_path / "none.stl"), *arguments[4:], "--out", str(tmp_path / "o")]) == 2
    assert "none.stl" in capsys.readouterr().err
    assert main(["synth", "bins", "--part", "nut", "--scenes", "1", "--split", "val", "--out", str(tmp_path / "set")]) == 2
    assert "another part" in capsys.readouterr().err
