"""What the values of masks mean: from a survey of them to classes."""

from __future__ import annotations

from pipeline.errors import SettingsError
from pipeline.init.found import Notes
from pipeline.init.survey import Survey
from pipeline.io.dataset import ClassSettings

Classes = tuple[ClassSettings, ...]


def valued_classes(survey: Survey, masks: str) -> tuple[Classes, tuple[int, ...], Notes]:
    """Classes, values to ignore, and comments that say why.

    Args:
        survey: What the masks hold.
        masks: Where they are, in words.

    Raises:
        SettingsError: They hold fewer than two classes.
    """
    declared = {v for v in survey.missing if v != 0}
    ignored = tuple(v for v in survey.masks if v < 0 or v in declared)
    values = [v for v in survey.masks if v not in ignored]
    if len(values) < 2:
        raise SettingsError(
            f"the {survey.read} masks read {masks} hold only the value "
            f"{', '.join(map(str, values)) or 'no data'}: training needs at least two classes"
        )
    single = values[0] == 0 and len(values) == 2
    classes = tuple(
        ClassSettings(name=_class_name(v, single), values=(v,), background=v == 0) for v in values
    )
    return classes, ignored, _reasons(survey, values, ignored)


def _class_name(value: int, single: bool) -> str:
    if value == 0:
        return "background"
    return "foreground" if single else f"class_{value}"


def _reasons(survey: Survey, values: list[int], ignored: tuple[int, ...]) -> Notes:
    met = ", ".join(f"{v} in {n}" for v, n in survey.masks.items())
    notes = {"data.classes": [f"Found in {survey.read} of {survey.of} masks: value {met}."]}
    if 255 in values and len(values) > 2:
        notes["data.classes"].append(
            '255 often means "not annotated": then remove its class and set ignore_values: [255].'
        )
    if ignored:
        reason = "negative, or declared to be no data by the files"
        notes["data.ignore_values"] = [f'Taken for "not annotated", since they are {reason}.']
    if survey.nan:
        notes.setdefault("data.ignore_values", []).append(
            f"NaN, met in {survey.nan} masks, is never a class and always ignored."
        )
    return notes
