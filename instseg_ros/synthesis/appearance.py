"""Colour of a rendered pile: Blinn-Phong light on flat faces, random materials, textured floor, a camera's blur and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..geometry import crop_intrinsics
from .background import FLOOR, GROUND, background_mesh
from .noise_fields import normal

if TYPE_CHECKING:
    from .physics import Settled

_METAL, _PLASTIC = ((0.35, 0.75), 0.55, 40.0), ((0.15, 0.9), 0.2, 15.0)
"""Brightness range, specular strength and shininess."""


def shade(
    settled: Settled, depth: np.ndarray, face: np.ndarray, K: np.ndarray, cam_T_bin: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Colour image of a view.

    Args:
        settled: the pile.
        depth: (H, W) float32 m.
        face: (H, W) int32 visible face: those of the background first, then those of each instance; −1 = none.
        K, cam_T_bin: the camera.
        rng: draws light, materials, texture and noise.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    normals, centres, albedo, shine = _surfaces(settled, cam_T_bin, rng)
    diffuse, specular = _light(normals, centres, shine, cam_T_bin, rng)
    colours = np.append(albedo * diffuse[:, None], [[0, 0, 0]], 0).astype(np.float32)  # last row: nothing there (−1)
    glints = np.append(specular, 0).astype(np.float32)
    factor = _contact_shadow(depth, settled.part.diameter, K[0, 0])
    _texture_floor(factor, face, settled, K, cam_T_bin, rng)
    image = np.take(colours, face, axis=0, mode="wrap") * factor[..., None]
    glint = np.take(glints, face, mode="wrap")
    image += cv2.merge((glint, glint, glint))
    return _develop(image, rng)


def _surfaces(settled: Settled, cam_T_bin: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Per face: normal (F, 3) and centre (F, 3) in the camera frame, albedo (F, 3), specular strength and shininess (F, 2)."""
    vertices, faces, surface = background_mesh(settled.bin)
    normals, centres = _frame_of(vertices, faces)
    colours = _muted_colour(rng), _muted_colour(rng), _muted_colour(rng)
    albedo = np.array([colours[s] for s in surface])
    shine = np.tile((0.03, 5.0), (len(faces), 1))
    R, t = cam_T_bin[:3, :3], cam_T_bin[:3, 3]
    all_normals, all_centres, all_albedo, all_shine = [normals @ R.T], [centres @ R.T + t], [albedo], [shine]

    part_normals, part_centres = _frame_of(settled.part.vertices, settled.part.faces)
    metal = rng.random() < 0.5
    brightness, strength, exponent = _METAL if metal else _PLASTIC
    colour = np.full(3, rng.uniform(*brightness)) * rng.uniform(0.94, 1.06, 3)
    if not metal:
        hue = cv2.cvtColor(np.uint8([[[rng.integers(180), rng.integers(40, 230), 255]]]), cv2.COLOR_HSV2RGB)[0, 0] / 255
        colour = colour * hue
    strength, exponent = strength * rng.uniform(0.3, 1.0), exponent * rng.uniform(0.6, 1.6)
    for pose in cam_T_bin @ settled.poses:
        all_normals.append(part_normals @ pose[:3, :3].T)
        all_centres.append(part_centres @ pose[:3, :3].T + pose[:3, 3])
        all_albedo.append(np.tile(colour * rng.uniform(0.93, 1.07), (len(part_normals), 1)))
        all_shine.append(np.tile((strength, exponent), (len(part_normals), 1)))
    return tuple(np.concatenate(parts) for parts in (all_normals, all_centres, all_albedo, all_shine))


