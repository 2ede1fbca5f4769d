"""Simulated bins: parts, physics, rendering, sensor noise, datasets."""
