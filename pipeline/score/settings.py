"""What is scored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1)]


class ScoreSettings(BaseModel):
    """What is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    held_out: Literal["test", "val", "train"] = "test"
    """The split whose mean is the run's score; every labelled case is listed all the same."""
    regions: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = {}
    """Classes scored as one, by the region's name: ``whole: [kidney, tumour]``."""
    surfaces: bool = True
    """Whether the distances between the surfaces of mask and truth are measured: HD95, mean
    surface distance, normalised surface Dice."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """Distance up to which surfaces agree in the normalised surface Dice: millimetres of scans,
    metres of scenes, else voxels; null: a case's largest voxel side."""
    reach: Annotated[float, Field(gt=0)] | None = None
    """Distance up to which surfaces are measured in volumes too large to be searched as a whole,
    in the same unit; null: 32 of a case's largest voxel sides. What is farther counts as this."""
    objects: bool | None = None
    """Whether objects are matched: panoptic quality, F1 and average precision over IoU. In a truth
    of classes alone they are its connected components. null: only where the truth tells objects
    apart."""
    membrane: Name | None = None
    """Name of the class that is membrane, as in electron micrographs: the Rand and the warping
    error of ISBI 2012 are then computed, all other classes being cells. null: they are not."""

    @property
    def named_classes(self) -> dict[str, tuple[str, ...]]:
        """Classes that settings name, by the setting's key."""
        named = {f"score.regions.{region}": members for region, members in self.regions.items()}
        return named if self.membrane is None else {**named, "score.membrane": (self.membrane,)}
