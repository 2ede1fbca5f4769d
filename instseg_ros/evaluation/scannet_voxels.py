"""Scans → voxels for MTML, and its proposals back to vertices in the benchmark's format (Lahoud et al., section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import InputError
from ..methods.mtml.grid import Grid
from ..methods.mtml.proposals import majority_class
from ..methods.mtml.voxelizer import voxelize
from ..synthesis.voxel_samples import Voxels
from .scannet import CLASSES, Scan
from .scannet_benchmark import write_answer

if TYPE_CHECKING:
    from ..methods.mtml.voxel_segmenter import VoxelSegmenter

VOXEL = 0.1
"""Metres, as in the paper."""
IDS = np.array(list(CLASSES))


@dataclass(frozen=True, eq=False)
class ScanVoxels:
    """A scan as MTML takes it: only what belongs to one of the benchmark's classes; floor, walls and the rest are left out.

    Attributes:
        voxels: with classes 0…17 in the order of ``CLASSES``. In ``instance``, what belongs to none is one of its own a class.
        row: (V,) int64 voxel of every vertex, −1 = left out.
    """

    voxels: Voxels
    row: np.ndarray


def scan_voxels(scan: Scan, semantic: np.ndarray | None = None, *, voxel: float = VOXEL) -> ScanVoxels:
    """Voxelise a scan.

    Args:
        semantic: (V,) NYU40 ids that a semantic segmentation gave; None = the true ones.

    Raises:
        InputError: another number of vertices, or none of a class that counts.
    """
    semantic = scan.semantic if semantic is None else semantic
    if len(semantic) != len(scan.points):
        raise InputError(f"{scan.name} has {len(scan.points)} vertices, its semantics {len(semantic)}: they are of another mesh")
    used = np.isin(semantic, IDS)
    if not used.any():
        raise InputError(f"{scan.name} holds no vertex of a class that the benchmark counts: check the semantics")
    low, high = scan.points[used].min(0), scan.points[used].max(0)
    pose = np.eye(4)
    pose[:3, 3] = -low
    size = tuple(int(n) + 1 for n in np.floor((high - low) / voxel))
    occupied = voxelize(np.where(used[:, None], scan.points, np.nan), Grid(pose, size, voxel))
    kinds = np.zeros(int(IDS.max()) + 1, np.int64)
    kinds[IDS] = np.arange(len(IDS))
    classes = occupied.majority(kinds[np.where(used, semantic, IDS[0])], len(IDS))
    # Annotated things keep their number; what no one annotated becomes one more a class, so that every voxel has one.
    number = occupied.majority(scan.instance, len(scan.object_class) + 1)
    number = np.where(number > 0, number - 1, len(scan.object_class) + classes)
    _, instance = np.unique(number, return_inverse=True)
    count = np.bincount(instance)
    centre = np.stack([np.bincount(instance, occupied.voxels[:, k] + 0.5) for k in range(3)], 1) / count[:, None]
    own = np.array([np.bincount(classes[instance == k]).argmax() for k in range(len(count))])
    voxels = Voxels(occupied.voxels, size, classes, instance.astype(np.int64), centre.astype(np.float32), own)
    return ScanVoxels(voxels, occupied.row)


def write_proposals(folder: Path, scan: Scan, seen: ScanVoxels, segmenter: VoxelSegmenter) -> int:
    """Segment a scan and write its proposals, which may overlap, for the benchmark; returns their number.

    An instance has the commonest class of its voxels (section 3.2).
    """
    v = seen.voxels
    index = torch.from_numpy(v.voxels)
    prediction = segmenter.predict(F.one_hot(torch.from_numpy(v.classes), len(IDS)).float(), index, v.size)
    proposals = segmenter.propose(prediction, index)
    masks, kinds = proposals.masks.cpu().numpy(), []
    for mask in proposals.masks.cpu():
        kinds.append(IDS[majority_class(torch.where(mask, 0, -1), torch.from_numpy(v.classes), 1)[0]])
    of_vertices = np.concatenate([masks, np.zeros((len(masks), 1), bool)], 1)[:, seen.row]
    write_answer(folder, scan.name, of_vertices, np.array(kinds, np.int64), proposals.score.cpu().numpy())
    return len(masks)
