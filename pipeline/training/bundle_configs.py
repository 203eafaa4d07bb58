"""What a MONAI bundle's configuration files say, as JSON values.

Expressions (``$``) and references (``@``) are MONAI's: ``monai.bundle.ConfigParser`` reads them.
MONAI loads images as (C, X, Y, Z) with an affine, the network takes (C, Z, Y, X): whatever needs
the affine comes before the axes are turned round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from models import fitting_shape
from pipeline.model_file import ModelCard
from pipeline.normalise import Scaling
from pipeline.plan_file import Plan
from pipeline.space import Shape

Config = dict[str, Any]
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
IGNITE = "0.4.11"
"""The oldest pytorch-ignite that MONAI's evaluator runs with."""


@dataclass(frozen=True)
class Laying:
    """How the bundle lays the network over an image."""

    stride: Shape
    """The network's total stride."""
    window: Shape | None
    """Size of every pass, as the network sees its axes; None: an image is one pass."""
    any_size: bool
    """Whether the network's form takes all sizes that fit."""
    mirrored: bool = False
    """Whether that form pads by itself, with the image's mirror image."""


def inference(plan: Plan, laying: Laying) -> Config:
    """What ``configs/inference.json`` says: from image files to mask files."""
    return {
        "imports": ["$import glob", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "pattern": "*.nii.gz" if plan.ndim == 3 else "*.png",
        "output_dir": "$@bundle_root + '/masks'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$[{'image': f} for f in sorted(glob.glob(@dataset_dir + '/' + @pattern))]",
        "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)",
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(plan, laying)},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(laying.window or (-1,) * plan.ndim),
            "sw_batch_size": 1,
            "overlap": 0.5,
            "mode": "gaussian",
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(plan)},
        "handlers": [],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _preprocessing(plan: Plan, laying: Laying) -> list[Config]:
    steps = [_step("LoadImaged", ensure_channel_first=True), *_normalisation(plan)]
    if resamples(plan):
        steps.append(
            _step(
                "Spacingd",
                pixdim=list(reversed(plan.spacing)),
                mode=3,
                padding_mode="nearest",
                scale_extent=True,
            )
        )
    steps.append(_step("Transposed", indices=[0, *range(plan.ndim, 0, -1)]))
    # Past its end, and with the mean, as segflow itself pads.
    if laying.window is not None:
        steps.append(_step("SpatialPadd", spatial_size=list(laying.window), method="end"))
    elif not laying.mirrored:
        least = fitting_shape(plan.network, (1,) * plan.ndim)
        steps.append(_step("DivisiblePadd", k=list(laying.stride), method="end"))
        steps.append(_step("SpatialPadd", spatial_size=list(least), method="end"))
    return [*steps, _step("EnsureTyped", dtype="$torch.float32")]


def resamples(plan: Plan) -> bool:
    """Whether the bundle brings images to the planned spacing; MONAI knows that of scans only."""
    return plan.resample and plan.unit == "millimeter"


def _normalisation(plan: Plan) -> list[Config]:
    channels = plan.normalisation.channels
    if plan.normalisation.kind == "case":
        if not plan.normalisation.nonzero:
            return [_step("NormalizeIntensityd", channel_wise=True)]
        if len(plan.channels) == 1:
            return [_step("NormalizeIntensityd", channel_wise=True, nonzero=True)]
        # MONAI's own leaves out the zeros of each channel; here those of all channels.
        return [_step("Lambdad", func=_nonzero(plan.ndim))]
    steps = [
        _step(
            "NormalizeIntensityd",
            subtrahend=[c.mean for c in channels],
            divisor=[c.std for c in channels],
            channel_wise=True,
        )
    ]
    if any(c.lower is not None or c.upper is not None for c in channels):
        steps.insert(0, _step("Lambdad", func=_clip(plan.ndim, channels)))
    return steps


def _nonzero(ndim: int) -> str:
    """An expression that scales voxels of which any channel is not 0, by their own moments."""
    shape = (-1, *(1,) * ndim)
    return (
        "$lambda image: (lambda inside: (lambda mean, std: torch.where(inside, (image - "
        f"mean.float().reshape({shape})) / torch.where(std > mean.abs() * 1.2e-7, std, 1.0)"
        f".float().reshape({shape}), 0.0))(image[:, inside].double().mean(1), "
        "image[:, inside].double().std(1, correction=0)))((image != 0).any(dim=0))"
    )


