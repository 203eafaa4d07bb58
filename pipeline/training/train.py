"""Patches → checkpoints: one network, or one for each fold and their ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models import Ensemble, EnsembleSettings
from pipeline.components import Cleanup
from pipeline.errors import ModelError
from pipeline.execute import Progress, silent
from pipeline.io.files import digest, read_json, remove_tree, write_json
from pipeline.metrics import mean
from pipeline.model_file import ModelCard, load_model, read_card, save_model, write_card
from pipeline.plan_file import Plan
from pipeline.training.bundle import try_bundle
from pipeline.training.cleanup import LEARNER, learn_cleanup
from pipeline.training.loop import TrainTask
from pipeline.training.network_training import STAGE, finished_network, train_network
from pipeline.training.settings import TrainSettings
from pipeline.training.tasks import plan_train


def train(
    plan: Plan,
    settings: TrainSettings,
    *,
    manifest: Path,
    volumes: Path,
    patches: Path,
    checkpoints: Path,
    progress: Progress = silent,
) -> ModelCard:
    """Train, or go on where an earlier try ended, or find it trained.

    Args:
        plan: Network, patch and batch.
        settings: The recipe.
        manifest: The cases; those of split ``val``, or of the fold, choose the best weights.
        volumes: Folder of their stores.
        patches: The patch store.
        checkpoints: Folder for weights, state and log; of folds, a folder for each and the
            ensemble's weights.
        progress: Told of steps.

    Returns:
        The card of the best weights, or of the ensemble; on a machine that only takes part, of the
        weights it last took part in.

    Raises:
        TrainingError: Training ended early; the last good checkpoint stands.
        SettingsError: There is no such fold.
    """
    tasks = plan_train(
        plan,
        settings,
        manifest=manifest,
        volumes=volumes,
        patches=patches,
        checkpoints=checkpoints,
    )
    found = [finished_network(task, progress) for task in tasks]
    trained = None not in found
    if settings.folds is not None and settings.host == 0:
        # best.pt will be the ensemble: a single network's state must not be gone on with.
        for name in ("last.pt", "log.jsonl", *(() if trained else ("train.json",))):
            (checkpoints / name).unlink(missing_ok=True)
    cards = [
        card or train_network(task, _named(progress, task, checkpoints))
        for task, card in zip(tasks, found, strict=True)
    ]
    if settings.host:
        return cards[-1]  # the rest is written by the first machine
    card = cards[0] if settings.folds is None else _together(tasks, cards, checkpoints)
    card = _with_cleanup(card, tasks, settings, checkpoints, progress)
    _write_bundle(settings, manifest, checkpoints, progress)
    if trained:
        progress(STAGE, 1, 1, "up to date")
    return card


def _named(progress: Progress, task: TrainTask, checkpoints: Path) -> Progress:
    """The progress of a fold, with its name."""
    if task.checkpoints == checkpoints:
        return progress
    return lambda stage, done, total, note: progress(
        stage, done, total, f"{task.checkpoints.name}: {note}"
    )


def _together(tasks: Sequence[TrainTask], cards: Sequence[ModelCard], folder: Path) -> ModelCard:
    """The networks of the folds as one model, ``best.pt``, with what they were judged at."""
    key = digest("mean of probabilities", [card.model_id for card in cards])
    finished, best = folder / "train.json", folder / "best.pt"
    if finished.exists() and (facts := read_json(finished)).get("key") == key:
        try:
            _, card = load_model(best)
            if card.model_id == facts["model_id"]:
                return card
        except ModelError:
            finished.unlink()  # put together once more
    plan = cards[0].plan
    assert not isinstance(plan.network, EnsembleSettings)
    settings = EnsembleSettings.of(plan.network, len(cards), plan.decision.kind)
    members = [load_model(task.checkpoints / "best.pt")[0] for task in tasks]
    ensemble = Ensemble(settings, members)
    judged = {t.checkpoints.name: c for t, c in zip(tasks, cards, strict=True)}
    scores = [c.training["val_score"] for c in cards if c.training["val_score"] is not None]
    training: dict[str, Any] = {
        "steps": sum(c.training["steps"] for c in cards),
        "position": sum(c.training["position"] for c in cards),
        "val_score": mean(scores),
        "mirrored": all(c.training.get("mirrored", True) for c in cards),
        "folds": {name: {"model_id": c.model_id, **c.training} for name, c in judged.items()},
    }
    save_model(best, ensemble.state_dict(), plan.model_copy(update={"network": settings}), training)
    card = read_card(best)
    write_json(finished, {"key": key, "model_id": card.model_id, **training})
    return card


def _with_cleanup(
    card: ModelCard,
    tasks: Sequence[TrainTask],
    settings: TrainSettings,
    checkpoints: Path,
    progress: Progress,
) -> ModelCard:
    """The model's card with what validation taught of its masks' components, also on disk."""
    finished, plan = checkpoints / "train.json", card.plan
    facts = read_json(finished)
    key = digest(LEARNER, card.model_id, settings.cleanup, [task.key for task in tasks])
    if facts.get("cleanup_key") == key:
        return card
    judged = any(task.validation for task in tasks)
    if settings.cleanup and judged and plan.target is None and plan.background is not None:
        learned = learn_cleanup(tasks, progress)
        cleanup, facts["cleanup"] = learned.cleanup, learned.sentences(plan.size_unit)
    else:
        cleanup, facts["cleanup"] = Cleanup(), []
    card = card.model_copy(update={"cleanup": cleanup})
    write_card(checkpoints / "best.pt", card)
    write_json(finished, facts | {"cleanup_key": key})
    return card


def _write_bundle(
    settings: TrainSettings, manifest: Path, checkpoints: Path, progress: Progress
) -> None:
    """Write the model's bundle, and into ``train.json`` why there is none."""
    finished = checkpoints / "train.json"
    facts = read_json(finished)
    if settings.bundle:
        facts["no_bundle"] = try_bundle(checkpoints, manifest)
        if facts["no_bundle"]:
            progress(STAGE, 1, 1, f"no MONAI bundle: {facts['no_bundle']}")
    else:
        facts.pop("no_bundle", None)
        remove_tree(checkpoints / "bundle")  # it may be of earlier weights
    write_json(finished, facts)
