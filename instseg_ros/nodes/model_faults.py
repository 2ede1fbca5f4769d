"""What went wrong inside a model, as the reason for which a frame is skipped."""

from __future__ import annotations

import sys
import traceback

from ..frame import Frame
from ..instances import Instances
from .messages import BadFrame

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cudnn_status_alloc_failed")
"""Words of torch's messages, some of which come as a plain RuntimeError."""
LONGEST = 300
"""Characters of a message that are passed on; torch's run to pages."""


def model_fault(error: BaseException) -> BadFrame:
    """``failed``, or ``out_of_memory``: then what the attempt held, and the GPU's cache, is given back before the next frame.

    There is no falling back to the CPU: answers that take ten times as long would stop a cell as well, and later.
    """
    what = f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST]}"
    if not _out_of_memory(error):
        return BadFrame("failed", f"the model failed on the frame: {what}")
    traceback.clear_frames(error.__traceback__)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return BadFrame("out_of_memory", f"{what}: narrow roi, or end what else uses the device")


def check_answer(found: object, view: Frame) -> None:
    """BadFrame ``failed`` for what is no answer to ``view``."""
    if not isinstance(found, Instances):
        raise BadFrame("failed", f"the model failed on the frame: it gave a {type(found).__name__}, not Instances")
    if found.labels.shape != view.shape:
        (height, width), (rows, columns) = found.labels.shape, view.shape
        raise BadFrame(
            "failed", f"the model failed on the frame: its labels are {width} x {height}, the view is {columns} x {rows}"
        )


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    kind = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return kind or (isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY))
