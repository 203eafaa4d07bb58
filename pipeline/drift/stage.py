"""Everything in which new cases do not look like the training cases."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.drift.flag import Flag
from pipeline.drift.reference import Reference
from pipeline.drift.settings import DriftSettings
from pipeline.drift.single import flagged_cases
from pipeline.drift.whole import flagged_whole


def find_drift(
    settings: DriftSettings, reference: Reference, cases: Mapping[str, Mapping[str, float]]
) -> list[Flag]:
    """Flag new cases, and the new cases as a whole.

    Args:
        settings: How far is too far.
        reference: Figures of the training cases; where it has ``too_few``, nothing is flagged.
        cases: What ``measure`` gave of each new case, by case. A quantity that either side lacks
            is not compared.

    Returns:
        Flags of the whole first, the least likely before others; then those of each case, the
        furthest out before others: a case's first flag says most of it.
    """
    if not settings.enabled or reference.too_few:
        return []
    return [
        *flagged_whole(settings, reference, cases),
        *flagged_cases(settings, reference, cases),
    ]
