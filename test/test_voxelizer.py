"""Voxels of analytic scenes: a plane and a box, seen from anywhere, at any voxel size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.methods.mtml.grid import Grid, standing_grid
from instseg_ros.methods.mtml.voxel_features import flipped_distance, normals, voxel_features
from instseg_ros.methods.mtml.voxelizer import Cloud, frame_cloud, join, to_image, voxelize

K = np.array([[200.0, 0, 79.5], [0, 200.0, 59.5], [0, 0, 1]])
SHAPE = (120, 160)
BOX = np.array([[-0.05, -0.04, 0.0], [0.06, 0.03, 0.05]])
"""Lowest and highest corner, m, on the floor z = 0."""


def camera(tilt: float, turn: float, distance: float = 0.6) -> np.ndarray:
    """scene_T_camera that looks at the origin of the scene, z up."""
    back = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    z = -back
    x = np.array([-np.sin(turn), np.cos(turn), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    pose[:3, 3] = distance * back
    return pose


def view(pose: np.ndarray, *, box: bool = True) -> tuple[Frame, np.ndarray]:
    """Exact depth of the floor (and of the box on it), and what each pixel sees: 0 floor, 1…6 = −x +x −y +y −z +z of the box."""
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ray = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(SHAPE)], -1) @ pose[:3, :3].T
    eye = pose[:3, 3]
    with np.errstate(divide="ignore"):
        depth = -eye[2] / ray[..., 2]
        near, far = (BOX[0] - eye) / ray, (BOX[1] - eye) / ray
    enter, leave = np.minimum(near, far), np.maximum(near, far)
    hit = box & (enter.max(-1) < leave.min(-1)) & (enter.max(-1) > 0)
    axis = enter.argmax(-1)
    side = 1 + 2 * axis + (np.take_along_axis(ray, axis[..., None], -1)[..., 0] < 0)
    return Frame(np.where(hit, enter.max(-1), depth).astype(np.float32), K), np.where(hit, side, 0)


def floor_in(pose: np.ndarray) -> np.ndarray:
    """The floor z = 0 as (4,) in the frame of a camera."""
    return np.append(pose[2, :3], pose[2, 3])


def random_pose(rng: np.random.Generator) -> np.ndarray:
    """(4, 4), any rotation, about a metre away."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.random(random_state=rng.integers(2**31)).as_matrix(), rng.normal(size=3)
    return pose


