"""Augmentation with MONAI: stored patch → the network's patch, a pure function of patch and seed.

Kinds, order, probabilities and ranges are those of nnU-Net v2's default trainer (Isensee et al.
2021); where ours differ, the docstring says so. The one strength s scales all of it: a probability
p becomes p·s, an angle, a deviation or a width d becomes d·s, a factor f becomes f to the power s.
"""

from pipeline.training.transforms.augment import Augment

__all__ = ["Augment"]
