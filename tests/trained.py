"""Builders of plans and models that were never trained, for tests of what uses them."""

from pathlib import Path

import torch
from torch import nn

from models import Network, UNetSettings, build_model
from pipeline.model_file import save_model
from pipeline.normalise import Normalisation
from pipeline.plan_file import Plan, PlannedClass


def small_plan(ndim: int, channels: int = 1, norm: str = "batch") -> Plan:
    """A plan of a network with stride 4, three classes, the first background."""
    return Plan(
        key="test",
        ndim=ndim,
        channels=tuple(str(c) for c in range(channels)),
        classes=(
            PlannedClass(name="background", background=True),
            PlannedClass(name="liver"),
            PlannedClass(name="tumour"),
        ),
        spacing=(1.0,) * ndim,
        unit="millimeter",
        normalisation=Normalisation(kind="case"),
        patch_shape=(16,) * ndim,
        batch_size=2,
        network=UNetSettings(
            ndim=ndim,
            in_channels=channels,
            out_channels=3,
            features=(4, 8, 8),
            strides=((1,) * ndim, (2,) * ndim, (2,) * ndim),
            kernels=((3,) * ndim,) * 3,
            norm=norm,
        ),
        reasons={},
    )


def random_network(plan: Plan, seed: int = 0) -> Network:
    """A network whose weights and running statistics are all drawn at random."""
    torch.manual_seed(seed)
    model = build_model(plan.network)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer, 0, 0.2)
        if name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2.0)
    return model.eval()


def write_model(folder: Path, plan: Plan, seed: int = 0) -> Path:
    """Store a random network as training would; give the weights' path."""
    path = folder / "best.pt"
    state = random_network(plan, seed).state_dict()
    save_model(path, state, plan, {"steps": 0, "position": 0, "val_score": None})
    return path
