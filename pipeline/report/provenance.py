"""Where the masks come from: the model and the plan behind it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from models import EnsembleSettings
from pipeline.model_file import ModelCard, versions
from pipeline.plan_file import Plan
from pipeline.report.facts import Evidence
from pipeline.report.words import counted, memory, times

# Reasons of decisions that the planner does not give reasons for.
REASONS = {
    "classes": "set in data.classes",
    "target": "named in data.target; mean and spread of the training cases' truth",
    "channels": "as the images have them",
    "spacing": "median over the cases",
}


def provenance(evidence: Evidence) -> dict[str, Any]:
    """Facts of the model, and the decisions of its plan; nothing where there is no model."""
    data = _data(evidence)
    if evidence.card is None:
        return {"model": [], "plan": [], "data": data}
    return {"model": _model(evidence.card), "plan": _decisions(evidence.card.plan), "data": data}


def _data(evidence: Evidence) -> list[tuple[str, str]]:
    """How many cases of which split, and the files that they were made from."""
    rows = [row for row in evidence.manifest if row.id in evidence.complete]
    if not rows:
        return []
    splits = Counter(row.split for row in rows)
    sources = [source for row in rows for source in row.sources]
    said = [("cases", ", ".join(f"{n:,} {split}" for split, n in sorted(splits.items())))]
    if not sources:
        return said
    # One sum for all: it changes when any file does, and not with their order.
    sums = hashlib.sha256("".join(sorted(s.sha256 for s in sources)).encode()).hexdigest()
    files = counted(sum(s.files for s in sources), "file")
    size = memory(sum(s.size for s in sources))
    return [*said, ("source files", f"{files}, {size}"), ("sha256 of their sha256s", sums)]


def _model(card: ModelCard) -> list[tuple[str, str]]:
    return [
        ("model", card.model_id),
        ("weights, sha256", card.weights_sha256),
        ("plan key", card.plan_key),
        ("trained with", _versions(card.versions)),
        ("reported with", _versions(versions())),
        *((f"training: {_named(k, card.plan)}", _value(v)) for k, v in card.training.items()),
    ]


def _named(key: str, plan: Plan) -> str:
    """What a figure of the training is called."""
    if key == "val_score":
        return f"validation {plan.score_name}"
    return key.replace("_", " ")


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_value(v)}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _decisions(plan: Plan) -> list[tuple[str, str, str]]:
    """Decisions with their values and reasons."""
    values = _decided(plan)
    reasons = {name: why for name, why in REASONS.items() if name in values} | plan.reasons
    names = dict.fromkeys([*values, *reasons])
    return [(n.replace("_", " "), values.get(n, "–"), reasons.get(n, "–")) for n in names]


def _predicted(plan: Plan) -> dict[str, str]:
    """What the network predicts."""
    if plan.target is None:
        return {"classes": ", ".join(c.name for c in plan.classes)}
    name, mean, std = plan.target.name, plan.target.mean, plan.target.std
    return {"target": f"{name}, {mean:.4g} ± {std:.4g}"}


def _decided(plan: Plan) -> dict[str, str]:
    if isinstance(plan.network, EnsembleSettings):
        network, together = plan.network.member, f"{plan.network.count} together: "
    else:
        network, together = plan.network, ""
    features = ", ".join(map(str, network.features))
    # A transformer has no choice of norm.
    norm = getattr(network, "norm", None)
    normed = f", {norm} norm" if norm else ""
    return {
        **_predicted(plan),
        "channels": ", ".join(plan.channels),
        "spacing": f"{times(plan.spacing, digits=4)} {plan.unit or ''}".strip(),
        "patch_shape": times(plan.patch_shape),
        "batch_size": str(plan.batch_size),
        "stages": str(len(network.features)),
        "network": f"{together}{network.kind}, {network.ndim}-D{normed}, features {features}",
        "loss": plan.loss.kind,
        "normalisation": plan.normalisation.kind,
    }
