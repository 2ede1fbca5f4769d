"""3D Instance Segmentation via Multi-task Metric Learning (Lahoud et al., ICCV 2019)."""
