"""Dropping identical parts into a bin and letting them settle (MuJoCo).

Recipe of Insta-10 (InSeGAN, section 4): parts fall one after the other. Engine settings are measured ones: 250 Hz and
rolling friction (condim 6; with 4, round parts keep rolling). The walls and the floor are half-spaces, so that nothing can
pass through them however fast it moves, and a part that leans on a wall above its real height is found afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import mujoco
import numpy as np

from ..errors import InputError
from .part import Part, volume_moments

TIMESTEP = 0.004
"""Seconds."""
DENSITY = 1500.0
"""kg/m³. All parts of a scene are alike, so that their motion does not depend on it."""
FRICTION = (0.45, 0.003, 0.0006)
"""Sliding (–), torsional (m) and rolling (m) friction."""
INTERVAL = 28
"""Steps between two releases: a part falls 6 cm in that time."""
CHECK = 20
"""Steps between two looks at the velocities."""
SETTLE_LIMIT = 1500
"""Steps after the last release until a scene is given up."""
REST_SPEED = 0.002
"""m/s: fastest surface speed of any part in a settled scene, seen in two looks one after the other."""
PENETRATION_LIMIT = 1e-4
"""Metres: scenes with a deeper overlap are rejected."""
MAX_PARTS = 60
ARENA = 256 << 20
"""Bytes for contacts and the solver; pages that are not needed are never touched."""


@dataclass(frozen=True)
class Bin:
    """An open box, metres. Bin frame: origin at the centre of the floor's upper surface, z up, walls along x and y.

    Attributes:
        half_x, half_y: half of the inner size.
        wall_height: above the floor.
        wall_thickness: of the drawn walls; they lie outside of the inner size.
    """

    half_x: float
    half_y: float
    wall_height: float
    wall_thickness: float = 0.003


@dataclass(frozen=True, eq=False)
class Settled:
    """Parts at rest in a bin.

    Attributes:
        part: the part, n times.
        bin: the bin.
        poses: (n, 4, 4) float64, bin_T_part, metres, in order of release.
        penetration: deepest overlap of two collision pieces, or of one with floor or wall, metres.
        speed: fastest surface speed of a part at the end, m/s.
        steps: physics steps taken.
        seeds: what the random generator was made from (seed, scene index, attempt); empty if a generator was given.
    """

    part: Part
    bin: Bin
    poses: np.ndarray
    penetration: float
    speed: float
    steps: int
    seeds: tuple[int, ...] = field(default=())


def scene_rng(seed: int, index: int, attempt: int = 0) -> np.random.Generator:
    """The generator of one scene: any scene can be made again alone, whatever was made before it."""
    return np.random.default_rng([seed, index, attempt])


def default_bin(part: Part, n: int, rng: np.random.Generator) -> Bin:
    """A random bin in which n parts make a pile of about 1 to 2.5 layers.

    The floor's area is c n d² with d the part's diameter and c uniform in 0.35…0.95 (design.md section 6: the bin sets
    the difficulty; about 5 % of the parts are then hidden by more than 70 %); sides in the ratio 1…1.4; no side shorter
    than 1.5 d; walls as high as such a pile needs.
    """
    d = part.diameter
    density, aspect = rng.uniform(0.35, 0.95), rng.uniform(1.0, 1.4) ** 0.5
    half = 0.5 * (density * n * d * d) ** 0.5
    half_x, half_y = max(half * aspect, 0.75 * d), max(half / aspect, 0.75 * d)
    if rng.random() < 0.5:
        half_x, half_y = half_y, half_x
    return Bin(half_x, half_y, wall_height=pile_height(part, n, 4 * half_x * half_y) * rng.uniform(1.0, 1.2))


def pile_height(part: Part, n: int, floor: float) -> float:
    """Height in metres that 99 of 100 piles of n parts on a floor of so many m² do not lean above (measured)."""
    return max(1.3 * part.diameter, 1.1 * part.diameter + 2.5 * n * part.volume / floor)


def drop(part: Part, n: int, bin: Bin, rng: np.random.Generator | Sequence[int]) -> Settled | None:
    """Drop n parts one after the other and wait until they rest.

    A part is released, randomly turned, at least one diameter above everything released before it.

    Args:
        part: what to drop.
        n: how many, 1…60.
        bin: where.
        rng: generator, or the integers (seed, scene index, attempt) to make one from. The answer depends on nothing
            else and is bit-identical on every call.

    Returns:
        The settled scene, or None if the parts still move at the limit of steps, overlap by more than 0.1 mm, or one of
        them leans on a wall above the wall's height or lies outside of the bin. Callers count these and go on with the
        next attempt.

    Raises:
        InputError: n out of range, or a bin that is too narrow for the part.
    """
    if not 1 <= n <= MAX_PARTS:
        raise InputError(f"{n} parts cannot be dropped: choose 1 to {MAX_PARTS}")
    if min(bin.half_x, bin.half_y) < 0.5 * part.radius:
        raise InputError(
            f"a bin of {2e3 * bin.half_x:.0f} x {2e3 * bin.half_y:.0f} mm is too narrow for {part.name!r} "
            f"({1e3 * part.diameter:.0f} mm): make it at least {1e3 * part.diameter:.0f} mm wide"
        )
    seeds = () if isinstance(rng, np.random.Generator) else tuple(int(s) for s in rng)
    if seeds:
        rng = np.random.default_rng(seeds)
    model, data = _scene(part, n)
    _place_walls(model, bin)
    with _quiet():
        steps = _release(model, data, part, n, bin, rng)
        settled = _settle(model, data, part, n)
    if settled is None:
        return None
    speed, more = settled
    poses, penetration = _poses(data, n), _penetration(data)
    if penetration > PENETRATION_LIMIT or _leans_above(data, bin) or not _inside(poses, bin):
        return None
    return Settled(part, bin, poses, penetration, speed, steps + more, seeds)


def go_on(settled: Settled, keep: np.ndarray, looks: int, interval: int) -> list[Settled]:
    """Take parts out of a pile and watch the others settle anew.

    Args:
        settled: the pile; a part that is taken away is gone at once.
        keep: (n,) bool, the parts that stay, in the same order; at least one.
        looks: how many looks to take.
        interval: steps before each.

    Returns:
        the pile at each look, ``steps`` counted from the start.
    """
    n = int(keep.sum())
    model, data = _scene(settled.part, n)
    _place_walls(model, settled.bin)
    mujoco.mj_resetData(model, data)
    model.body_gravcomp[1:] = 0.0
    position, velocity = data.qpos.reshape(n, 7), data.qvel.reshape(n, 6)
    position[:, :3] = settled.poses[keep, :3, 3]
    for row, pose in zip(position, settled.poses[keep]):
        mujoco.mju_mat2Quat(row[3:], pose[:3, :3].ravel())
    seen = []
    with _quiet():
        for look in range(1, looks + 1):
            mujoco.mj_step(model, data, interval)
            mujoco.mj_forward(model, data)
            speed = float(_speeds(velocity, settled.part).max())
            seen.append(Settled(settled.part, settled.bin, _poses(data, n), _penetration(data), speed, look * interval))
    return seen


@lru_cache(maxsize=8)
def _scene(part: Part, n: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """Model of n free parts above a floor and four walls; the walls are put in place later."""
    spec = mujoco.MjSpec()
    option = spec.option
    option.timestep = TIMESTEP
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC  # settles in half the steps of the pyramidal one
    option.iterations, option.ls_iterations, option.tolerance = 50, 20, 1e-8
    option.disableflags = mujoco.mjtDisableBit.mjDSBL_AUTORESET  # an unstable scene shall be seen, not restarted
    spec.memory = ARENA
    for axis in ((0, 0, 1), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)):
        geom = spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], zaxis=axis)
        _surface(geom)
    for i, hull in enumerate(part.hulls):
        mesh = spec.add_mesh(name=f"piece{i}", uservert=hull.ravel().tolist())
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
    volume, com, covariance = volume_moments(part.vertices, part.faces)
    inertia = DENSITY * volume * (np.trace(covariance) * np.eye(3) - covariance)
    for k in range(n):
        body = spec.worldbody.add_body(name=f"part{k}", gravcomp=1.0)
        body.add_freejoint()
        body.explicitinertial = True
        body.mass, body.ipos = DENSITY * volume, com
        body.fullinertia = [*np.diag(inertia), inertia[0, 1], inertia[0, 2], inertia[1, 2]]
        for i in range(len(part.hulls)):
            _surface(body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=f"piece{i}"))
    model = spec.compile()
    return model, mujoco.MjData(model)


def _surface(geom: mujoco.MjsGeom) -> None:
    geom.condim = 6
    geom.friction = FRICTION
    geom.solref = [2.5 * TIMESTEP, 1.0]
    geom.solimp = [0.99, 0.999, 0.0001, 0.5, 2]  # nearly hard: penetration stays under 0.05 mm, and piles settle sooner


def _place_walls(model: mujoco.MjModel, bin: Bin) -> None:
    model.geom_pos[1:5] = [[-bin.half_x, 0, 0], [bin.half_x, 0, 0], [0, -bin.half_y, 0], [0, bin.half_y, 0]]


def _release(
    model: mujoco.MjModel, data: mujoco.MjData, part: Part, n: int, bin: Bin, rng: np.random.Generator
) -> int:
    """Release all parts, one after the other; parts that wait hang far above, weightless."""
    mujoco.mj_resetData(model, data)
    model.body_gravcomp[1:] = 1.0
    rotation = rng.normal(size=(n, 4))
    rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)  # uniform on the sphere of unit quaternions
    room = np.maximum([bin.half_x - part.radius, bin.half_y - part.radius], 0.0)
    xy, spin = rng.uniform(-1, 1, (n, 2)) * room, rng.normal(size=(n, 3))
    position, velocity = data.qpos.reshape(n, 7), data.qvel.reshape(n, 6)
    gap = max(part.diameter, 2 * part.radius) * 1.01
    position[:, :2], position[:, 3:] = xy, rotation
    position[:, 2] = 100 + 2 * gap * np.arange(n)
    for k in range(n):
        position[k, 2] = max(position[:k, 2].max() + gap if k else 0.0, 1.01 * part.radius)
        velocity[k, 2], velocity[k, 3:] = -0.3, spin[k]
        model.body_gravcomp[1 + k] = 0.0
        mujoco.mj_step(model, data, INTERVAL)
    return n * INTERVAL


def _settle(model: mujoco.MjModel, data: mujoco.MjData, part: Part, n: int) -> tuple[float, int] | None:
    """Step until two looks in a row see no part move; (speed, steps), or None at the limit."""
    velocity, still = data.qvel.reshape(n, 6), 0
    for steps in range(CHECK, SETTLE_LIMIT + 1, CHECK):
        mujoco.mj_step(model, data, CHECK)
        fastest = float(_speeds(velocity, part).max())
        if not np.isfinite(fastest) or data.warning.number.any():
            return None
        still = still + 1 if fastest < REST_SPEED else 0
        if still == 2:
            mujoco.mj_forward(model, data)
            return fastest, steps
    return None


def _speeds(velocity: np.ndarray, part: Part) -> np.ndarray:
    """(n,) m/s: fastest speed of any point of each part, from velocities (n, 6)."""
    return np.linalg.norm(velocity[:, :3], axis=1) + part.radius * np.linalg.norm(velocity[:, 3:], axis=1)


def _poses(data: mujoco.MjData, n: int) -> np.ndarray:
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, :3] = data.xmat[1:].reshape(n, 3, 3)
    poses[:, :3, 3] = data.xpos[1:]
    return poses


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the engine from printing warnings and from leaving MUJOCO_LOG.TXT behind; their counters are looked at."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _penetration(data: mujoco.MjData) -> float:
    return float(max(0.0, -data.contact.dist.min())) if data.ncon else 0.0


def _leans_above(data: mujoco.MjData, bin: Bin) -> bool:
    """Whether a part touches a wall above the wall's height."""
    wall = np.isin(data.contact.geom[:, 0], (1, 2, 3, 4))
    return bool((data.contact.pos[wall, 2] > bin.wall_height).any())


def _inside(poses: np.ndarray, bin: Bin) -> bool:
    centre = poses[:, :3, 3]
    return bool((np.abs(centre[:, :2]) < (bin.half_x, bin.half_y)).all() and (centre[:, 2] > 0).all())
