"""Tensors in, tensors out: networks, what tiling must know about them, and losses."""

from models.build import build_model
from models.geometry import halo, reach, tiles_exactly, total_stride
from models.losses import DiceCELoss
from models.settings import ModelSettings, UNetSettings
from models.sizes import fitting_shape, output_shape
from models.unet import UNet

__all__ = [
    "DiceCELoss",
    "ModelSettings",
    "UNet",
    "UNetSettings",
    "build_model",
    "fitting_shape",
    "halo",
    "output_shape",
    "reach",
    "tiles_exactly",
    "total_stride",
]
