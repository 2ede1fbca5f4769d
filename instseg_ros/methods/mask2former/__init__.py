"""Mask2Former (Cheng et al., CVPR 2022) as `transformers` builds it: the labelled peer of the methods of this package."""
