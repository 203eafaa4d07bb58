"""Cross-validation: a network for each fold, and their ensemble."""

import json

import pytest
import torch

from models import Ensemble
from pipeline.errors import ModelError, SettingsError
from pipeline.io.manifest import read_manifest
from pipeline.io.patch_store import PatchStore
from pipeline.model_file import load_model
from pipeline.training import train
from pipeline.training.dataset import PatchDataset
from pipeline.training.fine_tuning import start_from
from pipeline.training.tasks import plan_train
from pipeline.training.transforms import Augment
from tests.stages import predicted
from tests.trained import small_plan
from tests.training.small import places, recipe, same, tensors

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture
def folds(run):
    """The training cases of each fold."""
    rows = [row for row in read_manifest(run / "manifest.jsonl") if row.split == "train"]
    return {row.fold: [r.id for r in rows if r.fold == row.fold] for row in rows}


def test_a_fold_is_judged_by_its_own_cases_and_trained_on_the_others(run, folds):
    tasks = plan_train(small_plan(3), recipe(folds="all"), **places(run))
    assert len(tasks) == len(folds) >= 2
    cases = PatchStore(run / "patches.zarr").attributes["cases"]
    for task, (fold, own) in zip(tasks, sorted(folds.items()), strict=True):
        assert task.checkpoints == run / "checkpoints" / f"fold-{fold}"
        assert [path.stem for path in task.validation] == own
        dataset = PatchDataset(
            task.patches, Augment((16, 16, 16), 0.0, False, 255), 0, task.left_out
        )
        seen = {cases[dataset[position]["number"]] for position in range(2 * len(dataset))}
        assert seen == {case for case in cases if case not in own}
    keys = {task.key for task in tasks}
    (single,) = plan_train(small_plan(3), recipe(), **places(run))
    assert len(keys | {single.key}) == len(tasks) + 1


def test_the_ensemble_is_the_mean_of_the_folds_networks(run, folds):
    told = []
    settings = recipe(folds="all", max_steps=4, bundle=False)
    card = train(
        small_plan(3),
        settings,
        **places(run),
        progress=lambda stage, done, total, note: told.append(note),
    )
    folder = run / "checkpoints"
    ensemble, stored = load_model(folder / "best.pt")
    assert isinstance(ensemble, Ensemble) and stored == card
    assert card.model_id.startswith("ensemble-")
    members = [load_model(folder / f"fold-{fold}" / "best.pt")[0] for fold in sorted(folds)]
    x = torch.randn(2, 1, 16, 16, 24)
    with torch.no_grad():
        expected = torch.stack([member.eval()(x).softmax(1) for member in members]).mean(0)
        torch.testing.assert_close(ensemble.eval()(x).softmax(1), expected)
    judged = card.training["folds"]
    assert card.training["steps"] == sum(fold["steps"] for fold in judged.values())
    scores = [judged[f"fold-{fold}"]["val_score"] for fold in sorted(folds)]
    assert card.training["val_score"] == pytest.approx(sum(scores) / len(scores))
    assert any(note.startswith("fold-0: loss") for note in told)


def test_finished_folds_are_found_and_others_are_added(run, folds):
    settings = {"max_steps": 2, "validations": 1, "bundle": False}
    one = train(small_plan(3), recipe(folds=[0], **settings), **places(run))
    weights = tensors(run / "checkpoints/fold-0/last.pt")["model"]
    changed = (run / "checkpoints/fold-0/best.pt").stat().st_mtime_ns
    every = train(small_plan(3), recipe(folds="all", **settings), **places(run))
    assert (run / "checkpoints/fold-0/best.pt").stat().st_mtime_ns == changed
    assert every.plan.network.count == len(folds) > one.plan.network.count == 1
    assert same(tensors(run / "checkpoints/fold-0/last.pt")["model"], weights)
    before = (run / "checkpoints/best.pt").stat().st_mtime_ns
    told = []
    again = train(
        small_plan(3),
        recipe(folds="all", **settings),
        **places(run),
        progress=lambda stage, done, total, note: told.append(note),
    )
    assert again == every and told == ["up to date"]
    assert (run / "checkpoints/best.pt").stat().st_mtime_ns == before
    (run / "checkpoints/best.pt").write_bytes(b"damaged")
    assert train(small_plan(3), recipe(folds="all", **settings), **places(run)) == every
    assert load_model(run / "checkpoints/best.pt")[1] == every


def test_a_single_network_and_folds_follow_each_other_in_a_run(run):
    settings = {"max_steps": 2, "validations": 1, "bundle": False}
    single = train(small_plan(3), recipe(**settings), **places(run))
    together = train(small_plan(3), recipe(folds=[0], **settings), **places(run))
    again = train(small_plan(3), recipe(**settings), **places(run))
    assert again.model_id == single.model_id != together.model_id
    assert load_model(run / "checkpoints/best.pt")[1].model_id == single.model_id
    back = train(small_plan(3), recipe(folds=[0], **settings), **places(run))
    assert back.model_id == together.model_id
    facts = json.loads((run / "checkpoints/train.json").read_text())
    assert facts["model_id"] == together.model_id and list(facts["folds"]) == ["fold-0"]


def test_an_ensemble_predicts_and_is_a_bundle(run):
    card = train(small_plan(3), recipe(folds=[0, 1], max_steps=2, validations=1), **places(run))
    masks = predicted(run, run / "checkpoints/best.pt", splits=("test",))
    assert {path.parent.name for path in masks} == {card.model_id}
    facts = json.loads((run / "checkpoints/train.json").read_text())
    assert facts["no_bundle"] is None
    form = torch.jit.load(run / "checkpoints/bundle/models/model.ts")
    ensemble, _ = load_model(run / "checkpoints/best.pt")
    x = torch.randn(1, 1, 16, 24, 16)
    with torch.no_grad():
        torch.testing.assert_close(form(x), ensemble.eval()(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match=r"is an ensemble: start from one of its networks"):
        start_from(ensemble, small_plan(3), run / "checkpoints/best.pt")


def test_a_fold_that_is_not_there_is_told(run, folds):
    with pytest.raises(SettingsError, match="there is no fold 7; the training cases are dealt"):
        plan_train(small_plan(3), recipe(folds=[0, 7]), **places(run))


def test_the_only_fold_leaves_nothing_to_learn_from(run, folds):
    manifest = run / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        row["fold"] = 0 if row["fold"] is not None else None
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SettingsError, match=r"set ingest\.folds to 2 or more"):
        plan_train(small_plan(3), recipe(folds="all"), **places(run))
