"""ClusterNet (Shao et al.): per-pixel votes for 3-D centroid and second moments, clustered in that space."""
