"""Cleaning label images: what single pixels vote at the border of two parts is noise, what their surroundings vote is not."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import find_objects


def majority_filter(labels: np.ndarray, window: int) -> np.ndarray:
    """Give every labelled pixel the label that is commonest among the labelled pixels of the window around it.

    A pixel keeps its own label in a tie. The background stays what it is and has no vote.

    Args:
        labels: (H, W) integers, 0 = background.
        window: odd side in pixels, 1 (nothing changes) to 11.

    Returns:
        (H, W) of the same dtype.
    """
    reach = window // 2
    filtered, most = labels.copy(), np.zeros(labels.shape, np.uint8)
    for k, box in enumerate(find_objects(labels), 1):
        if box is None:
            continue
        around = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        own = (labels[around] == k).view(np.uint8)
        # Twice the count, and one more for its own label: 2 · 11² + 1 still fits into a byte.
        votes = 2 * cv2.boxFilter(own, -1, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT) + own
        wins = (votes > most[around]) & (labels[around] > 0)
        most[around][wins] = votes[wins]
        filtered[around][wins] = k
    return filtered
