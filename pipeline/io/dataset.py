"""What a dataset is: where its images and masks are, and what the masks' values mean."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.io.label_order import LabelOrder


class ClassSettings(BaseModel):
    """A class, and the values by which the mask files mark it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1)]
    """Name in stores, scores and reports."""
    values: Annotated[tuple[int, ...], Field(min_length=1)]
    """Values in the mask files; several values may mean one class."""
    background: bool = False
    """The background is neither sampled for in training nor scored. The first class only."""


class DataSettings(LabelOrder, BaseModel):
    """Where the images are and what their masks mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    root: str
    """Dataset folder, a path or an fsspec URL (``s3://bucket/folder``); nothing outside is read."""
    task: Literal["segmentation", "regression"] = "segmentation"
    """``segmentation``: masks hold a class per voxel. ``regression``: they hold a number, such as
    a depth, a height or an index, and so do the masks that are made."""
    layout: Literal["msd", "pairs", "dicom"]
    """``msd``: a dataset.json lists images and labels (Medical Segmentation Decathlon).
    ``pairs``: ``images`` and ``masks`` say where the files of each case are.
    ``dicom``: every series below the root is a case, however the folders nest."""
    images: str | tuple[str, ...] = "images"
    """A folder under the root, whose files are named by case; or a pattern, in which ``{case}``
    stands for the case id, ``*`` for anything and ``::name`` for an array inside the file:
    ``{case}/scan.nii.gz``, ``{case}.h5::raw``. Several patterns are files of one image whose
    channels follow each other: ``[{case}_B04.jp2, {case}_B03.jp2]``."""
    masks: str | None = "masks"
    """The same for the masks. With ``*``, each file marks one object (DSB2018:
    ``{case}/masks/*.png``): their union is class value 1, and the objects are kept as instances.
    GeoJSON and GeoPackage polygons are burnt onto the image. Null: no masks, predict only."""
    unlabelled: Literal["quarantine", "predict"] = "quarantine"
    """What an image without a mask is: a mistake, or a case to predict."""
    bands: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Channels of the image to take, in the wanted order, counted from 1 over all its files;
    null: all."""
    mask_grid: Literal["same", "nearest"] = "same"
    """A mask that lies on another grid than its image is refused (``same``), or warped onto the
    image's by nearest neighbour (``nearest``)."""
    mask_attribute: str | None = None
    """Whole-number field of vector labels that holds the class value; null: every polygon is 1."""
    dicom_case: Literal["series", "folder", "patient"] = "series"
    """What a DICOM case is named by: its modality and a hash of the series (nothing personal),
    its folder, or the patient id and series number, which then stand in every file made."""
    classes: tuple[ClassSettings, ...] = ()
    """Classes in label order: the first is label 0 in every store segflow writes. None of them in
    regression."""
    target: Annotated[str, Field(min_length=1)] = "value"
    """What the numbers of a regression are, in stores, scores and reports."""
    ignore_values: tuple[int, ...] = ()
    """Mask values that mean "not annotated", or "not measured": neither learnt nor scored."""
    nodata: float | None = None
    """Image value that means "no data", where the files do not say it themselves; .nan allowed."""
    group: str | None = None
    """Regular expression on the case id; its first group (or whole match) names the patient or
    scene. Cases of one group never part over splits. Null: each case is its own group."""
    modality: Literal["ct", "other"] = "other"
    """``ct`` images hold Hounsfield units: intensities are normalised over the whole dataset."""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[ClassSettings, ...]) -> tuple[ClassSettings, ...]:
        names = Counter(c.name for c in classes)
        values = Counter(v for c in classes for v in c.values)
        for kind, counted in (("class name", names), ("mask value", values)):
            if twice := [key for key, n in counted.items() if n > 1]:
                raise ValueError(f"{kind} {twice[0]!r} stands twice: each belongs to one class")
        if any(c.background for c in classes[1:]):
            raise ValueError("only the first class may be marked background: it is label 0")
        return classes

    @field_validator("group")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression ({error})") from error
        return pattern

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> DataSettings:
        if self.task == "segmentation" and len(self.classes) < 2:
            raise ValueError("at least two classes are needed, the background included")
        if self.task == "regression" and self.classes:
            raise ValueError("classes: a regression has none; data.target names its numbers")
        if self.task == "regression" and "*" in (self.masks or ""):
            raise ValueError("masks: files of one object each hold no numbers to predict")
        return self

    @model_validator(mode="after")
    def _values_apart(self) -> DataSettings:
        both = {v for c in self.classes for v in c.values} & set(self.ignore_values)
        if both:
            raise ValueError(f"value {min(both)} is both of a class and in ignore_values")
        return self

    @model_validator(mode="after")
    def _patterns_name_the_case(self) -> DataSettings:
        if not self.image_patterns:
            raise ValueError("images is empty: name a folder, or patterns that hold {case}")
        masks = () if self.masks is None else (self.masks,)
        for key, patterns in (("images", self.image_patterns), ("masks", masks)):
            for pattern in patterns:
                wild = len(patterns) > 1 or "*" in pattern or "::" in pattern
                if wild and "{case}" not in pattern:
                    raise ValueError(f"{key}: {pattern!r} is a pattern, but holds no {{case}}")
        return self

    @property
    def image_patterns(self) -> tuple[str, ...]:
        """``images`` as a tuple, also where it is one."""
        return (self.images,) if isinstance(self.images, str) else self.images

    def group_of(self, case: str) -> str:
        """The group a case belongs to."""
        found = re.search(self.group, case) if self.group else None
        if found is None:
            return case
        return str(found.group(1) if found.re.groups else found.group(0))
