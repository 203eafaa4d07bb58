"""A trained model as a MONAI bundle: for programs that do not have this code.

``monai.bundle`` runs it from image files to mask files; ``torch.jit.load`` takes its network.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from models import (
    Exported,
    ExportError,
    Mirrored,
    Network,
    to_torchscript,
    torchscript_bytes,
)
from pipeline.errors import StoreError
from pipeline.io.files import digest, read_json, remove_tree, write_atomic, write_json
from pipeline.io.manifest import read_manifest
from pipeline.model_file import ModelCard, load_model, read_card
from pipeline.network_tiling import plan_tiling
from pipeline.plan_file import Plan
from pipeline.space import Grid, Resampling, Shape
from pipeline.training.bundle_configs import Laying, inference, metadata
from pipeline.training.bundle_readme import readme

VERSION = 1
"""Raised when the same model would give another bundle."""
MEMORY_GB = 8.0
"""What a pass may hold where the bundle will run, which is not known: a small GPU."""
log = logging.getLogger(__name__)


def try_bundle(checkpoints: Path, manifest: Path) -> str | None:
    """Write the bundle of ``best.pt``, ``checkpoints/bundle``; why there is none, or None.

    A trained model is worth keeping without its bundle: no error leaves this function.

    Args:
        checkpoints: Folder of the weights.
        manifest: The cases that the model was made for.
    """
    folder = checkpoints / "bundle"
    try:
        grids = [Grid.from_json(r.grid) for r in read_manifest(manifest) if r.status == "complete"]
        plan = read_card(checkpoints / "best.pt").plan
        write_bundle(folder, checkpoints / "best.pt", largest_case(plan, grids))
    except ExportError as error:
        return str(error)
    except Exception as error:
        log.warning("the bundle %s could not be written", folder, exc_info=True)
        return f"{folder} could not be written ({error}): run `segflow train` again"
    return None


def write_bundle(folder: Path, model: Path, largest: Shape | None) -> None:
    """Write a model's bundle, whole or not at all; one of the same model is left alone.

    Args:
        folder: The bundle's own folder.
        model: The weights' file, with its sidecar beside it.
        largest: Largest case the model was made for, in planned voxels; None: unknown. Where it
            fits in memory an image is one pass, else windows are blended.

    Raises:
        ExportError: The network has no form that runs without this code; no bundle stands then.
        ModelError: The model is absent or damaged.
    """
    card = read_card(model)
    tools = [version(name) for name in ("monai", "torch")]
    key = digest(VERSION, card.model_dump(mode="json"), largest, tools)
    if _key_of(folder) == key:
        return
    remove_tree(folder)
    network, _ = load_model(model)
    assert isinstance(network, Network)
    exported, laying = _exported(network.eval(), card.plan, largest)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    remove_tree(partial)
    try:
        _write(partial, card, exported, laying, key)
        partial.rename(folder)
    finally:
        remove_tree(partial)


def largest_case(plan: Plan, grids: Sequence[Grid]) -> Shape | None:
    """The size that holds each of some cases, in planned voxels; None of no case."""
    shapes = [Resampling.to_spacing(g, plan.spacing_of(g)).planned.shape for g in grids]
    return tuple(max(axis) for axis in zip(*shapes, strict=True)) if shapes else None


def _key_of(folder: Path) -> str | None:
    """The key of a bundle that stands; None of none."""
    try:
        return str(read_json(folder / "configs" / "metadata.json")["segflow"]["key"])
    except (StoreError, KeyError, TypeError):
        return None


def _exported(network: Network, plan: Plan, largest: Shape | None) -> tuple[Exported, Laying]:
    exported = to_torchscript(network, plan.patch_shape)
    tiling = plan_tiling(plan, "float32", memory_gb=MEMORY_GB, largest=largest)
    exact = tiling.blend == "exact" and exported.any_size
    fits = largest is not None and all(t >= n for t, n in zip(tiling.tile, largest, strict=True))
    if tiling.margin:
        if not exported.any_size:
            raise ExportError("an unpadded network needs a form that takes any size, and has none")
        form = torch.jit.script(Mirrored(exported.form, network.settings))
        exported = Exported(form, exported.any_size, exported.difference)
    if exact and fits:
        return exported, Laying(tiling.stride, None, True, mirrored=bool(tiling.margin))
    # Twice the stride, so that windows half a window apart start on multiples of it.
    around = [t + 2 * h for t, h in zip(tiling.tile, tiling.halo, strict=True)]
    even = tuple(-(-n // (2 * s)) * 2 * s for n, s in zip(around, tiling.stride, strict=True))
    window = even if exact else tiling.tile
    return exported, Laying(tiling.stride, window, exported.any_size, mirrored=bool(tiling.margin))


def _write(
    folder: Path,
    card: ModelCard,
    exported: Exported,
    laying: Laying,
    key: str,
) -> None:
    about, running = metadata(card, laying, key), inference(card.plan, laying)
    write_json(folder / "configs" / "metadata.json", about)
    write_json(folder / "configs" / "inference.json", running)
    texts = {"metadata.json": json.dumps(about), "inference.json": json.dumps(running)}
    write_atomic(folder / "models" / "model.ts", torchscript_bytes(exported.form, texts))
    weights = io.BytesIO()
    state = exported.form.state_dict()  # by the names under which MONAI puts them back
    torch.save({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    write_atomic(folder / "models" / "model.pt", weights.getvalue())
    write_atomic(folder / "docs" / "README.md", readme(card, laying).encode())
