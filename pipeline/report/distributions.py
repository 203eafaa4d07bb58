"""Truth against prediction over the voxels of the held-out cases."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.pictures import png
from pipeline.errors import StoreError
from pipeline.io.ngff import COLORS
from pipeline.report.charts import Series, density_chart, line_chart
from pipeline.report.facts import Evidence
from pipeline.report.stores import mask_of, readable, volume_of
from pipeline.report.words import count, counted, number

MOST_CASES = 40
"""Cases that are read, evenly spread from the worst to the best."""
MOST_VOXELS = 2**18
"""Voxels of each case, evenly spread over an overview level."""
BINS = 64
CELLS = 96
"""Bins of a distribution, and of either axis of the scatter."""
PREDICTION, DENSITY = COLORS[0], COLORS[1]

Values = NDArray[np.float64]


def distributions(evidence: Evidence) -> dict[str, Any]:
    """The scatter of truth and prediction, and the distributions of both and of the error."""
    cases = evidence.held_out[:: -(-len(evidence.held_out) // MOST_CASES) or 1]
    pairs = [found for c in cases if (found := _pairs(evidence, c.case)) is not None]
    if not sum(len(truth) for truth, _ in pairs):
        return {"distributions": [], "distributions_lead": "No voxel can be compared."}
    truth, values = (np.concatenate(column) for column in zip(*pairs, strict=True))
    lead = f"{count(len(truth))} voxels of {counted(len(pairs), 'held-out case')}"
    if evidence.held_out and len(pairs) < len(evidence.held_out):
        lead += f" of {len(evidence.held_out):,}"
    return {
        "distributions": [_scatter(truth, values), _both(truth, values), _error(values - truth)],
        "distributions_lead": f"{lead}, evenly spread over each; large cases at a coarser level.",
    }


def _pairs(evidence: Evidence, case: str) -> tuple[Values, Values] | None:
    """Truth and prediction of some voxels of a case, (n,) each; None where either is missing."""
    try:
        volume = volume_of(evidence, case)
        mask, _ = mask_of(evidence, case, volume.grid)
        if mask is None:
            return None
        truth = readable(volume.path, volume.truth_overview).ravel()
        values = readable(mask.path, mask.overview).ravel()
    except StoreError:
        return None
    known = np.flatnonzero(np.isfinite(truth) & np.isfinite(values))
    picked = known[:: -(-len(known) // MOST_VOXELS) or 1]
    return truth[picked].astype(np.float64), values[picked].astype(np.float64)


def _scatter(truth: Values, values: Values) -> dict[str, Any]:
    limits = _limits(truth, values)
    cells, _, _ = np.histogram2d(truth, values, CELLS, (limits, limits))
    svg = density_chart(_dots(cells), limits, x_label="truth", y_label="prediction")
    return _chart(svg, "On the line both are equal; the fuller the colour, the more voxels.")


def _dots(cells: NDArray[np.float64]) -> str:
    """How many voxels fall into each cell, as a picture: prediction upwards, truth to the right."""
    share = np.log1p(cells) / max(1e-12, np.log1p(cells.max()))
    picture = np.zeros((*cells.T.shape, 4), np.uint8)
    picture[..., :3] = DENSITY
    picture[..., 3] = np.where(cells > 0, np.rint(50 + 205 * share), 0).T[::-1]
    return png(picture)


def _both(truth: Values, values: Values) -> dict[str, Any]:
    limits = _limits(truth, values)
    series = [_shares("prediction", values, limits, PREDICTION), _shares("truth", truth, limits)]
    svg = line_chart(series, x_label="value", y_label="share of voxels")
    return _chart(svg, "", {"truth": None, "prediction": PREDICTION})


def _error(error: Values) -> dict[str, Any]:
    most = float(np.percentile(np.abs(error), 99.5)) or 1.0
    svg = line_chart(
        [_shares("error", error, (-most, most))],
        x_label="prediction - truth",
        y_label="share of voxels",
    )
    return _chart(svg, f"Mean {number(error.mean())}, standard deviation {number(error.std())}.")


def _shares(
    name: str,
    values: Values,
    limits: tuple[float, float],
    color: tuple[int, int, int] | None = None,
) -> Series:
    counts, edges = np.histogram(values, BINS, limits)
    middles = (edges[1:] + edges[:-1]) / 2
    points = zip(middles.tolist(), (counts / len(values)).tolist(), strict=True)
    return Series(name, tuple(points), color)


def _limits(truth: Values, values: Values) -> tuple[float, float]:
    """From the lower to the upper thousandth of both."""
    ends = np.percentile(np.concatenate([truth, values]), [0.1, 99.9])
    low, high = float(ends[0]), float(ends[1])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _chart(
    svg: str, caption: str, legend: dict[str, tuple[int, int, int] | None] | None = None
) -> dict[str, Any]:
    return {"svg": svg, "caption": caption, "legend": legend or {}}
