"""Layered Embeddings (Liu et al. 2019): amodal instances in L layers."""
