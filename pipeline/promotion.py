"""Which model serves: the promoted one, and how a candidate takes its place.

promoted/
  current -> <model-id>             changed in one step
  <model-id>/model.pt model.json    weights that serve or have served, and their sidecar
  history.jsonl                     every decision: candidate, serving model, both scores, why
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import fsum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import ModelError
from pipeline.io.files import point, read_json, read_jsonl, remove_tree, write_jsonl
from pipeline.model_file import ModelCard, read_card, read_tensors, weights_sha256

CURRENT = "current"


class PromoteSettings(BaseModel):
    """When a newly trained model takes the place of the one that serves."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    margin: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """How far the held-out score (mean Dice, or R²) of a new model may lie below that of the model
    that serves: less is noise, more is a loss."""
    unscored: bool = False
    """Whether a new model is promoted too where no held-out case with truth can tell."""


@dataclass(frozen=True)
class Decision:
    """What became of a candidate."""

    promoted: bool
    """Whether it serves from now on."""
    reason: str
    """Why, in words, with both scores."""
    candidate: str
    """Its model id."""
    serving: str | None
    """Id of the model that served before; None: none did."""
    candidate_score: float | None
    """Its mean over classes of the mean over held-out cases; None: not scored."""
    serving_score: float | None
    """The same, of the model that served, for the same cases."""
    cases: int
    """Held-out cases that both were scored on."""
    margin: float
    """What the candidate was allowed to lose."""
    at: str = ""
    """When, ISO 8601."""

    @property
    def sentence(self) -> str:
        """The decision in a line."""
        if self.promoted:
            return f"model {self.candidate} serves from now on: {self.reason}"
        if self.candidate == self.serving:
            return f"model {self.serving} goes on serving: {self.reason}"
        return f"model {self.serving} goes on serving, not {self.candidate}: {self.reason}"


def serving_model(folder: Path) -> Path:
    """Where the weights that serve stand, once there are any.

    Args:
        folder: Of the promoted models.
    """
    return folder / CURRENT / "model.pt"


def serving_card(folder: Path) -> ModelCard | None:
    """The model that serves; None where none has been promoted.

    Args:
        folder: Of the promoted models.

    Raises:
        ModelError: One was promoted, and is gone or damaged: no other takes its place unasked.
    """
    if not (folder / CURRENT).is_symlink():
        return None
    return read_card(serving_model(folder))


def decide(
    settings: PromoteSettings,
    candidate: ModelCard,
    serving: ModelCard | None,
    candidate_scores: Mapping[str, Any] | None,
    serving_scores: Mapping[str, Any] | None,
) -> Decision:
    """Say whether a candidate is to serve.

    Both models are judged by the held-out cases that both have a figure for, so that cases which
    came in between favour neither.

    Args:
        settings: What the candidate may lose.
        candidate: The new model.
        serving: The model that serves; None: the candidate is the first.
        candidate_scores: Content of scores.json for the candidate's masks; None: not scored.
        serving_scores: The same for the serving model's.
    """

    def decided(promoted: bool, reason: str, *scores: float | None, cases: int = 0) -> Decision:
        new, old = scores or (None, None)
        before = serving.model_id if serving is not None else None
        name, margin = candidate.model_id, settings.margin
        return Decision(promoted, reason, name, before, new, old, cases, margin, now())

    if serving is None:
        return decided(True, "it is the first")
    if candidate.weights_sha256 == serving.weights_sha256:
        return decided(False, "it is the model that serves already: there was nothing new to learn")
    rows_new, rows_old = held_out_rows(candidate_scores), held_out_rows(serving_scores)
    common = rows_new.keys() & rows_old.keys()
    if not common:
        word = (
            "it is promoted unseen"
            if settings.unscored
            else "set promote.unscored to promote it unseen"
        )
        return decided(settings.unscored, f"no held-out case tells them apart; {word}")
    new, old = (mean_score(rows, common) for rows in (rows_new, rows_old))
    cases = len({case for case, _ in common})
    is_good = new >= old - settings.margin
    verb = "is not more than" if is_good else "is more than"
    reason = (
        f"held-out score {new:.4f} against {old:.4f} on {cases} case{'s' * (cases != 1)}: it "
        f"{verb} {settings.margin} below"
    )
    return decided(is_good, reason, new, old, cases=cases)


def now() -> str:
    """The time, ISO 8601: two nights do not begin in one millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def held_out_rows(scores: Mapping[str, Any] | None) -> dict[tuple[str, str], float]:
    """Dice by held-out case and class, or R² by case and target, where there is one."""
    if scores is None:
        return {}
    name, figure = ("target", "r2") if scores["task"] == "regression" else ("class", "dice")
    return {
        (row["case"], row[name]): row[figure]
        for row in scores["cases"]
        if row["split"] == scores["split"] and row[figure] is not None
    }


def mean_score(rows: Mapping[tuple[str, str], float], places: Sequence[Any] | set[Any]) -> float:
    """Mean over classes of the mean over cases, at some of the places.

    Example:
        >>> rows = {("a", "liver"): 0.9, ("b", "liver"): 0.7, ("a", "lesion"): 0.4}
        >>> round(mean_score(rows, set(rows)), 6)
        0.6
    """
    by_class: dict[str, list[float]] = {}
    for case, name in sorted(places):
        by_class.setdefault(name, []).append(rows[case, name])
    return fsum(fsum(v) / len(v) for v in by_class.values()) / len(by_class)


def trained_card(trained: Path) -> ModelCard:
    """The model that was trained last.

    Args:
        trained: Its weights; ``train.json`` beside them says that the training has ended.

    Raises:
        ModelError: There is none, or its training has not ended.
    """
    card = read_card(trained)
    ended = trained.with_name("train.json")
    if not ended.exists() or read_json(ended)["model_id"] != card.model_id:
        raise ModelError(
            f"the training in {trained.parent} has not ended, so that its model is not judged: let "
            "`segflow train` go on"
        )
    return card


def _is_whole(weights: Path, card: ModelCard) -> bool:
    """Whether these are a model's weights, undamaged."""
    try:
        return weights_sha256(read_tensors(weights)) == card.weights_sha256
    except ModelError:
        return False


def promote(candidate: Path, folder: Path, decision: Decision) -> None:
    """Record a decision, and let the candidate serve where it says so.

    Args:
        candidate: Its weights.
        folder: Of the promoted models.
        decision: What ``decide`` said.

    Raises:
        ModelError: The candidate's files are absent, or are not those that were judged.
    """
    if decision.promoted:
        card = read_card(candidate)
        if card.model_id != decision.candidate:
            raise ModelError(
                f"{candidate} holds model {card.model_id} by now, judged was {decision.candidate}: "
                "run `segflow retrain` again"
            )
        final, partial = folder / card.model_id, folder / f".{card.model_id}.partial"
        if not _is_whole(final / "model.pt", card):
            remove_tree(final)
            remove_tree(partial)
            partial.mkdir(parents=True)
            for suffix in (".json", ".pt"):
                shutil.copyfile(
                    candidate.with_suffix(suffix), (partial / "model").with_suffix(suffix)
                )
            os.replace(partial, final)
        point(folder / CURRENT, card.model_id)
    history = folder / "history.jsonl"
    write_jsonl(history, [*read_jsonl(history), asdict(decision)])
