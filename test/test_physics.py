"""Physics: parts rest inside of the bin, do not overlap, and a scene can be made again alone, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")
manifold3d = pytest.importorskip("manifold3d")

from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.geometry import transform  # noqa: E402
from instseg_ros.synthesis import physics  # noqa: E402
from instseg_ros.synthesis.parts import PARTS, load_part  # noqa: E402
from instseg_ros.synthesis.physics import Bin, Settled, default_bin, drop, pile_height, scene_rng  # noqa: E402

MM = 1e-3
SCENES = 20
"""A part: 200 scenes over all."""


@pytest.fixture(scope="module")
def scenes() -> list[Settled | None]:
    found = []
    for name in PARTS:
        part = load_part(name)
        for index in range(SCENES):
            n = 2 + index % 3
            found.append(drop(part, n, default_bin(part, n, scene_rng(5, index)), (5, index, 0)))
    return found


@pytest.fixture(scope="module")
def accepted(scenes: list[Settled | None]) -> list[Settled]:
    return [scene for scene in scenes if scene is not None]


def solid(scene: Settled, k: int) -> manifold3d.Manifold:
    """Part k of a scene in millimetres, bin frame."""
    vertices = transform(scene.poses[k], scene.part.vertices) / MM
    return manifold3d.Manifold(manifold3d.Mesh64(vertices, scene.part.faces.astype(np.uint64)))


def test_nearly_all_scenes_are_accepted(scenes: list[Settled | None], accepted: list[Settled]) -> None:
    assert len(scenes) == 200
    assert len(accepted) >= 0.98 * len(scenes)


def test_poses_are_rigid_and_inside_of_the_bin(accepted: list[Settled]) -> None:
    for scene in accepted:
        rotation = scene.poses[:, :3, :3]
        assert scene.poses.dtype == np.float64
        assert np.allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3), atol=1e-9)
        assert np.allclose(np.linalg.det(rotation), 1)
        for pose in scene.poses:
            points = transform(pose, scene.part.vertices)
            assert points[:, 2].min() > -0.15 * MM
            assert (np.abs(points[:, :2]).max(0) < np.array([scene.bin.half_x, scene.bin.half_y]) + 0.15 * MM).all()


def test_energy_is_gone(accepted: list[Settled]) -> None:
    """Kinetic energy a kilogramme, bounded by the fastest surface speed: under 2 µJ, a fall of 0.2 µm."""
    assert max(0.5 * scene.speed**2 for scene in accepted) <= 2e-6


def test_reported_penetration_is_small(accepted: list[Settled]) -> None:
    penetration = np.array([scene.penetration for scene in accepted])
    assert penetration.max() < 0.1 * MM and np.median(penetration) < 0.03 * MM


def test_exact_surfaces_hardly_overlap(accepted: list[Settled]) -> None:
    """Independent of the engine: thickness of what the solids themselves share, 2 volume / surface."""
    for scene in accepted[::8]:
        solids = [solid(scene, k) for k in range(len(scene.poses))]
        for i, one in enumerate(solids):
            for other in solids[:i]:
                shared = one ^ other
                if shared.volume() > 1e-3:
                    assert 2 * shared.volume() / shared.surface_area() < 0.1


def test_parts_stay_where_they_are(accepted: list[Settled]) -> None:
    """Half a second later, started from the written poses alone, nothing has moved or fallen."""
    for scene in accepted[::10]:
        n = len(scene.poses)
        model, data = physics._scene(scene.part, n)
        physics._place_walls(model, scene.bin)
        mujoco.mj_resetData(model, data)
        model.body_gravcomp[1:] = 0.0
        state = data.qpos.reshape(n, 7)
        state[:, :3] = scene.poses[:, :3, 3]
        for k in range(n):
            mujoco.mju_mat2Quat(state[k, 3:], scene.poses[k, :3, :3].ravel())
        mujoco.mj_step(model, data, 125)
        assert np.linalg.norm(data.xpos[1:] - scene.poses[:, :3, 3], axis=1).max() < 0.5 * MM


def test_same_seeds_same_bits_whatever_came_before() -> None:
    part, other = load_part("plug5"), load_part("nut")
    bin = default_bin(part, 4, scene_rng(1, 2))
    first = drop(part, 4, bin, (1, 2, 0))
    drop(part, 4, Bin(0.2, 0.2, 0.1), (9, 9, 9))
    drop(other, 4, Bin(0.1, 0.1, 0.1), (1, 2, 0))
    again = drop(part, 4, bin, np.random.default_rng([1, 2, 0]))
    physics._scene.cache_clear()
    fresh = drop(part, 4, bin, (1, 2, 0))
    assert first.poses.tobytes() == again.poses.tobytes() == fresh.poses.tobytes()
    assert first.seeds == (1, 2, 0) and again.seeds == ()
    assert drop(part, 4, bin, (1, 2, 1)).poses.tobytes() != first.poses.tobytes()


def test_same_bits_in_another_process() -> None:
    code = (
        "from instseg_ros.synthesis.parts import load_part; from instseg_ros.synthesis.physics import *; import hashlib;"
        "p = load_part('obj14'); s = drop(p, 3, default_bin(p, 3, scene_rng(4, 0)), (4, 0, 0));"
        "print(hashlib.sha256(s.poses.tobytes()).hexdigest())"
    )
    root = Path(__file__).resolve().parents[1]
    runs = {subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1


def test_one_part_lies_on_the_floor() -> None:
    scene = drop(load_part("cylinder"), 1, Bin(0.1, 0.1, 0.05), (0, 0, 0))
    lowest = transform(scene.poses[0], scene.part.vertices)[:, 2].min()
    assert abs(lowest) < 0.05 * MM
    assert min(abs(scene.poses[0, 2, 3] - height * MM) for height in (15, 21)) < 0.2 * MM  # lying or upright


def test_scenes_that_do_not_settle_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physics, "SETTLE_LIMIT", physics.CHECK)
    assert drop(load_part("cone"), 3, Bin(0.08, 0.08, 0.1), (0, 0, 0)) is None


def test_scenes_that_lean_above_the_wall_are_rejected() -> None:
    part, narrow = load_part("cone"), 0.045
    tall = [drop(part, 5, Bin(narrow, narrow, 1.0), (0, k, 0)) for k in range(4)]
    low = [drop(part, 5, Bin(narrow, narrow, 0.002), (0, k, 0)) for k in range(4)]
    assert all(scene is not None for scene in tall)
    assert sum(scene is None for scene in low) >= 3  # in one, no part happens to touch a wall


def test_unstable_scenes_are_rejected_and_leave_no_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = physics._release

    def explode(model: mujoco.MjModel, data: mujoco.MjData, *rest: object) -> int:
        steps = release(model, data, *rest)
        data.qvel[0] = np.nan
        return steps

    monkeypatch.setattr(physics, "_release", explode)
    monkeypatch.chdir(tmp_path)
    assert drop(load_part("cone"), 2, Bin(0.1, 0.1, 0.1), (0, 0, 0)) is None
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert drop(load_part("cone"), 2, Bin(0.1, 0.1, 0.1), (0, 0, 0)) is not None


@pytest.mark.parametrize("n", [0, -1, 61])
def test_number_of_parts_is_checked(n: int) -> None:
    with pytest.raises(InputError, match=f"{n} parts cannot be dropped: choose 1 to 60"):
        drop(load_part("nut"), n, Bin(0.1, 0.1, 0.1), (0,))


def test_bin_must_take_the_part() -> None:
    with pytest.raises(InputError, match="20 x 20 mm is too narrow for 'bolt'"):
        drop(load_part("bolt"), 1, Bin(0.01, 0.01, 0.1), (0,))


def test_default_bin_fits_the_pile() -> None:
    rng = np.random.default_rng(0)
    for name in PARTS:
        part = load_part(name)
        for n in (1, 5, 30):
            bin = default_bin(part, n, rng)
            d, floor = part.diameter, 4 * bin.half_x * bin.half_y
            assert min(bin.half_x, bin.half_y) >= 0.75 * d
            assert 1 <= max(bin.half_x, bin.half_y) / min(bin.half_x, bin.half_y) <= 1.4 + 1e-9
            assert floor >= 0.35 * n * d * d * (1 - 1e-9)
            assert pile_height(part, n, floor) <= bin.wall_height <= 1.2 * pile_height(part, n, floor)
            assert bin.wall_height > n * part.volume / floor
