"""A trained model as it is stored: weights, and a JSON sidecar with all else.

Weights are a plain state dict that loads with ``weights_only=True``: nothing in it can run.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

import pipeline
from models import Network, build_model
from pipeline.components import Cleanup
from pipeline.errors import ModelError, StoreError
from pipeline.io.files import json_bytes, read_json, write_atomic, write_together
from pipeline.plan_file import Plan


class ModelCard(BaseModel):
    """All that is known of a model besides its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model_id: str
    """Name of the network and the start of the weights' digest: the folder of its predictions."""
    weights_sha256: str
    """Digest of names, types, shapes and bytes of all tensors."""
    plan: Plan
    """The plan the model was trained by."""
    plan_key: str
    """The plan's content key."""
    training: dict[str, Any]
    """Position, steps, validation Dice: JSON values, nothing that varies between equal runs."""
    cleanup: Cleanup = Cleanup()
    """What validation taught of the components of its masks."""
    versions: dict[str, str]
    """Software that trained the model."""


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Digest of a state dict that depends on nothing but its tensors."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def save_tensors(path: Path, value: Any) -> None:
    """Write tensors and plain values with torch, atomically."""
    write_atomic(path, _packed(value))


def _packed(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def save_model(
    path: Path, state: Mapping[str, Tensor], plan: Plan, training: dict[str, Any]
) -> None:
    """Write weights and sidecar.

    Args:
        path: The weights' file, ``*.pt``; the sidecar stands beside it as ``*.json``.
        state: The network's state dict.
        plan: The plan it was trained by.
        training: Position, steps, validation Dice.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    sha = weights_sha256(contiguous)
    card = ModelCard(
        model_id=f"{plan.network.kind}-{sha[:10]}",
        weights_sha256=sha,
        plan=plan,
        plan_key=plan.content_key,
        training=training,
        versions=versions(),
    )
    sidecar = json_bytes(card.model_dump(mode="json"))
    # Together: a full disk leaves the former weights, and the sidecar that describes them.
    write_together({path: _packed(contiguous), path.with_suffix(".json"): sidecar})


def versions() -> dict[str, str]:
    """Versions of the software that decides what a model or a mask is."""
    return {
        "segflow": pipeline.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def read_card(path: Path) -> ModelCard:
    """Read a model's sidecar.

    Args:
        path: The weights' file.

    Raises:
        ModelError: The sidecar is absent or damaged.
    """
    try:
        return ModelCard.model_validate(read_json(path.with_suffix(".json")))
    except (StoreError, ValidationError) as error:
        raise ModelError(
            f"there is no usable model at {path} ({os.path.basename(path)} and its .json): "
            "run `segflow train` first"
        ) from error


def write_card(path: Path, card: ModelCard) -> None:
    """Replace the sidecar of weights that stay."""
    write_atomic(path.with_suffix(".json"), json_bytes(card.model_dump(mode="json")))


def load_model(path: Path) -> tuple[Network, ModelCard]:
    """Build a network and give it its trained weights.

    Raises:
        ModelError: The model is absent, damaged, or of another network.
    """
    card = read_card(path)
    state = read_tensors(path)
    network = build_model(card.plan.network)
    try:
        network.load_state_dict(state)
        found = weights_sha256(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ModelError(
            f"the weights {path} are damaged or of another network than {card.model_id}, which "
            "the sidecar describes: put them back, or run `segflow train` again"
        ) from error
    if found != card.weights_sha256:
        raise ModelError(
            f"the weights {path} are not those its sidecar describes: run `segflow train` again"
        )
    return network, card


def read_tensors(path: Path) -> Any:
    """Read what ``save_tensors`` wrote; nothing in it can run.

    Raises:
        ModelError: The file is absent or damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        said = str(error).strip().partition("\n")[0][:200]
        raise ModelError(
            f"the weights {path} are damaged or of another network ({said}): put them back, or "
            "delete the file and run `segflow train` again"
        ) from error
