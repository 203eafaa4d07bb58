"""Our loop against nnU-Net's: same network, patch, batch, threads, and as many loader processes.

Both loops are the programs' own, their loaders and augmentation included: ``train_rank``, and
``nnUNetTrainer.train_step`` on its ``dataloader_train``, in float32 on CPUs as nnU-Net has it.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np

from models import UNetSettings, build_model
from models.unet_blocks import has_bias
from pipeline.errors import SettingsError
from pipeline.io.manifest import usable_cases
from pipeline.io.volume_store import VolumeStore
from pipeline.plan_file import Plan
from pipeline.processor import best_processor
from pipeline.space import Window
from pipeline.training.dataset import loader_workers
from pipeline.training.distributed import environment
from tests.bench.nnunet_side import DATASET
from tests.bench.sides import ROOT, Side, in_turns, ratio
from tests.bench.training_loader import our_side
from tests.bench.training_run import BenchedRun

GOAL = 3.0
"""Times as many steps a second as nnU-Net."""
CASES = 40
"""Training cases that nnU-Net gets: enough for its loader, and soon preprocessed."""
ALIKE = 0.02
"""Share by which the numbers of weights may differ: nnU-Net's coarse heads, biases of its own."""
NORMS = {"batch": "batchnorm.BatchNorm3d", "instance": "instancenorm.InstanceNorm3d"}
SCRIPT = ROOT / "tests/bench/nnunet_side.py"


def nnunet(
    run: BenchedRun, scratch: Path, python: Path, seconds: float, steps: int
) -> dict[str, Any]:
    """Steps per second of both loops, in turns.

    Args:
        run: The run.
        scratch: Folder for nnU-Net's data.
        python: A python that has nnunetv2.
        seconds: For measuring.
        steps: Of a block.
    """
    processor = best_processor(run.plan.ndim, precision=run.settings.train.precision)
    threads = int(environment(1)["OMP_NUM_THREADS"])
    workers = max(1, loader_workers(run.settings.train.loader_workers, processor.device, threads))
    folder = scratch / "nnunet"
    export(run, folder)
    job = {
        "folder": str(folder),
        "plan": nnunet_plan(run.plan),
        "channels": len(run.plan.channels),
        "classes": len(run.plan.classes),
        "processes": os.cpu_count() or 1,
        "threads": threads,
        "device": processor.device,
    }
    known = prepared(python, job, folder)
    own = sum(p.numel() for p in build_model(run.plan.network).parameters())
    if abs(known["parameters"] - own) > ALIKE * own:
        raise RuntimeError(
            f"nnU-Net's network has {known['parameters']} weights, ours {own}: not the same network"
        )
    with ExitStack() as stack:

        def ours(precision: str) -> Side:
            changes = {"precision": precision, "accumulate": 1, "loader_workers": workers}
            task = run.endless(scratch / precision, **changes)
            return stack.enter_context(our_side(task, scratch / f"{precision}.json"))

        def theirs(deep: bool) -> Side:
            path = folder / f"deep-{deep}.json"
            path.write_text(json.dumps({**job, "deep_supervision": deep}))
            command = [str(python), str(SCRIPT), "train", str(path)]
            return stack.enter_context(Side(command, variables(folder, workers)))

        deep = theirs(True)
        feeds = {"ours": (ours(processor.precision), "loader"), "nnunet": (deep, "loader")}
        feeds["nnunet_one_batch"] = deep, "repeated"
        feeds["nnunet_one_head"] = theirs(False), "loader"
        if processor.precision != "float32":
            feeds["ours_float32"] = ours("float32"), "loader"
        found = in_turns(feeds, steps, seconds)
    compared = {name: ratio(found[name], found["ours"]) for name in found if name != "ours"}
    return {
        "steps_per_s": {name: round(1 / median(times), 4) for name, times in found.items()},
        "times_faster_than": compared,
        "goal": GOAL,
        "met": compared["nnunet"]["ratio"] >= GOAL,
        "patch_shape": list(run.plan.patch_shape),
        "batch_size": run.plan.batch_size,
        "weights": {"ours": own, "nnunet": known["parameters"]},
        "precision": {"ours": processor.precision, "nnunet": _precision(processor.device)},
        "device": processor.device,
        "threads": job["threads"],
        "loader_workers": workers,
        "rounds": len(found["ours"]),
        "steps_per_block": steps,
        "versions": {k: known[k] for k in ("nnunetv2", "torch")},
    }


