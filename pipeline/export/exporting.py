"""Mask stores → files in the formats of the field, one task per case.

A file is written in a folder of its own beside its place, ``.<name>.partial``, and moved there when
it is whole, with what belongs to it: nobody meets half of one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from pipeline.errors import CaseError, NothingUsableError, SegflowError, SettingsError, StoreError
from pipeline.execute import ExecuteSettings, Progress, run_tasks, silent
from pipeline.export.codes import read_codes
from pipeline.export.formats import FORMATS, FormatName, writer_of
from pipeline.export.opening import open_export, refuse_damaged, refuse_source
from pipeline.export.settings import ExportSettings
from pipeline.io.location import exists, is_remote
from pipeline.io.manifest import QuarantineRow
from pipeline.io.store import published_attributes

STAGE = "export"
WANTED = "give a <case>.zarr that `segflow predict` has made, or the folder that holds them"
FEW_VOXELS = 64 * 2**20
"""Masks that hold no more together are exported here: workers would take longer to start."""


@dataclass(frozen=True)
class ExportTask:
    """One mask to export."""

    mask: Path
    """Its store."""
    final: Path
    """The file."""
    settings: ExportSettings
    """How."""


@dataclass(frozen=True)
class Exported:
    """What ``export`` made."""

    files: tuple[Path, ...]
    """What was written, ordered by name."""
    refused: tuple[QuarantineRow, ...]
    """Masks that could not be exported."""

    @property
    def exit_code(self) -> int:
        """0 complete, 3 complete with refused masks."""
        return 3 if self.refused else 0


def export(
    place: Path,
    out: Path,
    settings: ExportSettings,
    execute: ExecuteSettings | None = None,
    progress: Progress = silent,
) -> Exported:
    """Export a mask, or all masks of a folder.

    Args:
        place: A mask store, or a folder of mask stores.
        out: The file, or the folder, to write; a file of that name is replaced.
        settings: How.
        execute: Where tasks run.
        progress: Told of every mask.

    Raises:
        SettingsError: There is no mask store, or ``out`` cannot hold what is to be written.
        NothingUsableError: No mask could be exported.
    """
    tasks = plan_export(place, out, settings)
    files: list[Path] = []
    refused: list[QuarantineRow] = []
    for ready, done in enumerate(run_tasks(export_mask, tasks, _where(tasks, execute)), start=1):
        case = done.task.mask.name.removesuffix(".zarr")
        if done.error is None:
            files += done.row or []
        else:
            refused.append(QuarantineRow(case, STAGE, done.error.reason, done.error.remedy))
        note = case if done.error is None else f"{case}: refused, {done.error.reason}"
        progress(STAGE, ready, len(tasks), note)
    if not files:
        first = refused[0]
        raise NothingUsableError(
            f"no mask could be exported; {first.case}: {first.reason} {first.remedy}"
        )
    return Exported(tuple(sorted(files)), tuple(sorted(refused, key=lambda row: row.case)))


def _where(tasks: Sequence[ExportTask], execute: ExecuteSettings | None) -> ExecuteSettings:
    """Where tasks run: here, where they are few and small."""
    execute = execute or ExecuteSettings()
    grids = [published_attributes(task.mask).get("grid", {}) for task in tasks]
    few = sum(prod(grid.get("shape", ())) for grid in grids) < FEW_VOXELS
    return execute.model_copy(update={"on": "serial"}) if few else execute


def plan_export(place: Path, out: Path, settings: ExportSettings) -> list[ExportTask]:
    """One task per mask; no voxel is read.

    Raises:
        SettingsError: There is no mask store, ``out`` cannot hold what is to be written, or
            ``settings.codes`` are none.
    """
    suffixes = FORMATS[settings.to].suffixes
    read_codes(settings.codes)  # a mistake in them is no mask's
    if place.name in ("", ".."):  # the folder one is in has no name to call the case by
        place = place.absolute().resolve()
    if not exists(place, "STORE") and (is_remote(place) or not place.exists()):
        raise SettingsError(f"{place} does not exist: {WANTED}")
    if _is_store(place):
        final = out / f"{_case(place)}{suffixes[0]}" if out.is_dir() else out
        _refuse_name(final, settings.to)
        if not is_remote(place) and final.resolve().is_relative_to(place.resolve()):
            raise SettingsError(f"{out} lies inside the store {place}: write it elsewhere")
        return [ExportTask(place, final, settings)]
    masks = sorted(p for p in _entries(place) if p.name.endswith(".zarr"))
    masks = [mask for mask in masks if not mask.name.startswith(".")]
    if not masks:
        raise SettingsError(f"{place} is no mask store, and no folder of them: {WANTED}")
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out} is a file, and {place} holds {len(masks)} masks: name a folder")
    return [ExportTask(mask, out / f"{_case(mask)}{suffixes[0]}", settings) for mask in masks]


def _is_store(place: Path) -> bool:
    return place.name.endswith(".zarr") or (place / "zarr.json").exists()


def _entries(place: Path) -> list[Path]:
    return list(place.iterdir()) if place.is_dir() else []


def _case(mask: Path) -> str:
    return mask.name.removesuffix(".zarr")


def _refuse_name(final: Path, to: FormatName) -> None:
    form = FORMATS[to]
    if not final.name.lower().endswith(form.suffixes):
        raise SettingsError(
            f"{final.name} is no name for {to} ({form.about}): it ends with "
            f"{' or '.join(form.suffixes)}, or name a folder that exists"
        )


def export_mask(task: ExportTask) -> list[Path]:
    """Write the files of one mask; the kernel of ``export``.

    Raises:
        CaseError: The store is not complete or damaged, or the format cannot hold it.
    """
    final = task.final
    folder = final.with_name(f".{final.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _make(folder)
        given = open_export(task.mask, folder / final.name, task.settings)
        refuse_source(given, final)
        writer_of(task.settings.to)(given)
        return _moved(folder, final)
    except CaseError:
        raise
    except StoreError as error:
        raise CaseError(f"{error}.", "Predict the case, then export it again.") from error
    except SegflowError as error:
        raise CaseError(f"{error}.", "Then export again.") from error
    except Exception as error:
        refuse_damaged(task.mask, error)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise CaseError(
            f"{folder.parent} cannot be written to ({error.strerror}).", "Choose another place."
        ) from error


def _moved(folder: Path, final: Path) -> list[Path]:
    """Move what was written to its place, the file itself last."""
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: name == final.name)
    for name in names:
        os.replace(folder / name, final.with_name(name))
    return [final.with_name(name) for name in names]
