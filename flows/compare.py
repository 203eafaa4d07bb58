"""Two runs beside each other, for people: a sentence, a table by class, and what changed most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.console import COMPLETE, Console
from pipeline.comparison import Change, Comparison, Difference, compare, sentence
from pipeline.comparison.words import probability, size
from pipeline.errors import SettingsError, StoreError
from pipeline.io.files import read_json

COLUMNS = ("", "A", "B", "B less A", "95 %", "p", "effect", "better", "worse", "cases")


def find_scores(place: Path) -> Path:
    """The scores.json of a run, a run's folder, or a published version.

    Args:
        place: A run.yaml, a run's folder, a folder of published versions, a version, or a
            scores.json.

    Raises:
        SettingsError: There is none.
    """
    if place.suffix in (".yaml", ".yml"):
        from pipeline.run import load_settings  # brings torch along

        found = load_settings(place).dir.scores
    elif place.is_file():
        found = place
    else:
        current = place / "current"
        found = (current if current.is_symlink() else place) / "scores.json"
    if not found.is_file():
        raise SettingsError(
            f"{place} has no scores ({found} is not there): run `segflow score`, or give a "
            "run.yaml, a run's folder, a published version or a scores.json"
        )
    return found


def compare_runs(
    place_a: Path, place_b: Path, figure: str | None, most: int, console: Console
) -> None:
    """Compare two runs and print how they differ."""
    paths = [find_scores(place) for place in (place_a, place_b)]
    scores_a, scores_b = (_read(path) for path in paths)
    found = compare(scores_a, scores_b, figure)
    for letter, path, scores in zip("AB", paths, (scores_a, scores_b), strict=True):
        console.line(f"{letter}: {path}, model {scores.get('model_id', 'unknown')}")
    for note in found.notes:
        console.line(f"note: {note}")
    if scores_a.get("rules") != scores_b.get("rules"):
        console.line("note: A and B were scored by different rules: see `rules` in each file")
    _print(found, most, console)
    console.end(
        COMPLETE,
        f"complete: {sentence(found.overall, found.figure, found.unit)}",
        a=_source(paths[0], scores_a),
        b=_source(paths[1], scores_b),
        comparison=found.to_json(),
    )


def _read(path: Path) -> dict[str, Any]:
    """The content of a scores.json.

    Raises:
        SettingsError: The file is none.
    """
    try:
        scores = read_json(path)
    except StoreError as error:
        raise SettingsError(f"{path} is no scores.json: {error.__cause__}") from error
    if not isinstance(scores, dict) or not isinstance(scores.get("cases"), list):
        raise SettingsError(f"{path} is no scores.json: `segflow score` writes one in its run")
    return scores


def _source(path: Path, scores: dict[str, Any]) -> dict[str, Any]:
    return {"scores": str(path), "model_id": scores.get("model_id"), "split": scores.get("split")}


def _print(found: Comparison, most: int, console: Console) -> None:
    better = "more is better" if found.figure.higher else "less is better"
    unit = f", {found.unit}" if found.unit else ""
    title = f"{found.figure.label}{unit} ({better})"
    rows = [*found.classes, *found.regions]
    if len(found.classes) > 1:
        rows.append(found.overall)
    console.table(title, COLUMNS, [_row(row) for row in rows])
    if any(row.p_holm is not None for row in rows):
        console.line("p of classes is corrected for their number after Holm")
    for row in (*found.classes, *found.regions):
        console.line(f"{row.name}: {sentence(row, found.figure, found.unit)}")
        if row.alone:
            console.line(f"{row.name}: {_alone(row.alone)}")
    gains = [change for change in found.changes if change.gain > 0][:most]
    losses = [change for change in reversed(found.changes) if change.gain < 0][:most]
    _changed("Gained most", gains, console)
    _changed("Lost most", losses, console)


def _alone(number: int) -> str:
    cases = "1 case has" if number == 1 else f"{number} cases have"
    return f"{cases} a figure in one of A and B alone, and stand outside the test"


def _row(found: Difference) -> tuple[str, ...]:
    low, high = found.interval or (None, None)
    interval = "–" if low is None or high is None else f"{size(low)} to {size(high)}"
    p = "–" if found.told_p is None else probability(found.told_p).removeprefix("p ").strip("= ")
    effect = "–" if found.effect is None else f"{found.effect:+.2f}".replace("-", "−")
    figures = ("–" if v is None else size(v) for v in (found.a, found.b, found.difference))
    counts = (found.better, found.worse, found.cases)
    return found.name, *figures, interval, p, effect, *map(str, counts)


def _changed(title: str, changes: Sequence[Change], console: Console) -> None:
    if changes:
        rows = [(c.case, c.name, size(c.a), size(c.b), size(c.b - c.a)) for c in changes]
        console.table(title, ("case", "", "A", "B", "B less A"), rows)
