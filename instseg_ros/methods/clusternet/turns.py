"""Looking at a view under several rolls of the camera: what the network says of all of them, averaged in the unturned view.

Not in the paper. What rolling the camera changes in the answer is the network's error, and its mean is smaller.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...frame import Frame
from ..turned_views import View, padded, views_of
from .network import Prediction


def mean_over_turns(predict: Callable[[Frame], Prediction], frame: Frame, turns: int) -> Prediction:
    """Mean prediction over rolls of the camera by 360°/``turns``.

    Args:
        predict: frame, height and width multiples of 32 → prediction.
        frame: any size; it is continued at the right and at the bottom as the network's inputs would be.
        turns: 1, 2 or 4.
    """
    whole = padded(frame, 32)
    each = [_turn_back(predict(view.frame(whole)), view) for view in views_of(turns)]
    return Prediction(*(None if x[0] is None else torch.stack(x).mean(0) for x in zip(*each)))


def _turn_back(prediction: Prediction, view: View) -> Prediction:
    images = [None if x is None else view.back(x.float()) for x in prediction]
    rotation = torch.from_numpy(view.motion.T.copy()).to(images[0])
    votes = torch.einsum("ij,bjhw->bihw", rotation, images[0])
    moments = None if images[1] is None else _rotate_six(images[1], rotation)
    return Prediction(votes, moments, *images[2:])


def _rotate_six(six: Tensor, rotation: Tensor) -> Tensor:
    """Symmetric matrices as xx yy zz xy yz zx (B, 6, h, w), in axes turned by ``rotation``."""
    xx, yy, zz, xy, yz, zx = six.unbind(1)
    matrix = torch.stack([xx, xy, zx, xy, yy, yz, zx, yz, zz], 1).unflatten(1, (3, 3))
    turned = torch.einsum("ij,bjkhw,lk->bilhw", rotation, matrix, rotation)
    return torch.stack([turned[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))], 1)
