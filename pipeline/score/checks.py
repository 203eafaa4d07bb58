"""Whether a mask and a truth can be compared: they are of one image, one grid, one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import CaseError
from pipeline.io.mask_store import MaskStore
from pipeline.io.volume_store import VolumeStore

AGAIN = "Run `segflow predict` again."


def refuse_unlike(mask: MaskStore, volume: VolumeStore, names: Sequence[str] | None) -> None:
    """Refuse to compare what does not belong together; no voxel is read.

    Args:
        mask: A case's mask.
        volume: Its image and truth.
        names: Class names of the model, by label; None: it predicts numbers.

    Raises:
        CaseError: Mask and volume are not of the same image, task or classes.
    """
    if mask.grid.shape != volume.grid.shape:
        raise CaseError(
            f"its mask has shape {mask.grid.shape}, its truth {volume.grid.shape}.", AGAIN
        )
    if _image_sha256(mask.attributes["sources"]) != _image_sha256(volume.sources):
        raise CaseError("its mask was made from another version of its image.", AGAIN)
    wanted = _content(names is None)
    for what, target in (("mask", mask.target), ("truth", volume.target)):
        if (held := _content(target is not None)) != wanted:
            raise CaseError(
                f"its {what} holds {held}, the model makes {wanted}.",
                "See data.task, and run `segflow run` with all its stages.",
            )
    if names is not None and (told := volume.class_names) != tuple(names):
        raise CaseError(
            f"its truth has the classes {', '.join(told)}, the model {', '.join(names)}.",
            "The classes have changed since training: run `segflow run` with all its stages, or "
            "set data.classes as they were.",
        )


def _content(numbers: bool) -> str:
    return "numbers" if numbers else "classes"


def _image_sha256(sources: Sequence[dict[str, Any]]) -> list[str]:
    return [source["sha256"] for source in sources if source["role"] == "image"]
