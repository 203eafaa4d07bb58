"""One case against the range of the training cases."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from scipy.stats import norm

from pipeline.drift.flag import Flag
from pipeline.drift.reference import FEWEST, Known, Reference
from pipeline.drift.settings import DriftSettings

MANY = 300
"""Cases that show their range: about as many as may come before a model is trained anew."""


def flagged_cases(
    settings: DriftSettings, reference: Reference, cases: Mapping[str, Mapping[str, float]]
) -> list[Flag]:
    """Every figure of a case that lies beyond the widened range of the training cases.

    The case that lies furthest out comes first, and of a case the figure that does.
    """
    found: dict[str, list[tuple[float, Flag]]] = {}
    for name, known in reference.quantities.items():
        if known.too_few:
            continue
        low, high = limits(known, settings.margin)
        for case, figures in cases.items():
            if name in figures and not low <= (place := known.scale.place(figures[name])) <= high:
                distance = max(low - place, place - high) / known.scale.slack
                flag = _flag(case, name, figures[name], known)
                found.setdefault(case, []).append((distance, flag))
    ordered = [sorted(of, key=lambda pair: -pair[0]) for of in found.values()]
    ordered.sort(key=lambda of: -of[0][0])
    return [flag for of in ordered for _, flag in of]


def limits(known: Known, margin: float) -> tuple[float, float]:
    """Places of the least and the greatest figure that is not flagged.

    There is room beyond the range for a share ``margin`` of its width, which is what three hundred
    cases would span, were they normally distributed: the range of twenty is two thirds of that,
    and cases like them would be flagged for it. Where all training cases agree, there is room for
    what makes no difference to a network.

    Among ratios 0 is no matter of more or less: where a training case has it, it is expected, and
    so is all up to the range, else it is flagged. Where fewer than five training cases have more,
    there is no upper limit; where none has, all that is more is flagged.
    """
    some = [v for v in known.values if v > 0] if known.scale.ratios else list(known.values)
    if not some:
        return -inf, -inf
    first, last = known.scale.place(some[0]), known.scale.place(some[-1])
    width = (last - first) * max(1.0, _span(MANY) / _span(len(known.values)))
    room = max(margin * width, known.scale.slack)
    low = first - room if len(some) == len(known.values) else -inf
    return low, last + room if len(some) >= FEWEST else inf


def _span(cases: int) -> float:
    """Width of the range of so many normally distributed figures, in standard deviations.

    By Blom's approximation of the greatest (1958); at least two figures.
    """
    return 2 * float(norm.ppf((cases - 0.375) / (cases + 0.25)))


def _flag(case: str, name: str, value: float, known: Known) -> Flag:
    ends, count = (known.values[0], known.values[-1]), len(known.values)
    if value == 0 and known.scale.ratios:
        said = f"0, as in none of the {count} training cases"
    elif ends[0] == ends[1]:
        same = known.scale.number(ends[0])
        said = f"{known.scale.written(value)}; it is {same} in each of the {count} training cases"
    else:
        low, high = known.scale.number(ends[0]), known.scale.written(ends[1])
        said = f"{known.scale.written(value)}; training cases lie between {low} and {high}"
    return Flag(case, name, value, ends, f"{case}: the {name} is {said}.")
