"""What a prediction would do, told before it does it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import CaseError, StoreError
from pipeline.execute import ExecuteSettings
from pipeline.io.manifest import usable_cases
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import read_card
from pipeline.network_tiling import process_bytes
from pipeline.planned_case import PlannedCase, tiles_of
from pipeline.predict.arrangement import Arrangement, arrange
from pipeline.predict.pieces import plan_predict
from pipeline.predict.settings import PredictSettings
from pipeline.predict.stage import cases_of
from pipeline.predict.tasks import laid_network
from pipeline.processor import forward
from pipeline.space import HaloTile


@dataclass(frozen=True)
class Outlook:
    """What a prediction would do."""

    cases: int
    """Cases to predict."""
    done: int
    """Others, whose masks stand."""
    refused: int
    """Others, which cannot be predicted."""
    pieces: int
    """Boxes that are written, each by one worker."""
    tiles: int
    """Passes of the network, if no tile is empty."""
    voxels: int
    """To label, on the planned grids."""
    redundancy: float
    """Voxels that the network is shown for each one it labels."""
    bytes: int
    """Memory of a worker, expected."""
    seconds: float
    """Of all passes, by one of them; reading and writing go on beside."""
    arranged: Arrangement
    """Where, and in what tiles."""

    def to_json(self) -> dict[str, Any]:
        """The outlook as JSON values."""
        plain = {k: v for k, v in vars(self).items() if k != "arranged"}
        processor, tiling = self.arranged.processor, self.arranged.tiling
        where = {"device": processor.device, "precision": processor.precision}
        return {**plain, **tiling.to_json(), **where, "reason": tiling.reason}


def foresee(
    settings: PredictSettings,
    execute: ExecuteSettings,
    *,
    run_name: str,
    model: Path,
    manifest: Path,
    volumes: Path,
    output: Path,
) -> Outlook:
    """Say what ``predict`` would do; nothing is written, and one pass is run to know its time.

    Arguments as of ``predict``.

    Raises:
        NothingUsableError: There is no case.
        ModelError: There is no usable model.
    """
    card = read_card(model)
    cases = cases_of(usable_cases(manifest, settings.splits, volumes), volumes, output, card)
    arranged = arrange(cases, settings, execute, model, card)
    tiling, processor = arranged.tiling, arranged.processor
    done = refused = pieces = 0
    tiles: list[HaloTile] = []
    for case in cases:
        try:
            wanted = plan_predict(case, card, arranged, run_name)
        except (CaseError, StoreError):
            refused += 1
            continue
        if wanted.is_done:
            done += 1
            continue
        planned = PlannedCase.of(VolumeStore(case.store), card.plan)
        pieces += len(wanted.pieces)
        tiles += [tile for box in wanted.pieces for tile in tiles_of(planned, box.window, tiling)]
    shown = sum(tiling.shown_voxels(tile) for tile in tiles)
    voxels = sum(tile.write.size for tile in tiles)
    seconds = 0.0
    if tiles:
        placed = laid_network(arranged).model
        largest = max(tiles, key=tiling.shown_voxels)
        shape = tiling.shown(tiling.fitting(largest.read.shape))
        noise = np.random.default_rng(0).normal(size=(1, len(card.plan.channels), *shape))
        inside = None if tiling.blend == "gaussian" else largest.write.relative_to(largest.read)
        started = time.monotonic()
        forward(placed, noise.astype(np.float32), processor, inside).cpu()
        seconds = (time.monotonic() - started) * shown / tiling.shown_voxels(largest)
    return Outlook(
        cases=len(cases) - done - refused,
        done=done,
        refused=refused,
        pieces=pieces,
        tiles=len(tiles),
        voxels=voxels,
        redundancy=shown / voxels if voxels else 1.0,
        bytes=process_bytes() + arranged.pass_bytes(card.plan) + arranged.box_bytes(card.plan),
        seconds=seconds,
        arranged=arranged,
    )