def _clip(ndim: int, channels: Sequence[Scaling]) -> str:
    """An expression that brings each channel within its limits."""
    lower = ["-float('inf')" if c.lower is None else repr(c.lower) for c in channels]
    upper = ["float('inf')" if c.upper is None else repr(c.upper) for c in channels]
    shape = (-1, *(1,) * ndim)
    limits = [f"torch.tensor([{', '.join(v)}]).reshape({shape})" for v in (lower, upper)]
    return f"$lambda image: image.clamp({limits[0]}, {limits[1]})"


def _postprocessing(plan: Plan) -> list[Config]:
    dtype, picture = plan.mask_dtype.name, plan.ndim == 2 and plan.mask_dtype.name == "uint8"
    return [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        _decision(plan),
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "",
            "output_ext": ".png" if picture else ".nii.gz",
            "output_dtype": f"$numpy.{dtype}",
            "resample": False,
            "separate_folder": False,
        },
    ]


def _decision(plan: Plan) -> Config:
    decision = plan.decision
    if decision.kind == "softmax":
        return {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
    if decision.kind == "linear":
        does = f"$lambda pred: pred * {decision.std!r} + {decision.mean!r}"
    else:
        # The class of the most likely set of regions; see models.Decision.
        members = [[float(m) for m in row] for row in decision.members]
        does = (
            f"$lambda pred: torch.stack([sum(m * p for m, p in zip(row, pred)) "
            f"for row in {members}]).argmax(0, keepdim=True)"
        )
    return {"_target_": "Lambdad", "keys": "pred", "func": does}


def _step(name: str, **arguments: Any) -> Config:
    return {"_target_": name, "keys": "image", **arguments}


def metadata(card: ModelCard, laying: Laying, key: str) -> Config:
    """What ``configs/metadata.json`` says, by MONAI's bundle specification.

    Args:
        card: Of the model.
        laying: How it is laid over images.
        key: Of all that the bundle is made from.
    """
    plan = card.plan
    names = [c.name for c in plan.classes] or [plan.target.name if plan.target else ""]
    score = card.training.get("val_score")
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by segflow {card.versions['segflow']}"},
        "monai_version": version("monai"),
        "pytorch_version": card.versions["torch"].partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"nibabel": version("nibabel"), "pytorch-ignite": IGNITE},
        "name": card.model_id,
        "task": f"{plan.task} of {', '.join(names)} in {plan.ndim}-D images",
        "description": (
            f"{plan.network.kind} trained by segflow for {card.training.get('steps')} steps"
        ),
        "authors": f"segflow {card.versions['segflow']}",
        "copyright": "whoever trained the model",
        "eval_metrics": {} if score is None else {"r2" if plan.target else "mean_dice": score},
        "network_data_format": {
            "inputs": {"image": _tensor(plan, laying, "magnitude", plan.channels)},
            "outputs": {"pred": _tensor(plan, laying, _format(plan), output_names(plan))},
        },
        "segflow": {"key": key, "model_id": card.model_id, "weights_sha256": card.weights_sha256},
    }


def _tensor(plan: Plan, laying: Laying, kind: str, channels: Sequence[str]) -> Config:
    shape: list[Any] = list(laying.window or ())
    if laying.any_size:
        # One letter for axes that do not depend on each other: MONAI's own checker knows no other.
        shape = [1 if laying.mirrored else s for s in laying.stride]
        shape = [f"{s}*n" for s in shape]
    return {
        "type": "image",
        "format": kind,
        "modality": "n/a",
        "num_channels": len(channels),
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": laying.window is not None,
        "channel_def": {str(number): name for number, name in enumerate(channels)},
    }


def _format(plan: Plan) -> str:
    return {"softmax": "labels", "sigmoid": "classes", "linear": "magnitude"}[plan.decision.kind]


def output_names(plan: Plan) -> list[str]:
    """What each channel of the network's output stands for."""
    if plan.target is not None:
        return [plan.target.name]
    names, members = [c.name for c in plan.classes], plan.decision.members
    if not members:
        return names
    regions = zip(*members, strict=True)
    return [" or ".join(n for n, m in zip(names, row, strict=True) if m) for row in regions]
