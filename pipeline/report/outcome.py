"""How the run went: the outcome, what to know before trusting the figures, and the figures."""

from __future__ import annotations

from typing import Any

from pipeline.report.facts import Evidence
from pipeline.report.words import counted

MOST_ROWS = 1000


def outcome(evidence: Evidence) -> dict[str, Any]:
    """The page's head: outcome, warnings, quarantined cases."""
    good, bad = len(evidence.complete), len(evidence.refused)
    return {
        "outcome": {"clean": bool(good) and not bad, "sentence": _sentence(good, bad)},
        "regression": evidence.regression,
        "held_out": len({c.case for c in evidence.held_out}),
        "split": evidence.scores["split"],
        "quarantined": evidence.quarantine,
        "warnings": _warnings(evidence),
    }


def tables(evidence: Evidence) -> dict[str, Any]:
    """Figures by class and by case, and the page's headline."""
    scores, cases = evidence.scores, evidence.cases
    classes = [
        {"name": name, "color": evidence.color(name), **figures}
        for name, figures in scores["classes"].items()
    ]
    return {
        "mean_dice": scores["mean"]["dice"],
        "no_dice": _why_no_dice(evidence),
        "classes": classes,
        "averaged": sum(c["dice"] is not None for c in classes),
        "rules": scores["rules"],
        "cases": cases[:MOST_ROWS],
        "hidden_cases": len(cases[MOST_ROWS:]),
        "several_splits": len({c.split for c in cases}) > 1,
    }


def _sentence(good: int, bad: int) -> str:
    if not good + bad:
        return "No case has been taken in yet."
    if not good:
        return f"No usable case: {counted(bad, 'case')} quarantined, none left."
    if not bad:
        return f"Complete: {counted(good, 'case')}, none quarantined."
    verb = "is" if bad == 1 else "are"
    sentence = f"{bad:,} of {counted(good + bad, 'case')} {verb} quarantined"
    if bad > good:
        return f"Most cases were refused: {sentence}."
    return f"Complete, but {sentence}."


def _why_no_dice(evidence: Evidence) -> str:
    if evidence.scores["cases"]:
        return "no scored class is in truth or mask of any held-out case"
    if evidence.scored:
        return "no held-out case has been scored"
    return "there are no scores yet"


def _warnings(evidence: Evidence) -> list[str]:
    """What a reader must know before trusting the figures."""
    found = [_unscored(evidence), _refused_since(evidence), _model(evidence), _record(evidence)]
    return [warning for warning in found if warning]


def _unscored(evidence: Evidence) -> str:
    split = evidence.scores["split"]
    held_out = {r.id for r in evidence.manifest if r.split == split} & evidence.complete
    unscored = sorted(held_out - {c.case for c in evidence.cases})
    if not (evidence.scored and unscored):
        return ""
    names = ", ".join(unscored[:5]) + (" …" if len(unscored) > 5 else "")
    missing = counted(len(unscored), "held-out case")
    return f"{missing} of {len(held_out):,} not scored: {names}."


def _refused_since(evidence: Evidence) -> str:
    gone = sorted({c.case for c in evidence.cases} & evidence.refused)
    return f"Scored, but quarantined since: {', '.join(gone[:5])}. Score again." if gone else ""


def _model(evidence: Evidence) -> str:
    card, scored = evidence.card, evidence.scores["model_id"]
    if card is None:
        return "There is no readable model, so nothing is said of its plan and weights."
    if scored in (None, card.model_id):
        return ""
    return (
        f"The scores are of model {scored}, the run's model now is {card.model_id}: "
        "predict and score again."
    )


def _record(evidence: Evidence) -> str:
    record, scored = evidence.record, evidence.scores["model_id"]
    if record is None or scored in (None, record["model_id"]):
        return ""
    return (
        f"The last prediction was made by model {record['model_id']}, the scores are of {scored}."
    )
