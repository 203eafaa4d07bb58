"""How intensities, and the numbers of a regression, are brought to one scale."""

from __future__ import annotations

from statistics import median
from typing import Literal

from pipeline.errors import NothingUsableError
from pipeline.io.dataset import DataSettings
from pipeline.normalise import Normalisation, Scaling
from pipeline.plan_file import PlannedTarget
from pipeline.planning.fingerprint import Fingerprint
from pipeline.planning.settings import PlanSettings
from pipeline.statistics import Pooled
from pipeline.statistics.moments import Moments, joined

LOWER, UPPER = 0.5, 99.5
"""Percentiles beyond which intensities are clipped, as nnU-Net does it with CT."""
CROPPED = 3 / 4
"""Where less of the voxels lies in the box of those that are not 0, the others say nothing, as in
nnU-Net."""

COMMON_SCALE = 1 / 3
"""Where the median image spans less of what all do, images differ by how they were taken more than
by what they show: on a common scale most would be nearly flat, and noise drown them."""


def plan_normalisation(
    data: DataSettings, settings: PlanSettings, found: Fingerprint, reasons: dict[str, str]
) -> Normalisation:
    """Decide whether intensities have a scale of their own, and take it from the dataset if so.

    Raises:
        NothingUsableError: It is to be taken from foreground voxels, and there are none.
    """
    kind, chosen = settings.normalisation, ""
    if kind == "auto":
        kind = _kind(data, found)
    else:
        chosen = f"set in plan.normalisation: {kind}; "
    if kind in ("case", "nonzero"):
        reasons["normalisation"] = chosen + _reason_of_case(found, nonzero=kind == "nonzero")
        return Normalisation(kind="case", nonzero=kind == "nonzero")
    if data.modality == "ct":
        reasons["normalisation"] = chosen + (
            "Hounsfield units: clipped to the foreground's 0.5 and 99.5 percentiles and scaled by "
            "its mean and standard deviation, over the dataset"
        )
        return Normalisation(kind="dataset", channels=_foreground_scalings(found))
    channels = tuple(_band_scaling(found, c) for c in range(len(found.channels)))
    reasons["normalisation"] = chosen + _reason_of_bands(found, channels)
    return Normalisation(kind="dataset", channels=channels)


def _kind(data: DataSettings, found: Fingerprint) -> Literal["case", "nonzero", "dataset"]:
    # The channels of volumes are sequences or stains, each on a scale of its own, as in nnU-Net.
    colours = found.ndim == 2 and len(found.channels) > 1 and _case_spread(found) >= COMMON_SCALE
    if data.modality == "ct" or found.scenes or colours:
        return "dataset"
    return "nonzero" if found.nonzero_share < CROPPED else "case"


def _case_spread(found: Fingerprint) -> float:
    """Deviation within the median case over that of all cases together, of the channel least so."""
    shares = []
    for channel in range(len(found.channels)):
        of = [s["channels"][channel] for s in found.statistics]
        voxels = [s["valid_voxels"] for s in found.statistics]
        whole = joined(Moments.of(n, c["mean"], c["std"]) for n, c in zip(voxels, of, strict=True))
        if whole.std > 0:
            shares.append(median(c["std"] for c in of) / whole.std)
    return min(shares, default=1.0)


def _reason_of_case(found: Fingerprint, *, nonzero: bool) -> str:
    if not nonzero:
        reason = (
            "each case by its own mean and standard deviation: intensities have no common scale"
        )
        if found.ndim == 2 and len(found.channels) > 1:
            reason += f", the median case spans {_case_spread(found):.0%} of what all do"
        return reason
    return (
        "each case by the mean and standard deviation of its voxels that are not 0 in every "
        "channel, the others stay 0: intensities have no common scale, and the box of what is "
        f"not 0 is {found.nonzero_share:.0%} of a case (nnU-Net's limit is {CROPPED:.0%})"
    )


def _reason_of_bands(found: Fingerprint, channels: tuple[Scaling, ...]) -> str:
    free = [n for n, c in zip(found.channels, channels, strict=True) if c.lower is None]
    return (
        "each channel clipped to its 0.5 and 99.5 percentiles over the dataset, or to those of its "
        "foreground where they lie further out, then less the mean, by the standard deviation, of "
        "the clipped values: bands and colours mean the same in every image, and clouds, glitches "
        "and saturated pixels must not rule the scale"
        + (f"; not clipped, being nearly all of one value: {', '.join(free)}" if free else "")
    )


def _band_scaling(found: Fingerprint, channel: int) -> Scaling:
    """Clipped at the ends of what is common; what is to be found is common by definition."""
    cases = [(s["valid_voxels"], s["channels"][channel]) for s in found.statistics]
    seen = [s["foreground"][channel] for s in found.statistics if s["foreground"]]
    pooled = Pooled.of((voxels, of["percentiles"]) for voxels, of in cases)
    kept = [pooled]
    if seen:
        kept.append(Pooled.of((of["voxels"], of["percentiles"]) for of in seen))
    lower = min(p.percentile(LOWER) for p in kept)
    upper = max(p.percentile(UPPER) for p in kept)
    if lower < upper:
        mean, std = pooled.clipped(lower, upper)
        return Scaling.z_score(mean, std, lower=lower, upper=upper)
    # So rare are other values that they are no outliers but all there is to see.
    whole = joined(Moments.of(voxels, of["mean"], of["std"]) for voxels, of in cases)
    return Scaling.z_score(whole.mean, whole.std)


def _foreground_scalings(found: Fingerprint) -> tuple[Scaling, ...]:
    """Of the foreground; each case counts alike, as in nnU-Net, however large its foreground."""
    known = [s["foreground"] for s in found.statistics if s["foreground"]]
    if not known:
        raise NothingUsableError(
            "no training case has a voxel of a class other than the background: look at "
            "data.classes and at the masks"
        )
    scalings = []
    for c in range(len(found.channels)):
        of = [foreground[c] for foreground in known]
        whole = joined(Moments.of(1, f["mean"], f["std"]) for f in of)
        pooled = Pooled.of((1.0, f["percentiles"]) for f in of)
        ends = {"lower": pooled.percentile(LOWER), "upper": pooled.percentile(UPPER)}
        scalings.append(Scaling.z_score(whole.mean, whole.std, **ends))
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
