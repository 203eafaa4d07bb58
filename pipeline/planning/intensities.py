"""How intensities, and the numbers of a regression, are brought to one scale."""

from __future__ import annotations

import numpy as np

from pipeline.errors import NothingUsableError
from pipeline.io.dataset import DataSettings
from pipeline.normalise import Normalisation, Scaling
from pipeline.plan_file import PlannedTarget
from pipeline.planning.fingerprint import Fingerprint
from pipeline.planning.settings import PlanSettings
from pipeline.statistics.moments import Moments, joined


def plan_normalisation(
    data: DataSettings, settings: PlanSettings, found: Fingerprint, reasons: dict[str, str]
) -> Normalisation:
    """Decide whether intensities have a scale of their own, and take it from the dataset if so.

    Raises:
        NothingUsableError: It is to be taken from foreground voxels, and there are none.
    """
    calibrated = data.modality == "ct" or found.scenes or len(found.channels) > 1
    kind = settings.normalisation
    if kind == "auto":
        kind = "dataset" if calibrated else "case"
    if kind == "case":
        reasons["normalisation"] = (
            "each case by its own mean and standard deviation: intensities have no common scale"
        )
        return Normalisation(kind="case")
    if data.modality == "ct":
        reasons["normalisation"] = (
            "Hounsfield units: clipped to the foreground's 0.5 and 99.5 percentiles and scaled by "
            "its mean and standard deviation, over the dataset"
        )
        return Normalisation(kind="dataset", channels=_foreground_scalings(found))
    reasons["normalisation"] = (
        "each channel by its mean and standard deviation over the dataset: colours and bands mean "
        "the same in every image"
    )
    return Normalisation(kind="dataset", channels=_dataset_scalings(found))


def _dataset_scalings(found: Fingerprint) -> tuple[Scaling, ...]:
    scalings = []
    for c in range(len(found.channels)):
        cases = ((s["valid_voxels"], s["channels"][c]) for s in found.statistics)
        whole = joined(Moments.of(voxels, of["mean"], of["std"]) for voxels, of in cases)
        scalings.append(Scaling(mean=whole.mean, std=whole.std or 1.0))
    return tuple(scalings)


def _foreground_scalings(found: Fingerprint) -> tuple[Scaling, ...]:
    known = [s["foreground"] for s in found.statistics if s["foreground"]]
    if not known:
        raise NothingUsableError("no case has a foreground voxel: nothing can be learnt from it")
    scalings = []
    for c in range(len(found.channels)):
        mean = float(np.mean([f[c]["mean"] for f in known]))
        variance = float(np.mean([f[c]["std"] ** 2 + (f[c]["mean"] - mean) ** 2 for f in known]))
        lower = float(np.mean([f[c]["percentiles"]["0.5"] for f in known]))
        upper = float(np.mean([f[c]["percentiles"]["99.5"] for f in known]))
        scalings.append(Scaling(mean=mean, std=variance**0.5 or 1.0, lower=lower, upper=upper))
    return tuple(scalings)


def plan_target(data: DataSettings, found: Fingerprint) -> PlannedTarget:
    """Mean and spread of a regression's truth, over the voxels of all training cases.

    Raises:
        NothingUsableError: No case has a truth.
    """
    known = [s["target"] for s in found.statistics if s["target"]["count"]]
    if not known:
        raise NothingUsableError("no training case has a truth: nothing can be learnt from it")
    whole = joined(Moments.of(t["count"], t["mean"], t["std"]) for t in known)
    return PlannedTarget(name=data.target, mean=whole.mean, std=whole.std or 1.0)
