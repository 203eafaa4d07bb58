"""A dataset.json, of Medical Segmentation Decathlon or of nnU-Net."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import SettingsError
from pipeline.io.dataset import ClassSettings

LISTING = "dataset.json"
"""The file's name."""


@dataclass(frozen=True)
class Listing:
    """What a dataset.json says."""

    path: Path
    """Where it is."""
    name: str
    """The dataset's name."""
    classes: tuple[ClassSettings, ...]
    """Its classes."""
    ignored: tuple[int, ...]
    """Values that mean "not annotated"."""
    channels: tuple[str, ...]
    """What each channel is; empty where it does not say."""

    @property
    def modality(self) -> Literal["ct", "other"]:
        """``ct`` where every channel is."""
        ct = [name.strip().lower() == "ct" for name in self.channels]
        return "ct" if ct and all(ct) else "other"


def read_json(path: Path) -> dict[str, Any] | None:
    """What a dataset.json holds; None where it is of another kind.

    Raises:
        SettingsError: It cannot be read, or lacks a mapping of labels.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(lacking(path, error)) from error
    if not isinstance(content, dict) or not {"labels", "training", "file_ending"} & set(content):
        return None
    if not isinstance(content.get("labels"), dict):
        raise SettingsError(lacking(path, KeyError("labels")))
    return content


def lacking(path: Path, error: Exception) -> str:
    """An error about a dataset.json, in words."""
    return (
        f"{path} lacks what a Decathlon dataset.json holds ({error!r}): a list `training` of "
        "{image, label} and a mapping `labels`; nnU-Net's, which has no list, belongs beside "
        "imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz"
    )


def listing_of(path: Path, content: dict[str, Any]) -> Listing:
    """What a dataset.json says.

    Raises:
        SettingsError: Its labels are no classes of one value each.
    """
    classes, ignored = _named_classes(content["labels"], path)
    channels = content.get("channel_names") or content.get("modality") or {}
    names = channels.values() if isinstance(channels, dict) else [channels]
    return Listing(
        path,
        str(content.get("name", path.parent.name)),
        classes,
        ignored,
        tuple(map(str, names)),
    )


def _named_classes(
    labels: dict[str, Any], listing: Path
) -> tuple[tuple[ClassSettings, ...], tuple[int, ...]]:
    """Classes of ``{"0": "background"}`` (Decathlon) or ``{"background": 0}`` (nnU-Net v2)."""
    by_value = all(str(key).lstrip("-").isdigit() for key in labels)
    pairs = labels.items() if by_value else ((value, name) for name, value in labels.items())
    try:
        named = sorted((int(value), str(name).strip()) for value, name in pairs)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"{listing}: `labels` holds {labels}, where each class has one whole number: regions "
            "of several values are not supported, list the values as classes of their own"
        ) from error
    ignored = tuple(value for value, name in named if name.lower() == "ignore" or value < 0)
    classes = tuple(
        ClassSettings(name=name, values=(value,), background=value == 0)
        for value, name in named
        if value not in ignored
    )
    return classes, ignored
