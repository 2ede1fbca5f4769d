"""The rasteriser against analytic scenes and against an independent ray caster."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("numba")

from instseg_ros.geometry import deproject, project  # noqa: E402
from instseg_ros.synthesis.background import FLOOR, background_mesh  # noqa: E402
from instseg_ros.synthesis.camera import PRESETS, look_at, sample_camera  # noqa: E402
from instseg_ros.synthesis.rasterizer import draw, window  # noqa: E402
from instseg_ros.synthesis.render import render  # noqa: E402

BIN = SimpleNamespace(half_x=0.06, half_y=0.05, wall_height=0.05, wall_thickness=0.003)
K = np.array([[600.0, 0, 79.5], [0, 590, 61.0], [0, 0, 1]])
SIZE = (120, 160)


def pile(mesh: trimesh.Trimesh, poses: np.ndarray, bin: object = BIN) -> SimpleNamespace:
    part = SimpleNamespace(vertices=np.asarray(mesh.vertices, float), faces=np.asarray(mesh.faces, np.int64), diameter=0.04)
    return SimpleNamespace(part=part, bin=bin, poses=poses)


def at(*translations: tuple[float, float, float]) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(translations), 1, 1))
    poses[:, :3, 3] = np.reshape(translations, (-1, 3))
    return poses


def overhead(height: float) -> np.ndarray:
    return look_at(np.array([0, 0, height]), np.zeros(3))


def test_floor_seen_from_above_is_at_its_distance() -> None:
    view = render(pile(trimesh.creation.icosphere(), at()), K, SIZE, overhead(0.5))
    floor = view.depth[40:80, 60:100]
    assert np.abs(floor - 0.5).max() < 1e-6
    assert view.labels.max() == 0 and view.masks.shape == (0, *SIZE)


def test_tilted_floor_follows_the_plane_equation() -> None:
    T = look_at(np.array([0.2, 0.1, 0.5]), np.zeros(3), yaw=0.7)
    view = render(pile(trimesh.creation.icosphere(), at()), K, SIZE, T)
    world = (deproject(view.depth, K)[50:70, 70:90] - T[:3, 3]) @ T[:3, :3]
    assert np.abs(world[..., 2]).max() < 1e-6


def test_sphere_depth_and_area() -> None:
    """A fine sphere on the axis: exact depth at its centre pixel, silhouette of the tangent cone's angle."""
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.02)
    K0 = np.array([[600.0, 0, 80], [0, 600, 60], [0, 0, 1]])
    view = render(pile(ball, at((0, 0, 0.02))), K0, SIZE, overhead(0.5))
    assert abs(view.depth[60, 80] - 0.46) < 1e-4
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    ray = np.stack([(u - 80) / 600, (v - 60) / 600, np.ones(SIZE)], -1)
    b, c = ray[..., 2] * 0.48, 0.48**2 - 0.02**2  # ray · centre, for centre (0, 0, 0.48)
    a = (ray**2).sum(-1)
    hit = b * b > a * c
    z = (b - np.sqrt(np.where(hit, b * b - a * c, 0))) / a
    both = hit & (view.labels == 1)
    assert (hit != (view.labels == 1)).sum() <= 12  # facets cut the rim
    inner = both & (b * b > a * c * 1.0002)
    assert np.abs(view.depth - z)[inner].max() < 1e-4


def test_layers_masks_and_order_of_two_stacked_boxes() -> None:
    box = trimesh.creation.box((0.03, 0.03, 0.01))
    view = render(pile(box, at((0, 0, 0.005), (0.015, 0, 0.015))), K, SIZE, overhead(0.5))
    overlap = view.masks.all(0)
    assert overlap.any()
    assert (view.layers[0][overlap] == 2).all() and (view.layers[1][overlap] == 1).all() and not view.layers[2].any()
    assert np.array_equal(view.layers[0], view.labels)
    assert view.depth_order.tolist() == [1, 0]
    assert view.visible_fraction[1] == 1
    assert view.visible_fraction[0] == pytest.approx((view.labels == 1).sum() / view.masks[0].sum())
    assert np.array_equal(view.pixels, view.masks.sum((1, 2)))


