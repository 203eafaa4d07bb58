"""How the run went: the outcome, and what to know before trusting the figures."""

from __future__ import annotations

from typing import Any

from pipeline.report.facts import Evidence
from pipeline.report.words import counted


def outcome(evidence: Evidence) -> dict[str, Any]:
    """The page's head: outcome, warnings, quarantined cases."""
    good, bad, failed = (
        len(cases) for cases in (evidence.complete, evidence.refused, evidence.failed)
    )
    gone = len(evidence.vanished)
    return {
        "outcome": {
            "clean": bool(good) and not bad and not failed,
            "sentence": _sentence(good, bad, failed),
            "counts": [
                ("complete", good - failed, ""),
                ("quarantined", bad, ""),
                ("failed", failed, "taken in, but without a score"),
                *([("vanished", gone, "their files are gone")] if gone else []),
            ],
        },
        "regression": evidence.regression,
        "held_out": len({c.case for c in evidence.held_out}),
        "split": evidence.scores["split"],
        "quarantined": evidence.quarantine,
        "warnings": _warnings(evidence),
    }


def _sentence(good: int, bad: int, failed: int) -> str:
    if not good + bad:
        return "No case has been taken in yet."
    if not good:
        return f"No usable case: {counted(bad, 'case')} quarantined, none left."
    if not bad and not failed:
        return f"Complete: {counted(good, 'case')}, none quarantined."
    lost = [(bad, "is quarantined", "are quarantined"), (failed, "has no score", "have no score")]
    (number, *words), *more = [(n, *said) for n, *said in lost if n]
    sentence = f"{number:,} of {counted(good + bad, 'case')} {words[number != 1]}"
    sentence += "".join(f" and {n:,} {said[n != 1]}" for n, *said in more)
    return f"Most cases were refused: {sentence}." if bad > good else f"Complete, but {sentence}."


def _warnings(evidence: Evidence) -> list[str]:
    """What a reader must know before trusting the figures."""
    found = [_unscored(evidence), _refused_since(evidence), _model(evidence), _record(evidence)]
    return [warning for warning in found if warning]


def _unscored(evidence: Evidence) -> str:
    split = evidence.scores["split"]
    held_out = {r.id for r in evidence.manifest if r.split == split} & evidence.complete
    unscored = sorted(evidence.failed)
    if not unscored:
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
