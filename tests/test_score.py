import csv
import json

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric

from pipeline.errors import NothingUsableError
from pipeline.io.manifest import read_manifest, read_quarantine
from pipeline.io.mask_store import MaskSpec, MaskWriter
from pipeline.io.ngff import LabelClass
from pipeline.io.volume_store import VolumeStore
from pipeline.metrics import class_counts, confusion
from pipeline.model_file import read_card
from pipeline.score.classes import FIGURES, summarise
from pipeline.space import Window
from tests.stages import scored
from tests.trained import small_plan, write_model

CLASSES = (LabelClass(0, "background", True), LabelClass(1, "liver"), LabelClass(2, "tumour"))
SHAPE = (40, 66, 70)  # 1 x 2 x 2 chunks: the counts of a case are merged from four windows


@pytest.fixture
def run(make_msd, take_in, tmp_path):
    """Five ingested cases, a model, and random masks that agree with the truth by half."""
    take_in(make_msd(tmp_path / "data", cases=5, shape=SHAPE[::-1]), tmp_path)
    model = write_model(tmp_path, small_plan(3))
    folder = tmp_path / "predictions" / read_card(model).model_id
    random = np.random.default_rng(2)
    for row in read_manifest(tmp_path / "manifest.jsonl"):
        volume = VolumeStore(tmp_path / "volumes" / row.store)
        truth = volume.read_truth(Window.whole(SHAPE))
        labels = np.where(random.random(SHAPE) < 0.5, truth, random.integers(0, 3, SHAPE))
        final = folder / row.store
        writer = MaskWriter.create(
            final, MaskSpec(volume.grid, CLASSES, "key", {"sources": volume.sources})
        )
        for z, y, x in np.ndindex(1, 2, 2):
            box = Window((z * 64, y * 64, x * 64), (64, 64, 64)).clipped(SHAPE)
            writer.write(box, labels[box.slices].astype(np.uint8))
        writer.finish()
        np.save(tmp_path / f"{row.id}.npy", labels)
    return tmp_path


def one_hot(labels):
    return torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), 3).movedim(-1, 0)


def test_dice_is_what_monai_gives_for_the_whole_arrays(run):
    scores = scored(run)
    for row in read_manifest(run / "manifest.jsonl"):
        truth = VolumeStore(run / "volumes" / row.store).read_truth(Window.whole(SHAPE))
        labels = np.load(run / f"{row.id}.npy")
        metric = DiceMetric(include_background=False)
        expected = metric(one_hot(labels)[None], one_hot(truth)[None])[0]
        found = [r["dice"] for r in scores["cases"] if r["case"] == row.id]
        assert found == pytest.approx(expected.tolist(), abs=1e-6)  # MONAI computes in float32


def test_the_headline_is_the_mean_over_classes_of_the_mean_over_held_out_cases(run):
    scores = scored(run)
    held_out = {r.id for r in read_manifest(run / "manifest.jsonl") if r.split == "test"}
    by_class = {
        name: np.mean(
            [r["dice"] for r in scores["cases"] if r["class"] == name and r["case"] in held_out]
        )
        for name in ("liver", "tumour")
    }
    assert scores["mean"]["dice"] == pytest.approx(np.mean(list(by_class.values())), abs=1e-12)
    assert scores["classes"]["liver"]["n_cases"] == len(held_out)
    assert json.loads((run / "scores.json").read_text()) == scores
    rows = list(csv.DictReader((run / "scores.csv").read_text().splitlines()))
    assert len(rows) == len(scores["cases"]) == 10
    assert "background" not in {r["class"] for r in rows}


def test_a_class_absent_from_truth_and_mask_is_counted_and_not_averaged():
    def row(case, name, dice):
        figures = dict.fromkeys(FIGURES, dice)
        return {"case": case, "split": "test", "class": name, **figures}

    rows = [row("a", "liver", 0.5), row("b", "liver", None), row("a", "tumour", None)]
    found = summarise(rows, ("liver", "tumour"), "class")
    liver, tumour = found["groups"]["liver"], found["groups"]["tumour"]
    assert liver["dice"] == 0.5
    assert (liver["n_cases"], liver["n_empty"]) == (1, 1)
    assert tumour["dice"] is None
    assert found["mean"] == {"dice": 0.5, "iou": 0.5, "dice_ci": None}


def test_a_class_that_the_mask_invents_scores_zero():
    truth, mask = np.zeros(10, np.uint8), np.array([1] + [0] * 9, np.uint8)
    counts = class_counts(confusion(mask, truth, 2))[1]
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (0, 1, 0, 9)
    assert counts.dice == 0.0


def test_voxels_without_truth_or_data_are_not_scored():
    truth, mask = np.array([1, 1, 255, 0], np.uint8), np.array([1, 255, 1, 0], np.uint8)
    assert confusion(mask, truth, 2).tolist() == [[1, 0], [0, 1]]


def test_nothing_predicted_is_a_sentence(run):
    write_model(run, small_plan(3), seed=9)
    with pytest.raises(NothingUsableError, match="run `segflow predict`"):
        scored(run)


def test_a_mask_of_another_image_is_set_aside_and_the_others_are_scored(run):
    card = read_card(run / "best.pt")
    rows = read_manifest(run / "manifest.jsonl")
    odd = rows[0]
    volume = VolumeStore(run / "volumes" / odd.store)
    sources = [{**source, "sha256": "0" * 64} for source in volume.sources]
    final = run / "predictions" / card.model_id / odd.store
    MaskWriter.create(final, MaskSpec(volume.grid, CLASSES, "key", {"sources": sources})).finish()
    scores = scored(run)
    assert {r["case"] for r in scores["cases"]} == {r.id for r in rows[1:]}
    refused = read_quarantine(run / "quarantine.jsonl")
    assert [(r.case, r.stage) for r in refused] == [(odd.id, "score")]
    assert "another version of its image" in refused[0].reason
