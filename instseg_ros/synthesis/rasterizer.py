"""A z-buffer for closed triangle meshes, compiled with numba: exact depth at pixel centres, one core, no GPU."""

from __future__ import annotations

import math

import numba
import numpy as np

NEAR = 1e-3
"""Surfaces nearer than this (m) are not drawn."""


@numba.njit(cache=True, nogil=True)
def draw(
    vertices: np.ndarray,
    faces: np.ndarray,
    K: np.ndarray,
    left: int,
    top: int,
    first_face: int,
    depth: np.ndarray,
    face: np.ndarray,
) -> None:
    """Draw one mesh into a window of the image; nearer surfaces win over what the window holds already.

    Rasterisation in homogeneous coordinates (Olano and Greer, "Triangle scan conversion using 2D homogeneous
    coordinates", 1997): edge functions and depth come from the three camera-frame vertices directly, so a triangle that
    crosses the image plane needs no clipping, and depth is exact, not interpolated in screen space.

    Args:
        vertices: (V, 3) float64 m, camera frame.
        faces: (F, 3) int64, counter-clockwise seen from outside; faces seen from behind are skipped.
        K: (3, 3) pixels; pixel (0, 0) has its centre at (0, 0).
        left, top: column and row of the window's first pixel in the image (may be negative).
        first_face: number written for face 0.
        depth: (h, w) float32 m, inf where empty; written in place.
        face: (h, w) int32; written in place.
    """
    h, w = depth.shape
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    for f in range(faces.shape[0]):
        ia, ib, ic = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = vertices[ia, 0], vertices[ia, 1], vertices[ia, 2]
        bx, by, bz = vertices[ib, 0], vertices[ib, 1], vertices[ib, 2]
        px, py, pz = vertices[ic, 0], vertices[ic, 1], vertices[ic, 2]
        # Edge functions e(ray) = (v × w) · ray; written so that a shared edge gets exactly opposite values: no cracks.
        e0x, e0y, e0z = by * pz - bz * py, bz * px - bx * pz, bx * py - by * px
        determinant = ax * e0x + ay * e0y + az * e0z
        if determinant >= 0.0:  # seen from behind or edge-on
            continue
        e1x, e1y, e1z = py * az - pz * ay, pz * ax - px * az, px * ay - py * ax
        e2x, e2y, e2z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        if az < NEAR and bz < NEAR and pz < NEAR:
            continue
        u0, u1, v0, v1 = left, left + w - 1, top, top + h - 1
        if az >= NEAR and bz >= NEAR and pz >= NEAR:
            ua, ub, uc = ax / az * fx + cx, bx / bz * fx + cx, px / pz * fx + cx
            va, vb, vc = ay / az * fy + cy, by / bz * fy + cy, py / pz * fy + cy
            u0 = max(u0, int(math.floor(max(min(ua, ub, uc), u0 - 1.0))))
            u1 = min(u1, int(math.ceil(min(max(ua, ub, uc), u1 + 1.0))))
            v0 = max(v0, int(math.floor(max(min(va, vb, vc), v0 - 1.0))))
            v1 = min(v1, int(math.ceil(min(max(va, vb, vc), v1 + 1.0))))
            if u0 > u1 or v0 > v1:
                continue
        nx, ny, nz = e0x + e1x + e2x, e0y + e1y + e2y, e0z + e1z + e2z
        for v in range(v0, v1 + 1):
            y = (v - cy) / fy
            c0, c1, c2 = e0y * y + e0z, e1y * y + e1z, e2y * y + e2z
            # The span of this row where all three edge functions are ≤ 0, widened by a pixel and then tested exactly.
            low, high = float(u0), float(u1)
            for k in range(3):
                slope = (e0x, e1x, e2x)[k] / fx
                value = (c0, c1, c2)[k] - slope * cx
                if slope > 0.0:
                    high = min(high, -value / slope + 1.0)
                elif slope < 0.0:
                    low = max(low, -value / slope - 1.0)
            if not low <= high:
                continue
            for u in range(int(math.ceil(low)), int(math.floor(high)) + 1):
                x = (u - cx) / fx
                if e0x * x + c0 > 0.0 or e1x * x + c1 > 0.0 or e2x * x + c2 > 0.0:
                    continue
                z = determinant / (nx * x + ny * y + nz)
                if z >= NEAR and z < depth[v - top, u - left]:
                    depth[v - top, u - left] = z
                    face[v - top, u - left] = first_face + f


@numba.njit(cache=True, nogil=True)
def merge(
    alone: np.ndarray,
    alone_face: np.ndarray,
    left: int,
    top: int,
    label: int,
    stack_depth: np.ndarray,
    stack_label: np.ndarray,
    face: np.ndarray,
) -> None:
    """Insert one instance, drawn alone into a window, into the sorted stack of every pixel.

    Args:
        alone, alone_face: (h, w) depth (inf = nothing) and face numbers of the window at (left, top).
        label: number of the instance.
        stack_depth: (L, H, W) float32, ascending, inf where empty. stack_label: (L, H, W) uint16.
        face: (H, W) int32 face number of the nearest surface.
    """
    levels, height, width = stack_depth.shape
    for i in range(alone.shape[0]):
        for j in range(alone.shape[1]):
            z = alone[i, j]
            if z == np.inf:
                continue
            v, u = i + top, j + left
            if v < 0 or u < 0 or v >= height or u >= width:
                continue
            if z >= stack_depth[levels - 1, v, u]:
                continue
            k = levels - 1
            while k > 0 and stack_depth[k - 1, v, u] > z:
                stack_depth[k, v, u] = stack_depth[k - 1, v, u]
                stack_label[k, v, u] = stack_label[k - 1, v, u]
                k -= 1
            stack_depth[k, v, u] = z
            stack_label[k, v, u] = label
            if k == 0:
                face[v, u] = alone_face[i, j]


def window(vertices: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixel window (left, top, width, height) that holds a mesh (V, 3) m in the camera frame.

    It may reach past the image of ``size`` (H, W), by up to one image on each side; width or height 0 = nothing to draw.
    """
    h, w = size
    if vertices[:, 2].max() < NEAR:
        return 0, 0, 0, 0
    if vertices[:, 2].min() < NEAR:  # crosses the image plane: its projection has no bounds
        return -w, -h, 3 * w, 3 * h
    u = vertices[:, 0] / vertices[:, 2] * K[0, 0] + K[0, 2]
    v = vertices[:, 1] / vertices[:, 2] * K[1, 1] + K[1, 2]
    left, right = max(math.floor(u.min()), -w), min(math.ceil(u.max()), 2 * w - 1)
    top, bottom = max(math.floor(v.min()), -h), min(math.ceil(v.max()), 2 * h - 1)
    return left, top, max(right - left + 1, 0), max(bottom - top + 1, 0)
