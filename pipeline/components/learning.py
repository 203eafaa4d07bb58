"""Which rules make validation masks better, computed from counts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.components.cleanup import cleaned
from pipeline.components.components import Components
from pipeline.components.rules import ClassRule, Cleanup
from pipeline.errors import GridError

LEAST_GAIN = 1e-4
"""Mean Dice by which a rule must be better than none."""
SHARES = (0.1, 0.25, 0.5)
"""Of the size of small true objects: what is below is tried as noise."""
SMALL = 5
"""Percentile of the true objects' sizes that is a small object's."""


@dataclass(frozen=True, eq=False)
class LearningCase:
    """One validation case: its mask's components and its truth in numbers.

    Raises:
        GridError: The components were counted without truth, or with other classes.
    """

    components: Components
    """Of the predicted mask, with counts of true classes."""
    voxel_size: float
    """World units of a voxel, mm³ or m²."""
    truth: NDArray[np.int64]
    """Voxels of each class in the truth where the mask has data, (K,)."""
    objects: Mapping[int, Sequence[float] | NDArray[np.float64]]
    """World units of each true object, by class; classes without objects may be left out."""

    def __post_init__(self) -> None:
        held = self.components.counts
        if held is None or held.shape[1:] != self.truth.shape:
            met = "no true classes" if held is None else f"{held.shape[1]} true classes"
            raise GridError(
                f"components have counts of {met}, the truth has {len(self.truth)}: "
                "give block_parts() the truth and its number of classes"
            )
        if len(held) and self.components.label.max() >= len(self.truth):
            raise GridError(
                f"the mask holds label {self.components.label.max()}, the truth has "
                f"{len(self.truth)} classes: both must be of one dataset"
            )

    def dice(self, cleanup: Cleanup) -> NDArray[np.float64]:
        """Dice of each class in the cleaned mask, (K,); NaN where mask and truth have none."""
        counts = np.asarray(self.components.counts)
        mask, right = np.zeros_like(self.truth), np.zeros_like(self.truth)
        after = cleaned(self.components, cleanup, self.voxel_size)
        np.add.at(mask, after, counts.sum(axis=1))
        np.add.at(right, after, counts[np.arange(len(after)), after])
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * right / (mask + self.truth), np.float64)


@dataclass(frozen=True)
class Choice:
    """What was found best for one class."""

    label: int
    """The class."""
    name: str
    """Its name."""
    rule: ClassRule
    """The rule chosen; one that does nothing where none is really better."""
    cases: int
    """Validation cases that were compared."""
    before: float | None
    """Mean Dice over them as predicted; None where no case has the class."""
    after: float | None
    """Mean Dice over them with the rule."""

    def sentence(self, unit: str) -> str:
        """The choice in words, with both Dice values.

        Args:
            unit: Of object sizes, mm³ or m².

        Example:
            >>> Choice(1, "lung", ClassRule(largest_only=True), 3, 0.91, 0.95).sentence("mm³")
            'lung: only the largest component kept; Dice 0.9100 -> 0.9500 in 3 cases.'
        """
        if self.before is None or self.after is None:
            return f"{self.name}: left as it is; no validation case has it."
        dice = f"{self.before:.4f} -> {self.after:.4f}"
        words = self.rule.in_words(unit)
        return f"{self.name}: {words}; Dice {dice} in {self.cases} cases."


@dataclass(frozen=True)
class Learned:
    """The rules that validation speaks for."""

    cleanup: Cleanup
    """Rules of the classes that gain by one."""
    choices: tuple[Choice, ...]
    """What was found for each class but the background, by label."""

    def sentences(self, unit: str) -> list[str]:
        """One sentence per class, with its mean Dice before and after."""
        return [choice.sentence(unit) for choice in self.choices]


def learn(cases: Sequence[LearningCase], classes: Sequence[str], background: int | None) -> Learned:
    """Choose for each class the rule that gives the highest mean Dice over cases.

    Tried are removing nothing, all but the largest component, and components below shares of a
    small true object, each with and without holes filled. A rule is taken where it is better than
    none by more than LEAST_GAIN and lowers the mean of no other class; of equals the simplest.

    A case counts for a class where any of the rules tried leaves the class in its mask or truth;
    where then mask and truth are both without it, the mask is right and its Dice counts as 1.

    Args:
        cases: Validation cases.
        classes: Class names by label.
        background: Label of the background class, which is neither changed nor judged; None:
            there is none, and nothing can be cleaned.

    Raises:
        GridError: A case has another number of classes.
    """
    for case in cases:
        if len(case.truth) != len(classes):
            raise GridError(
                f"a case has {len(case.truth)} true classes, not {len(classes)}: "
                "learn from the validation cases of one dataset"
            )
    cleanup, choices = Cleanup(), []
    for label, name in enumerate(classes):
        if label == background:
            continue
        choice = _best(cases, label, name) if cases else _unknown(label, name)
        tried = Cleanup(rules={**cleanup.rules, label: choice.rule})
        if choice.rule.active and not _harms(cases, cleanup, tried, {label, background}):
            cleanup = tried
        elif choice.rule.active:
            choice = Choice(label, name, ClassRule(), choice.cases, choice.before, choice.before)
        choices.append(choice)
    return Learned(cleanup, tuple(choices))


def candidates(sizes: NDArray[np.float64]) -> list[ClassRule]:
    """Rules to try for a class, simple ones first.

    Args:
        sizes: World units of its true objects; of none no size is learnt.
    """
    small = float(np.percentile(sizes, SMALL)) if len(sizes) else 0.0
    removals = [ClassRule(largest_only=True)]
    removals += [ClassRule(smallest=share * small) for share in SHARES if small > 0]
    filled = [rule.model_copy(update={"fill_holes": True}) for rule in removals]
    return [ClassRule(), ClassRule(fill_holes=True), *removals, *filled]


def _best(cases: Sequence[LearningCase], label: int, name: str) -> Choice:
    rules = candidates(np.concatenate([np.empty(0), *(c.objects.get(label, ()) for c in cases)]))
    means, compared = _means(cases, [Cleanup(rules={label: rule}) for rule in rules])
    if not compared[label]:
        return _unknown(label, name)
    held = means[:, label].tolist()
    best = held.index(max(held))
    best = best if held[best] > held[0] + LEAST_GAIN else 0
    return Choice(label, name, rules[best], int(compared[label]), held[0], held[best])


def _unknown(label: int, name: str) -> Choice:
    return Choice(label, name, ClassRule(), 0, None, None)


def _harms(
    cases: Sequence[LearningCase], before: Cleanup, after: Cleanup, but: set[int | None]
) -> bool:
    """Whether the mean Dice of any class falls, those of ``but`` left out."""
    means, _ = _means(cases, [before, after])
    others = [label for label in range(means.shape[1]) if label not in but]
    return bool((means[1, others] < means[0, others]).any())


def _means(
    cases: Sequence[LearningCase], cleanups: Sequence[Cleanup]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean Dice, (cleanups, K), NaN of no case, and the cases compared by class, (K,)."""
    dice = np.array([[case.dice(cleanup) for case in cases] for cleanup in cleanups])
    compared = ~np.isnan(dice).all(axis=0)
    total = np.where(compared, np.nan_to_num(dice, nan=1.0), 0.0).sum(axis=1)
    count = compared.sum(axis=0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0), count