angles = {"tilt": st.floats(0, 0.6), "turn": st.floats(-3, 3)}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.2))
def test_centres_of_voxels_come_back(seed, voxel):
    rng = np.random.default_rng(seed)
    grid = Grid(random_pose(rng), (5, 7, 3), voxel)
    voxels = np.stack(np.unravel_index(rng.permutation(105)[:40], grid.size), 1)
    points = grid.centres(voxels)
    np.testing.assert_allclose(np.linalg.norm(points[0] - points[1]), voxel * np.linalg.norm(voxels[0] - voxels[1]), rtol=1e-9)
    index, inside = grid.index(points)
    assert inside.all()
    np.testing.assert_array_equal(index, voxels)
    outside = grid.centres(np.array([[-1, 0, 0], [5, 0, 0], [0, 7, 0], [0, 0, 3]]))
    found = voxelize(np.concatenate([points, points[:3], outside, [[np.nan] * 3]]), grid)
    np.testing.assert_array_equal(found.voxels, voxels[np.lexsort(voxels.T[::-1])])
    np.testing.assert_array_equal(found.voxels[found.row[:40]], voxels)
    assert found.count.sum() == 43 and (found.row[43:] == -1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_a_window_is_a_part_of_its_grid(seed, side):
    rng = np.random.default_rng(seed)
    grid = Grid(random_pose(rng), (9, 7, 3), 0.01)
    window = grid.window(rng.uniform(-3, 12, 2), side)
    assert window.size == (min(side, 9), min(side, 7), 3)
    corner = grid.place(window.centres(np.zeros(3))) - 0.5
    np.testing.assert_allclose(corner, corner.round(), atol=1e-9)
    assert (corner > -0.5).all() and (corner.round() + window.size <= grid.size).all() and round(corner[2]) == 0
    points = grid.centres(rng.uniform(-1, 9, (50, 3)))
    np.testing.assert_allclose(window.place(points), grid.place(points) - corner, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(**angles, voxel=st.floats(0.004, 0.012), yaw=st.floats(-3, 3), shift=st.floats(0, 1))
def test_floor_and_box_lie_where_they_are(tilt, turn, voxel, yaw, shift):
    pose = camera(tilt, turn)
    frame, side = view(pose)
    cloud = frame_cloud(frame)
    grid = standing_grid(
        cloud.points, floor_in(pose), voxel=voxel, heights=(-2.5 * voxel, 0.1), extent=10, yaw=yaw, offset=(shift, shift / 2)
    )
    place = grid.place(cloud.points) * voxel - [0, 0, 2.5 * voxel]
    side = side.ravel()
    np.testing.assert_allclose(place[side == 0, 2], 0, atol=1e-6)
    np.testing.assert_allclose(place[side == 6, 2], 0.05, atol=1e-6)
    # Distances between points of the box are those of the scene.
    world = frame_cloud(frame, pose).points
    np.testing.assert_allclose(world[side == 6, 2], 0.05, atol=1e-6)
    some = np.flatnonzero(side > 0)[::97]
    np.testing.assert_allclose(np.linalg.norm(place[some] - place[some[0]], axis=1), np.linalg.norm(world[some] - world[some[0]], axis=1), atol=1e-6)
    occupied = voxelize(cloud.points, grid)
    assert (occupied.row >= 0).all()
    assert (occupied.voxels[occupied.row[side == 0], 2] == 2).all()  # in the middle of the third layer


@settings(max_examples=15, deadline=None)
@given(**angles, voxel=st.floats(0.005, 0.01))
def test_normals_and_heights_are_those_of_the_planes(tilt, turn, voxel):
    pose = camera(tilt, turn)
    frame, side = view(pose)
    cloud = frame_cloud(frame, pose)
    grid = standing_grid(cloud.points, np.array([0, 0, 1.0, 0]), voxel=voxel, heights=(-2.5 * voxel, 0.1), extent=10)
    occupied = voxelize(cloud.points, grid)
    near = voxel_features(["height", "normals"], cloud, occupied, [(frame, pose)], truncation=3, floor=2.5 * voxel)
    height, found = near[(0, *occupied.voxels.T)], near[(slice(1, None), *occupied.voxels.T)].T
    np.testing.assert_array_equal(found, normals(cloud, occupied))
    axes = grid.pose[:3, :3]
    centre = grid.centres(occupied.voxels)
    # Away from edges by more than two voxels only one plane is near.
    far_from_box = ((centre < BOX[0] - 3 * voxel) | (centre > BOX[1] + 3 * voxel)).any(1)
    middle_of_top = ((centre > BOX[0] + 3 * voxel) & (centre < BOX[1] - 3 * voxel))[:, :2].all(1)
    assert far_from_box.sum() > 100 and middle_of_top.sum() >= 1
    upwards = np.tile(axes @ [0, 0, 1.0], (len(found), 1))
    for where, level in ((far_from_box, 0.0), (middle_of_top & (centre[:, 2] > 0.025), 0.5)):
        np.testing.assert_allclose(found[where], upwards[where], atol=1e-3)
        np.testing.assert_allclose(height[where], level, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(**angles, voxel=st.floats(0.003, 0.02), seed=st.integers(0, 2**32 - 1))
def test_labels_of_voxels_return_to_every_pixel(tilt, turn, voxel, seed):
    rng = np.random.default_rng(seed)
    pose = camera(tilt, turn)
    frame = view(pose)[0]
    depth = frame.depth.copy()
    depth[rng.random(SHAPE) < 0.05] = np.nan
    frame = Frame(depth, K)
    cloud = frame_cloud(frame)
    known = cloud.points[np.isfinite(depth.ravel())]
    grid = standing_grid(known, floor_in(pose), voxel=voxel, heights=(-0.02, 0.1), extent=0.3)
    occupied = voxelize(cloud.points, grid)
    labels = rng.integers(1, 1000, len(occupied.voxels))
    of_points = occupied.to_points(labels)
    image = to_image(of_points, frame)
    index, inside = grid.index(cloud.points)
    assert (image.ravel()[~inside] == 0).all()
    lookup = np.zeros(grid.size, int)
    lookup[tuple(occupied.voxels.T)] = labels
    np.testing.assert_array_equal(image.ravel()[inside], lookup[tuple(index[inside].T)])
    np.testing.assert_array_equal(occupied.majority(of_points, 1000), labels)
    filled = to_image(of_points, frame, fill=3)
    np.testing.assert_array_equal(filled[np.isfinite(depth)], image[np.isfinite(depth)])
    missing = np.argwhere(np.isnan(depth))
    for v, u in missing[rng.permutation(len(missing))[:20]]:
        around = image[max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2][np.isfinite(depth[max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2])]
        assert not len(around) or filled[v, u] in around


def test_a_hole_wider_than_the_filling_stays():
    depth = np.full(SHAPE, 0.6, np.float32)
    depth[20:40, 20:60] = np.nan
    image = to_image(np.where(np.isfinite(depth), 5, 0).ravel(), Frame(depth, K), fill=4)
    assert (image[20:24, 30] == 5).all() and (image[24:36, 24:56] == 0).all()


@settings(max_examples=10, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 0.5))
def test_views_from_two_sides_agree_where_the_scene_is(turn_a, turn_b, tilt):
    """The camera's own frames are joined by their poses: floor and faces of the box fall onto one another."""
    poses = [camera(tilt, turn_a), camera(tilt, turn_b)]
    frames = [view(pose) for pose in poses]
    clouds = [frame_cloud(frame, pose) for (frame, _), pose in zip(frames, poses)]
    both = join(clouds)
    grid = standing_grid(both.points, np.array([0, 0, 1.0, 0]), voxel=0.01, heights=(-0.025, 0.1), extent=10)
    fused, single = voxelize(both.points, grid), [voxelize(c.points, grid) for c in clouds]
    union = np.unique(np.concatenate([s.voxels for s in single]), axis=0)
    np.testing.assert_array_equal(fused.voxels, union)
    side = np.concatenate([side.ravel() for _, side in frames])
    for number, (axis, value) in enumerate([(a, BOX[k, a]) for a in range(3) for k in range(2)], 1):
        np.testing.assert_allclose(both.points[side == number, axis], value, atol=1e-5)
    assert len(fused.row) == 2 * SHAPE[0] * SHAPE[1]


def test_truncated_distance_of_a_plane_from_above():
    pose = camera(0.0, 0.3)
    frame, _ = view(pose, box=False)
    turned = np.eye(4)
    turned[:3, 3] = [0.1, 0.1, 0.035]
    grid = Grid(turned, (20, 20, 9), 0.01)  # the floor is in the middle of layer 3
    found = flipped_distance(grid, [(frame, pose)], truncation=3)
    d = np.clip((np.arange(9) - 3) / 3, -1, 1)
    expected = np.where(d < 0, -1 - d, 1 - d)
    expected[d <= -1] = 0  # hidden
    assert np.abs(found).max(axis=(0, 1))[3] == pytest.approx(1, abs=1e-4)
    at_surface = np.arange(9) == 3  # ±1 there, by the last bit
    np.testing.assert_allclose(found[10, 10, ~at_surface], expected[~at_surface], atol=1e-4)
    twice = flipped_distance(grid, [(frame, pose), (frame, pose)], truncation=3)
    np.testing.assert_allclose(twice, found, atol=1e-6)
    behind = camera(0.0, 0.3, distance=0.02)  # stands below the upper layers: these are behind it
    assert (flipped_distance(grid, [(view(behind, box=False)[0], behind)], truncation=3)[:, :, 7:] == 0).all()


def test_what_makes_no_grid_is_refused():
    for voxel in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="voxel must be"):
            Grid(np.eye(4), (1, 1, 1), voxel)
    with pytest.raises(InputError, match="does not fit into memory"):
        Grid(np.eye(4), (1000, 1000, 1000), 0.01)
    with pytest.raises(InputError, match="no point lies"):
        standing_grid(np.array([[0, 0, 5.0]]), np.array([0, 0, 1.0, 0]), voxel=0.01, heights=(0, 1), extent=1)
    cloud = Cloud(np.zeros((1, 3)), np.ones((1, 3)))
    with pytest.raises(InputError, match="features must be some of"):
        voxel_features(["colour"], cloud, voxelize(cloud.points, Grid(np.eye(4), (1, 1, 1), 1.0)), [], truncation=3, floor=0)


def test_points_on_a_line_have_no_normal():
    cloud = Cloud(np.array([[0.5, 0.5, z] for z in (0.1, 0.4, 0.9)]), np.array([[9.0, 0, 0]] * 3))
    assert (normals(cloud, voxelize(cloud.points, Grid(np.eye(4), (1, 1, 1), 1.0))) == 0).all()
