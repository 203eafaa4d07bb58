"""What is done to a mask when all of it is labelled: components are judged, and objects numbered.

A mask of one piece is refined in memory. Of a larger one, each piece is searched, what is found is
put together, and each piece is painted anew from its draft, which stays as it was until then: so
that a killed run can paint again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.components import (
    BlockParts,
    BlockValues,
    Cleanup,
    Components,
    apply,
    block_parts,
    cleaned,
    grown_window,
    merge,
    objects,
)
from pipeline.errors import CaseError
from pipeline.io.companion_store import Companion, CompanionWriter
from pipeline.io.mask_store import MaskWriter
from pipeline.model_file import ModelCard
from pipeline.plan_file import Plan
from pipeline.predict.settings import PredictSettings
from pipeline.space import Grid, Window


@dataclass(frozen=True)
class Refinement:
    """What is done to masks."""

    cleanup: Cleanup
    """To their components."""
    objects: bool
    """Whether objects are numbered."""

    @classmethod
    def of(cls, settings: PredictSettings, card: ModelCard) -> Refinement | None:
        """What the settings and the model ask for; None: nothing."""
        cleanup = card.cleanup if settings.cleanup else Cleanup()
        if not cleanup.active and not settings.objects:
            return None
        return cls(cleanup, settings.objects)

    def __hash__(self) -> int:
        """Equal for equal rules, which pydantic keeps in a dict."""
        return hash((self.cleanup.model_dump_json(), self.objects))


@dataclass(frozen=True)
class Refined:
    """A mask, or a piece of one."""

    labels: NDArray[Any]
    """Its labels."""
    objects: NDArray[Any] | None
    """Its object numbers, where they are asked for."""


def refine(labels: NDArray[Any], grid: Grid, plan: Plan, refinement: Refinement) -> Refined:
    """Refine a mask that is in memory.

    Args:
        labels: All of it, (*S).
        grid: Its grid.
        plan: The model's.
        refinement: What to do.
    """
    window = Window.whole(grid.shape)
    components = merge(grid.shape, [_parts(labels, window, grid, plan)])
    tables = _tables(components, grid, refinement)
    return _painted(labels, plan, *_values(components, window, tables))


@dataclass(frozen=True)
class FindTask:
    """A piece of a draft to search for components."""

    final: Path
    """The mask store."""
    window: Window
    """The piece."""
    grid: Grid
    """The mask's."""
    plan: Plan
    """The model's."""


@dataclass(frozen=True)
class PaintTask:
    """A piece of a mask to paint."""

    final: Path
    """The mask store."""
    unit: str
    """The piece's name in the ledger."""
    plan: Plan
    """The model's."""
    labels: BlockValues
    """What its components become."""
    objects: BlockValues | None
    """Their object numbers, where they are asked for."""


def find_parts(task: FindTask) -> BlockParts:
    """Search a piece of a draft."""
    draft = MaskWriter(task.final).read_draft(grown_window(task.window, task.grid.shape))
    return _parts(draft, task.window, task.grid, task.plan)


def paint(task: PaintTask) -> str:
    """Write a piece of a mask, and of its objects; give its unit."""
    writer, window = MaskWriter(task.final), task.labels.window
    draft = writer.read_draft(grown_window(window, task.labels.shape))
    done = _painted(draft, task.plan, task.labels, task.objects)
    write_refined(task.final, window, done)
    return task.unit


def write_refined(final: Path, window: Window, done: Refined) -> None:
    """Write a piece of a mask, and of the objects beside it."""
    MaskWriter(final).write(window, done.labels)
    if done.objects is not None:
        if done.objects.dtype.itemsize > 4:
            raise CaseError(
                "its mask falls into more than 4,294,967,295 objects.",
                "Set predict.objects to false, or predict it in parts.",
            )
        companion = Companion.objects()
        CompanionWriter(companion, companion.path(final)).write(window, done.objects)


def paint_tasks(
    final: Path,
    units: dict[str, Window],
    components: Components,
    grid: Grid,
    plan: Plan,
    refinement: Refinement,
) -> list[PaintTask]:
    """What there is to paint, once all components are known.

    Args:
        final: The mask store.
        units: Pieces by their names in the ledger.
        components: Of the draft.
        grid: The mask's.
        plan: The model's.
        refinement: What to do.
    """
    tables = _tables(components, grid, refinement)
    return [
        PaintTask(final, unit, plan, *_values(components, window, tables))
        for unit, window in units.items()
    ]


def _parts(labels: NDArray[Any], window: Window, grid: Grid, plan: Plan) -> BlockParts:
    return block_parts(
        labels,
        window,
        grid.shape,
        background=plan.background,
        no_label=int(plan.no_label),
        classes=len(plan.classes),
    )


Tables = tuple[NDArray[Any], NDArray[Any] | None]
"""New label of each component, and its object number where those are asked for."""


def _tables(components: Components, grid: Grid, refinement: Refinement) -> Tables:
    after = cleaned(components, refinement.cleanup, prod(grid.spacing))
    return after, objects(components, after) if refinement.objects else None


def _values(
    components: Components, window: Window, tables: Tables
) -> tuple[BlockValues, BlockValues | None]:
    """What one block needs of both."""
    after, numbers = tables
    told = None if numbers is None else components.values(window, numbers)
    return components.values(window, after), told


def _painted(
    labels: NDArray[Any], plan: Plan, after: BlockValues, numbers: BlockValues | None
) -> Refined:
    no_label = int(plan.no_label)
    return Refined(
        apply(labels, after, no_label=no_label),
        None if numbers is None else apply(labels, numbers, no_label=no_label, fill=0),
    )