def _light(
    normals: np.ndarray, centres: np.ndarray, shine: np.ndarray, cam_T_bin: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse factor (F,) and specular brightness (F,) under an ambient and one to three distant lamps above the bin."""
    view = -centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    diffuse, specular = np.full(len(normals), rng.uniform(0.25, 0.5)), np.zeros(len(normals))
    lamps = int(rng.integers(1, 4))
    for _ in range(lamps):
        angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.0)
        direction = np.array([np.sqrt(1 - height**2) * np.cos(angle), np.sqrt(1 - height**2) * np.sin(angle), height])
        lamp = cam_T_bin[:3, :3] @ direction
        power = rng.uniform(0.5, 1.1) / lamps
        diffuse += power * np.clip(normals @ lamp, 0, None)
        half = view + lamp
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-9)
        specular += power * shine[:, 0] * np.clip((normals * half).sum(1), 0, None) ** shine[:, 1]
    return diffuse, specular


def _texture_floor(
    factor: np.ndarray, face: np.ndarray, settled: Settled, K: np.ndarray, cam_T_bin: np.ndarray, rng: np.random.Generator
) -> None:
    """Multiply a random pattern into ``factor`` (H, W) on the bin's floor and on the ground, drawn in their planes."""
    _, _, surface = background_mesh(settled.bin)
    bin = settled.bin
    for plane, height, half in ((FLOOR, 0.0, max(bin.half_x, bin.half_y)), (GROUND, -bin.wall_thickness, 1.0)):
        pattern = _pattern(rng)
        first, last = np.flatnonzero(surface == plane)[[0, -1]]
        on = (face >= first) & (face <= last)
        x, y, w, h = cv2.boundingRect(on.view(np.uint8))
        # Plane coordinates → pixels: K [r1 r2 (h r3 + t)].
        R, t = cam_T_bin[:3, :3], cam_T_bin[:3, 3]
        cell = 2 * half / pattern.shape[0]
        to_plane = np.array([[cell, 0, -half], [0, cell, -half], [0, 0, 1]])
        homography = crop_intrinsics(K, x, y) @ np.column_stack([R[:, 0], R[:, 1], height * R[:, 2] + t]) @ to_plane
        if w and h:
            warped = cv2.warpPerspective(pattern, homography, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            window = factor[y : y + h, x : x + w]
            np.multiply(window, warped, out=window, where=on[y : y + h, x : x + w])


def _pattern(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """(size, size) float32 around 1: plain, blotches, grain, stripes or checks."""
    kind, contrast = rng.integers(5), rng.uniform(0.05, 0.5)
    if kind == 0:
        return np.ones((size, size), np.float32)
    if kind in (1, 2):  # coarse or fine noise
        cells = int(rng.integers(4, 24)) if kind == 1 else size // 2
        noise = cv2.resize(rng.random((cells, cells), np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    elif kind == 3:  # stripes along x, like wood or ribs
        noise = cv2.resize(rng.random((int(rng.integers(8, 64)), 3), np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    else:
        noise = (np.indices((size, size)) // int(rng.integers(8, 48))).sum(0).astype(np.float32) % 2
    return (1 + contrast * (noise - 0.5)).astype(np.float32)


def _contact_shadow(depth: np.ndarray, diameter: float, focal: float) -> np.ndarray:
    """(H, W) float32 in [0.55, 1]: pixels deeper than their surroundings get less light (a cheap ambient occlusion)."""
    z = np.where(np.isfinite(depth), depth, np.float32(10))
    size = focal * diameter / float(np.median(z[::16, ::16]))  # of the part, pixels
    k = max(int(size / 4) | 1, 3)
    shadow = (z - cv2.blur(z, (k, k))) * np.float32(-0.45 / (0.1 * diameter))
    return np.clip(shadow, -0.45, 0, out=shadow) + np.float32(1)


def _develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White balance, exposure, blur, gamma and noise of a camera: linear (H, W, 3) → uint8."""
    exposed = np.percentile(image[::4, ::4, 1], 99.5)  # automatic exposure, more or less well done
    exposure = rng.uniform(0.35, 0.95) / max(float(exposed), 0.05)
    image *= (255**2 * exposure * rng.uniform(0.93, 1.07, 3)).astype(np.float32)
    image = cv2.sqrt(cv2.GaussianBlur(image, (3, 3), rng.uniform(0.4, 0.8)))  # gamma 2
    image += normal(image.shape, rng) * np.float32(rng.uniform(1, 4))
    return cv2.convertScaleAbs(np.maximum(image, 0, out=image))  # saturates at 255


def _frame_of(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals and centres (F, 3) of triangles."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-18), (a + b + c) / 3


def _muted_colour(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.08, 0.8) * rng.uniform(0.75, 1.0, 3)
