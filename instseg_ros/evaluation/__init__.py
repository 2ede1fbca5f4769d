"""Evaluation: metrics, protocols, report with pictures."""
