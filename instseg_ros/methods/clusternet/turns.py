"""Looking at a view under several rolls of the camera: what the network says of all of them, averaged in the unturned view.

Not in the paper. What rolling the camera changes in the answer is the network's error, and its mean is smaller.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...frame import Frame
from ...geometry import QUARTER_TURN, turn_intrinsics
from .network import Prediction


def mean_over_turns(predict: Callable[[Frame], Prediction], frame: Frame, turns: int) -> Prediction:
    """Mean prediction over rolls of the camera by 360°/``turns``.

    Args:
        predict: frame, height and width multiples of 32 → prediction.
        frame: any size; it is continued at the right and at the bottom as the network's inputs would be.
        turns: 1, 2 or 4.
    """
    height, width = frame.shape
    pad = ((0, -height % 32), (0, -width % 32))
    depth = np.pad(frame.depth, pad, mode="edge")
    color = None if frame.color is None else np.pad(frame.color, (*pad, (0, 0)), mode="edge")
    padded = Frame(depth, frame.K, color, frame.stamp_ns, frame.frame_id)
    each = [_turn_back(predict(_turn(padded, quarters)), quarters) for quarters in range(0, 4, 4 // turns)]
    return Prediction(*(None if x[0] is None else torch.stack(x).mean(0) for x in zip(*each)))


def _turn(frame: Frame, quarters: int) -> Frame:
    depth, color, K = frame.depth, frame.color, frame.K
    for _ in range(quarters):
        K = turn_intrinsics(K, depth.shape[1])
        depth, color = np.rot90(depth), None if color is None else np.rot90(color)
    color = None if color is None else np.ascontiguousarray(color)
    return Frame(np.ascontiguousarray(depth), K, color, frame.stamp_ns, frame.frame_id)


def _turn_back(prediction: Prediction, quarters: int) -> Prediction:
    back = np.linalg.matrix_power(QUARTER_TURN.T, quarters)
    rotation = torch.from_numpy(back).to(prediction.votes)
    images = [None if x is None else torch.rot90(x, -quarters, (2, 3)) for x in prediction]
    votes = torch.einsum("ij,bjhw->bihw", rotation, images[0])
    moments = None if images[1] is None else _rotate_six(images[1], rotation)
    return Prediction(votes, moments, *images[2:])


def _rotate_six(six: Tensor, rotation: Tensor) -> Tensor:
    """Symmetric matrices as xx yy zz xy yz zx (B, 6, h, w), in axes turned by ``rotation``."""
    xx, yy, zz, xy, yz, zx = six.unbind(1)
    matrix = torch.stack([xx, xy, zx, xy, yy, yz, zx, yz, zz], 1).unflatten(1, (3, 3))
    turned = torch.einsum("ij,bjkhw,lk->bilhw", rotation, matrix, rotation)
    return torch.stack([turned[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))], 1)
