"""Clustering: arrays in, labels out (torch and NumPy; no files, no ROS)."""
