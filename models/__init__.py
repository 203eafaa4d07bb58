"""Tensors in, tensors out: networks, what tiling must know about them, and losses."""

from models.build import build_model
from models.geometry import halo, reach, receptive_field, tiles_exactly, total_stride
from models.losses import DiceCELoss
from models.presets import PRESETS, preset
from models.pretrained import load_pretrained
from models.settings import ModelSettings, UNetSettings
from models.sizes import fitting_shape, output_shape
from models.unet import UNet

__all__ = [
    "PRESETS",
    "DiceCELoss",
    "ModelSettings",
    "UNet",
    "UNetSettings",
    "build_model",
    "fitting_shape",
    "halo",
    "load_pretrained",
    "output_shape",
    "preset",
    "reach",
    "receptive_field",
    "tiles_exactly",
    "total_stride",
]
