"""Tensors in, tensors out: networks, what tiling must know about them, and losses."""

from models.build import build_model
from models.decision import Decision
from models.ensemble import Ensemble
from models.exports import Exported, ExportError, to_torchscript, torchscript_bytes
from models.flip_mean import FlipMean
from models.geometry import halo, reach, receptive_field, tiles_exactly, total_stride
from models.losses import DiceCELoss, LossSettings
from models.memory import outline, peak_activation_bytes, training_memory
from models.mirrored import Mirrored
from models.network import Network
from models.presets import PRESETS, preset
from models.pretrained import load_pretrained
from models.settings import EnsembleSettings, ModelSettings, UNetSettings
from models.sizes import fitting_shape, margins, misfit, output_shape
from models.unet import UNet

__all__ = [
    "PRESETS",
    "Decision",
    "DiceCELoss",
    "Ensemble",
    "EnsembleSettings",
    "ExportError",
    "Exported",
    "FlipMean",
    "LossSettings",
    "Mirrored",
    "ModelSettings",
    "Network",
    "UNet",
    "UNetSettings",
    "build_model",
    "fitting_shape",
    "halo",
    "load_pretrained",
    "margins",
    "misfit",
    "outline",
    "output_shape",
    "peak_activation_bytes",
    "preset",
    "reach",
    "receptive_field",
    "tiles_exactly",
    "to_torchscript",
    "torchscript_bytes",
    "total_stride",
    "training_memory",
]
