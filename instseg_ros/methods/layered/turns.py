"""Looking at a view under several rolls of the camera and in the mirror: the classes' mean, the embeddings side by side.

Not in the paper. Embeddings have no meaning of their own, only distances between them have: the views' embeddings are joined, each
over the number of views, so that the L1 distance of two cells is the mean of their distances in the views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ...frame import Frame
from ..turned_views import View
from .network import STRIDE, Prediction

LATE = 2 * (STRIDE // 2) - STRIDE + 1
"""Cells stand for their pixel ``STRIDE // 2``, which is not their middle: reversed, they begin a pixel later."""


def joined_views(predict: Callable[[Frame], Prediction], frame: Frame, views: Sequence[View]) -> Prediction:
    """One prediction from those of all ``views``: log of the mean class probabilities, and C · len(views) channels of embedding.

    Args:
        predict: frame → prediction. frame: height and width multiples of ``STRIDE``.
    """
    each = [Prediction(*map(view.back, predict(view.frame(frame, LATE)))) for view in views]
    share = torch.stack([prediction.semantic.softmax(2) for prediction in each]).mean(0)
    return Prediction(share.log(), torch.cat([prediction.embedding for prediction in each], 2) / len(views))