def test_layers_are_as_deep_as_the_pile_and_its_wall() -> None:
    box = trimesh.creation.box((0.02, 0.02, 0.002))
    tower = render(pile(box, at(*((0, 0, 0.001 + 0.002 * k) for k in range(7)))), K, SIZE, overhead(0.5))
    under = tower.masks.all(0)
    assert len(tower.layers) == 7 and (tower.layers[:, under] == np.arange(7, 0, -1)[:, None]).all()
    assert np.array_equal((tower.layers > 0).sum(0), tower.masks.sum(0)) and tower.visible_fraction[6] == 1
    row = render(pile(box, at(*((0.05 - 0.001 * k, 0, 0.01) for k in range(4)))), K, SIZE, look_at(np.array([0.6, 0, 0.05]), np.zeros(3)))
    assert len(row.layers) == 5 and not row.layers[0].any() and row.layers[4].any()  # all four behind the wall


def test_part_behind_a_wall_is_hidden_but_amodal() -> None:
    box = trimesh.creation.box((0.02, 0.02, 0.02))
    low = look_at(np.array([0.6, 0, 0.05]), np.array([0.0, 0, 0.02]))
    view = render(pile(box, at((0.05, 0, 0.01))), K, SIZE, low)
    assert not view.labels.any() and view.visible_fraction[0] == 0
    assert view.masks[0].sum() > 100
    assert not view.layers[0].any() and np.array_equal(view.layers[1] == 1, view.masks[0])


def test_silhouette_beyond_the_border_is_counted() -> None:
    box = trimesh.creation.box((0.03, 0.03, 0.01))
    edge_x = -79.5 / 600 * 0.49  # the left border cuts the box's upper face in half
    wide = SimpleNamespace(half_x=0.2, half_y=0.2, wall_height=0.05, wall_thickness=0.003)
    view = render(pile(box, at((edge_x, 0, 0.005)), wide), K, SIZE, overhead(0.5))
    assert view.visible_fraction[0] == pytest.approx(0.5, abs=0.03)
    assert view.box[0, 0] < 0 and view.pixels[0] > view.masks[0].sum()


def test_part_outside_the_view_and_behind_the_camera() -> None:
    box = trimesh.creation.box((0.03, 0.03, 0.01))
    view = render(pile(box, at((3, 0, 0), (0, 0, 0.8))), K, SIZE, overhead(0.5))
    assert view.pixels.tolist() == [0, 0] and view.visible_fraction.tolist() == [0, 0] and not view.masks.any()


