"""Segmenters without training: the baselines that every learned method has to beat."""