def _precision(device: str) -> str:
    # nnUNetTrainer.train_step: autocast on CUDA devices alone.
    return "float16" if device.startswith("cuda") else "float32"


def nnunet_plan(plan: Plan) -> dict[str, Any]:
    """Our plan in nnU-Net's words.

    Raises:
        SettingsError: nnU-Net has no such network.
    """
    network = plan.network
    fits = isinstance(network, UNetSettings) and plan.ndim == 3 and bool(plan.classes)
    # What remains must be what PlainConvUNet is.
    plain = {
        "blocks": "plain",
        "activation": "leaky_relu",
        "downsampling": "strided",
        "upsampling": "transposed",
        "padding": "same",
    }
    if not fits or any(getattr(network, k) != v for k, v in plain.items()) or any(network.dropouts):
        raise SettingsError("nnU-Net is compared on plain three-dimensional U-Nets of classes only")
    if network.norm not in NORMS:
        raise SettingsError(f"nnU-Net is compared with {' and '.join(NORMS)} norm only")
    stages = len(network.features)
    return {
        "patch_size": list(plan.patch_shape),
        "batch_size": plan.batch_size,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": list(network.features),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [list(kernel) for kernel in network.kernels],
                "strides": [list(stride) for stride in network.strides],
                "n_conv_per_stage": [network.convs_per_stage] * stages,
                "n_conv_per_stage_decoder": [network.convs_per_stage] * (stages - 1),
                "conv_bias": has_bias(network),
                "norm_op": f"torch.nn.modules.{NORMS[network.norm]}",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }


def export(run: BenchedRun, folder: Path) -> None:
    """Write training cases as nnU-Net's raw data."""
    raw = folder / "raw" / DATASET
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
    rows = usable_cases(run.folder.manifest, ["train"], run.folder.volumes)[:CASES]
    for number, row in enumerate(rows):
        store = VolumeStore(run.folder.volumes / row.store)
        whole = Window((0,) * len(store.grid.shape), store.grid.shape)
        # Of the case's place in the world only the size of its voxels matters here.
        affine = np.diag([*store.grid.spacing[::-1], 1.0])
        for channel, voxels in enumerate(store.read(whole).array):
            image = nib.Nifti1Image(voxels.T.astype(np.float32), affine)
            nib.save(image, raw / "imagesTr" / f"case{number:03}_{channel:04}.nii.gz")
        truth = store.read_truth(whole)
        label = np.where(truth == run.plan.no_label, 0, truth).astype(np.uint8)
        nib.save(nib.Nifti1Image(label.T, affine), raw / "labelsTr" / f"case{number:03}.nii.gz")
    listing = {
        "channel_names": {str(i): name for i, name in enumerate(run.plan.channels)},
        # nnU-Net wants its background first, by this name.
        "labels": {
            "background": 0,
            **{f"class{i}": i for i in range(1, len(run.plan.classes))},
        },
        "numTraining": len(rows),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(listing))


def variables(folder: Path, workers: int) -> dict[str, str]:
    """nnU-Net's settings, which are environment variables."""
    places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    return {**places, "nnUNet_n_proc_DA": str(workers)}


def prepared(python: Path, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Let nnU-Net plan and preprocess; give what it says of its network."""
    path = folder / "prepare.json"
    path.write_text(json.dumps(job))
    done = subprocess.run(
        [str(python), str(SCRIPT), "prepare", str(path)],
        env={**os.environ, **variables(folder, 1)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"nnU-Net could not prepare: {done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))