def test_triangle_through_the_image_plane_needs_no_clipping() -> None:
    """A long floor that starts behind the camera is drawn exactly where it is in front of it."""
    vertices = np.array([[-5, 0.1, -2], [5, 0.1, -2], [5, 0.1, 8], [-5, 0.1, 8]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    left, top, w, h = window(vertices, K, SIZE)
    assert (left, top, w, h) == (-160, -120, 480, 360)
    depth, face = np.full(SIZE, np.inf, np.float32), np.zeros(SIZE, np.int32)
    draw(vertices, faces, K, 0, 0, 0, depth, face)
    rows = np.arange(SIZE[0])
    z = np.full(SIZE[0], np.inf)
    below = rows > 61
    z[below] = 0.1 * 590 / (rows[below] - 61.0)
    z[z > 8] = np.inf
    assert np.allclose(depth, z[:, None], rtol=1e-6)


def test_adjacent_triangles_leave_no_cracks() -> None:
    """A closed fan with random corners covers every pixel inside it."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
        angle = np.concatenate([angle, np.linspace(0, 2 * np.pi, 12, endpoint=False)])
        angle.sort()
        rim = np.stack([0.05 * np.cos(angle), 0.05 * np.sin(angle), 0.4 + rng.uniform(-0.02, 0.02, len(angle))], -1)
        vertices = np.vstack([[rng.uniform(-0.01, 0.01), rng.uniform(-0.01, 0.01), 0.4], rim])
        k = np.arange(len(angle))
        faces = np.stack([np.zeros_like(k), 1 + (k + 1) % len(k), 1 + k], -1)
        depth, face = np.full(SIZE, np.inf, np.float32), np.zeros(SIZE, np.int32)
        draw(vertices, faces, K, 0, 0, 0, depth, face)
        v, u = np.mgrid[: SIZE[0], : SIZE[1]]
        assert np.isfinite(depth[np.hypot(u - 79.5, v - 61) < 50]).all()


def test_camera_looks_where_it_says() -> None:
    rng = np.random.default_rng(1)
    for name, preset in PRESETS.items():
        for _ in range(20):
            intrinsics, T = sample_camera(preset, BIN, rng)
            assert np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3)) and np.linalg.det(T[:3, :3]) == pytest.approx(1)
            corners = np.array([[x, y, 0] for x in (-BIN.half_x, BIN.half_x) for y in (-BIN.half_y, BIN.half_y)])
            camera = corners @ T[:3, :3].T + T[:3, 3]
            pixels = project(camera, intrinsics)
            h, w = preset.size
            assert (pixels >= 0).all() and (pixels <= (w - 1, h - 1)).all(), name
            tilt = np.degrees(np.arccos(-T[2, 2]))
            assert tilt <= (0.01 if name == "insta10" else 20.01)
            if preset.distance:
                assert preset.distance[0] - 0.03 < camera[:, 2].mean() < preset.distance[1] + 0.03


def test_colour_has_contrast_and_is_repeatable() -> None:
    box = trimesh.creation.box((0.03, 0.03, 0.02))
    scene = pile(box, at((0, 0, 0.01), (0.03, 0.01, 0.01)))
    images = [render(scene, K, SIZE, overhead(0.4), np.random.default_rng(seed)).rgb for seed in (5, 5, 6)]
    assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])
    assert images[0].dtype == np.uint8 and images[0].shape == (*SIZE, 3) and images[0].std() > 5


def test_labels_and_depth_equal_embree() -> None:
    """Every part, two views each, against embree: ≤ 0.1 % of the mask pixels differ, depth to 0.1 mm."""
    pytest.importorskip("embreex")
    pytest.importorskip("mujoco")
    pytest.importorskip("manifold3d")
    from instseg_ros.synthesis.parts import PARTS, load_part
    from instseg_ros.synthesis.physics import default_bin, drop

    different = pixels = 0
    worst = 0.0
    for seed, name in enumerate(PARTS):
        part, rng = load_part(name), np.random.default_rng(seed)
        settled = None
        while settled is None:
            bin = default_bin(part, 5, rng)
            settled = drop(part, 5, bin, rng)
        for preset in (PRESETS["insta10"], PRESETS["d435"]):
            intrinsics, T = sample_camera(preset, bin, rng)
            view = render(settled, intrinsics, preset.size, T)
            depth, labels, masks = cast(settled, intrinsics, preset.size, T)
            different += int((masks != view.masks).sum() + (labels != view.labels).sum())
            pixels += int(masks.sum() + (labels > 0).sum())
            same = (labels == view.labels) & np.isfinite(depth) & inside_surface(depth)
            worst = max(worst, float(np.abs(depth - view.depth)[same].max()))
    assert different <= 1e-3 * pixels, f"{different} of {pixels} mask pixels differ"
    assert worst <= 1e-4, f"depth differs by {worst * 1e3:.3f} mm"


def inside_surface(depth: np.ndarray) -> np.ndarray:
    """Pixels whose 3 × 3 window has no depth step: at a step either side may be the right answer."""
    import cv2

    kernel = np.ones((3, 3), np.uint8)
    filled = np.nan_to_num(depth, nan=9.0).astype(np.float32)
    return cv2.dilate(filled, kernel) - cv2.erode(filled, kernel) < 0.004


def cast(settled: object, K: np.ndarray, size: tuple[int, int], T: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth (H, W), labels (H, W), amodal masks (n, H, W) by ray casting with embree."""
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    h, w = size
    v, u = np.mgrid[:h, :w]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(size)], -1).reshape(-1, 3)

    def first_hit(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        z = np.full(h * w, np.inf)
        points, index, _ = RayMeshIntersector(mesh).intersects_location(np.zeros_like(rays), rays, multiple_hits=False)
        z[index] = points[:, 2]
        return z.reshape(size)

    vertices, faces, _ = background_mesh(settled.bin)
    best, labels = first_hit(vertices @ T[:3, :3].T + T[:3, 3], faces), np.zeros(size, np.uint16)
    masks = np.zeros((len(settled.poses), *size), bool)
    for i, pose in enumerate(T @ settled.poses):
        z = first_hit(settled.part.vertices @ pose[:3, :3].T + pose[:3, 3], settled.part.faces)
        masks[i] = np.isfinite(z)
        labels[z < best] = i + 1
        best = np.minimum(best, z)
    best[~np.isfinite(best)] = np.nan
    return best, labels, masks


def test_background_faces_point_outwards() -> None:
    vertices, faces, surface = background_mesh(BIN)
    walls = trimesh.Trimesh(vertices, faces[surface > FLOOR], process=False)
    for body in np.split(np.arange(48), 4):
        assert trimesh.Trimesh(vertices, walls.faces[body], process=False).volume > 0
