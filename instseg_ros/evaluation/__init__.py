"""Metrics, protocol, report: how good an answer is, by rules that every result states."""

from .evaluation import Evaluation

__all__ = ["Evaluation"]
