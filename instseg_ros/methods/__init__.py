"""The published methods, each a folder: ``network.py`` (nn.Module only) and ``segmenter.py`` (Frame → Instances)."""

from .model_directory import ModelDirectory, write_model
from .segmenter import Segmenter, load_segmenter

__all__ = ["ModelDirectory", "Segmenter", "load_segmenter", "write_model"]
