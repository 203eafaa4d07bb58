"""A case's planes in a regression: image, truth and prediction on one scale, and the error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.pictures import greys, photograph, png
from pipeline.drawing.views import View, choose_views
from pipeline.report.colours import BLUE_RED, VIRIDIS, coloured, gradient
from pipeline.report.places import marks
from pipeline.report.planes import CaseArrays, title
from pipeline.report.words import number

Limits = tuple[float, float]


def fields(case: CaseArrays) -> dict[str, Any]:
    """A case's planes as the page shows them, and what their colours stand for.

    Truth and prediction share a scale: the 1st to the 99th percentile of the truth. The scale of
    the error ends at the 99th percentile of its size, on both sides.
    """
    error = None if case.prediction is None else case.prediction - case.truth
    limits, most = _limits(case), _most(error)
    views = choose_views(case.grid, np.isfinite(case.truth))
    scales = [_scale("truth and prediction", limits, gradient(VIRIDIS))]
    if error is not None:
        scales.append(_scale("prediction - truth", (-most, most), gradient(BLUE_RED)))
    return {"views": [_plane(case, error, view, limits, most) for view in views], "scales": scales}


def _plane(
    case: CaseArrays, error: NDArray[Any] | None, view: View, limits: Limits, most: float
) -> dict[str, Any]:
    truth = view.cut(case.truth)
    height, width = size = view.size((truth.shape[0], truth.shape[1]))
    image = view.cut(case.image[: len(case.limits)])
    panes = [
        ("image", photograph(greys(image, case.limits), size)),
        ("truth", png(coloured(truth, limits, VIRIDIS), size)),
    ]
    if case.prediction is not None and error is not None:
        predicted = coloured(view.cut(case.prediction), limits, VIRIDIS)
        panes.append(("prediction", png(predicted, size)))
        panes.append(("error", png(coloured(view.cut(error), (-most, most), BLUE_RED), size)))
    return {
        "title": title(case, view),
        "width": width,
        "height": height,
        "panes": panes,
        "marks": marks(case.grid, view, truth.shape[1]),
    }


def _limits(case: CaseArrays) -> Limits:
    known = case.truth[np.isfinite(case.truth)]
    if not known.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(known, [1, 99]))
    # Of constant truth the prediction is still to be told from it.
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _most(error: NDArray[Any] | None) -> float:
    known = np.empty(0) if error is None else np.abs(error[np.isfinite(error)])
    return float(np.percentile(known, 99)) or 1.0 if known.size else 1.0


def _scale(name: str, limits: Limits, css: str) -> dict[str, str]:
    return {"name": name, "low": number(limits[0]), "high": number(limits[1]), "css": css}
