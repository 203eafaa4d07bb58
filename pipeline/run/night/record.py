"""What a night has found and done, and the row that is remembered of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.drift import Flag
from pipeline.publish import Publication
from pipeline.score import headline

NightState = Literal["published", "nothing new", "failed"]


@dataclass(frozen=True)
class Refused:
    """A case that is quarantined."""

    case: str
    """Case id."""
    stage: str
    """The stage that refused it."""
    reason: str
    """What was met and what was expected."""
    remedy: str
    """What to do."""
    since: str
    """When a night first met it, ISO 8601."""


@dataclass(frozen=True)
class Night:
    """What a night has found and done so far."""

    started: str
    """When, ISO 8601."""
    known: Mapping[str, tuple[str, str]]
    """Status and key of each case before it, by id."""
    model: str = ""
    """Id of the model that predicted."""
    new: tuple[str, ...] = ()
    """Cases whose files have come, or have come back."""
    changed: tuple[str, ...] = ()
    """Cases whose files are others than before."""
    vanished: tuple[str, ...] = ()
    """Cases whose files are gone."""
    refused: tuple[Refused, ...] = ()
    """All quarantined cases."""
    publication: Publication | None = None
    """What there is to publish."""
    told: bool = True
    """Whether an earlier night has ended well with the version that stands."""
    drift: tuple[Flag, ...] = ()
    """Where tonight's cases do not look like those of the training."""
    scores: dict[str, Any] | None = None
    """Content of scores.json; None where there is no truth."""
    published: Path | None = None
    """Folder of the version that stands at the end."""
    state: NightState = "nothing new"
    """How it ended."""
    error: str = ""
    """Why it failed."""
    ended: str = ""
    """When, ISO 8601."""

    @property
    def newly_refused(self) -> tuple[Refused, ...]:
        """Cases that this night has quarantined."""
        return tuple(r for r in self.refused if r.since == self.started)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is left to publish, and what stands was told."""
        return self.publication is not None and not self.publication.is_new and self.told

    def sentence(self) -> str:
        """The night in a line."""
        parts = [self._outcome()]
        if self.refused:
            names = ", ".join(r.case for r in self.newly_refused[:5])
            fresh = f" ({len(self.newly_refused)} since tonight: {names})" if names else ""
            parts.append(f"{counted(len(self.refused), 'case')} quarantined{fresh}")
        if self.drift:
            parts.append(f"{counted(len(self.drift), 'sign')} of drift")
        told = headline(self.scores) if self.scores is not None else ""
        return "; ".join([*parts, told] if told else parts)

    def _outcome(self) -> str:
        if self.state == "failed":
            before = f", after {self.published.name} was published" if self.published else ""
            return f"failed{before}: {self.error}"
        if self.publication is None:
            return "under way"
        version = self.publication.version
        if self.state == "nothing new":
            held = counted(len(version.masks), "mask")
            return f"nothing new: {version.name} stands, {held}"
        counts = (("added", version.added), ("changed", version.changed))
        parts = [f"{len(cases)} {what}" for what, cases in counts if cases]
        parts += [f"{len(version.removed)} removed"] if version.removed else []
        changes = ", ".join(parts) or "the stores beside the masks have changed"
        return f"published {version.name}: {changes}"

    @property
    def published_new(self) -> bool:
        """Whether this night has published a version."""
        return self.published is not None and not self.is_quiet

    def _standing(self) -> str | None:
        """Name of the version that stands after the night, as far as it knows."""
        if self.published is not None:
            return self.published.name
        return self.publication.version.name if self.publication and self.is_quiet else None

    def to_json(self) -> dict[str, Any]:
        """The night as JSON values, a row of ``nights.jsonl``."""
        made = self.publication.version if self.publication and self.published_new else None
        return {
            "started": self.started,
            "ended": self.ended,
            "state": self.state,
            "sentence": self.sentence(),
            "model": self.model,
            "version": self._standing(),
            "new": list(self.new),
            "changed": list(self.changed),
            "vanished": list(self.vanished),
            "added": list(made.added) if made else [],
            "removed": made.removed if made else {},
            "quarantined": [asdict(r) for r in self.refused],
            "drift": [asdict(flag) for flag in self.drift],
            "headline": headline(self.scores) if self.scores is not None else "",
        }


def counted(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number} {what}{'s' * (number != 1)}"
