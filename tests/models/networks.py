"""Small networks of every kind: the table that tests go through."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from models.settings import (
    AttentionUNetSettings,
    DenseUNetSettings,
    DynUNetSettings,
    EncoderUNetSettings,
    NetworkSettings,
    SegResNetSettings,
    SwinUNETRSettings,
    UNetPlusPlusSettings,
    UNetSettings,
)

STAGES: dict[str, Any] = {"strides": (1, 2, 2), "kernels": (3, 3, 3), "features": (4, 4, 4)}
FIVE = (2, 3, 3, 4, 4)
SMALL: dict[str, tuple[type[NetworkSettings], dict[str, Any]]] = {
    "unet": (UNetSettings, STAGES),
    "unet residual": (UNetSettings, STAGES | {"blocks": "residual"}),
    "unet deep": (UNetSettings, STAGES | {"deep_supervision": 1}),
    "unet++": (UNetPlusPlusSettings, {"features": FIVE}),
    "unet++ deep": (UNetPlusPlusSettings, {"features": FIVE, "deep_supervision": True}),
    "attention": (AttentionUNetSettings, {"features": (4, 4, 6)}),
    "dense": (DenseUNetSettings, {"first_features": 4, "growth": 2, "layers": (1, 2, 2)}),
    "segresnet": (
        SegResNetSettings,
        {"first_features": 4, "blocks_down": (1, 1, 1), "blocks_up": (1, 1)},
    ),
    "dynunet": (DynUNetSettings, STAGES | {"residual": True}),
    "dynunet deep": (DynUNetSettings, STAGES | {"deep_supervision": 1}),
    "resnet": (EncoderUNetSettings, {"encoder": "resnet18"}),
    "resnext": (EncoderUNetSettings, {"encoder": "resnext50_32x4d", "upsampling": "transposed"}),
    "densenet": (EncoderUNetSettings, {"encoder": "densenet121", "upsampling": "linear"}),
    # These keep statistics of the window.
    "efficientnet": (EncoderUNetSettings, {"encoder": "efficientnet-b0"}),
    "unet instance": (UNetSettings, STAGES | {"norm": "instance"}),
    "unet++ group": (UNetPlusPlusSettings, {"features": FIVE, "norm": "group"}),
    "attention instance": (AttentionUNetSettings, {"features": (4, 4, 6), "norm": "instance"}),
    "dense group": (
        DenseUNetSettings,
        {"first_features": 4, "growth": 4, "layers": (1, 1), "norm": "group"},
    ),
    "segresnet group": (
        SegResNetSettings,
        {"first_features": 8, "blocks_down": (1, 1), "blocks_up": (1,), "norm": "group"},
    ),
    "dynunet instance": (DynUNetSettings, STAGES | {"norm": "instance"}),
    "resnet instance": (EncoderUNetSettings, {"encoder": "resnet18", "norm": "instance"}),
    "swin": (SwinUNETRSettings, {"first_features": 12, "depths": (1, 1, 1, 1)}),
}
SEES_THE_WINDOW = [*SMALL][[*SMALL].index("efficientnet") :]
TILES = [name for name in SMALL if name not in SEES_THE_WINDOW]

# Tens of seconds each on a laptop.
LARGE_3D = ("resnext", "densenet", "efficientnet", "resnet instance", "swin")
EINOPS = pytest.mark.skipif(find_spec("einops") is None, reason="Swin UNETR needs einops")


def rows(names: Any, *dimensions: int) -> list[Any]:
    """Give names, and dimensions, as parameters of a test; the costly ones marked slow."""
    return [
        pytest.param(
            *((name, ndim) if dimensions else (name,)),
            marks=[EINOPS] * (name == "swin")
            + [pytest.mark.slow] * (ndim == 3 and name in LARGE_3D),
        )
        for ndim in dimensions or (2,)
        for name in names
    ]


def small(name: str, ndim: int, **changes: Any) -> Any:
    """Give the settings of one network of the table, two channels in and three classes out."""
    kind, fields = SMALL[name]
    fields = {
        key: tuple((n,) * ndim for n in value) if key in ("strides", "kernels") else value
        for key, value in fields.items()
    }
    return kind(ndim=ndim, in_channels=2, out_channels=3, **(fields | changes))


def outputs(model: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Give the logits as a list, whether or not they come as one."""
    y = model(x)
    return y if isinstance(y, list) else [y]
