"""scores.json: its figures against foreign ones, its parts, its ledger, and what is refused."""

import csv
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.errors import NothingUsableError, SettingsError
from pipeline.io.companion_store import Companion, CompanionWriter
from pipeline.io.manifest import read_manifest, read_quarantine
from pipeline.io.mask_store import MaskSpec, MaskWriter
from pipeline.io.ngff import LabelClass
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import read_card
from pipeline.run import load_settings
from pipeline.score import headline, tasks
from pipeline.score.calibration import summarise_confidence
from pipeline.space import Window
from tests.stages import scored
from tests.trained import small_plan, write_model

CLASSES = (LabelClass(0, "background", True), LabelClass(1, "liver"), LabelClass(2, "tumour"))
SHAPE = (7, 11, 9)
WHOLE = Window.whole(SHAPE)


@pytest.fixture
def run(make_msd, take_in, tmp_path):
    """Eight ingested cases, seven held out, a model, and masks that are half right."""
    take_in(make_msd(tmp_path / "data", cases=8), tmp_path)
    write_model(tmp_path, small_plan(3))
    rows = read_manifest(tmp_path / "manifest.jsonl")
    held_out = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    for number, row in enumerate(held_out):
        row["split"] = "train" if number == 0 else "test"
    lines = "".join(json.dumps(row) + "\n" for row in held_out)
    (tmp_path / "manifest.jsonl").write_text(lines)
    for number, row in enumerate(rows):
        put_mask(tmp_path, row, number)
    return tmp_path


def masks(run):
    return run / "predictions" / read_card(run / "best.pt").model_id


def truth_of(run, row):
    return VolumeStore(run / "volumes" / row.store).read_truth(WHOLE)


def put_mask(run, row, seed, key="key"):
    """Write labels of which half are the truth's; give them."""
    volume, random = VolumeStore(run / "volumes" / row.store), np.random.default_rng(seed)
    right, noise = random.random(SHAPE) < 0.5, random.integers(0, 3, SHAPE)
    labels = np.where(right, volume.read_truth(WHOLE), noise).astype(np.uint8)
    spec = MaskSpec(volume.grid, CLASSES, f"{key}-{seed}", {"sources": volume.sources})
    writer = MaskWriter.create(masks(run) / row.store, spec)
    writer.write(WHOLE, labels)
    writer.finish()
    np.save(run / f"{row.id}.npy", labels)
    return spec


def rows_of(run):
    return read_manifest(run / "manifest.jsonl")


def test_overlaps_are_those_of_simpleitk(run):
    scores = scored(run, surfaces=False)
    for row in rows_of(run):
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        truth, mask = truth_of(run, row), np.load(run / f"{row.id}.npy")
        overlap.Execute(sitk.GetImageFromArray(mask), sitk.GetImageFromArray(truth))
        for label in (1, 2):
            found = next(
                r
                for r in scores["cases"]
                if r["case"] == row.id and r["class"] == CLASSES[label].name
            )
            assert found["dice"] == pytest.approx(overlap.GetDiceCoefficient(label), abs=1e-12)
            assert found["iou"] == pytest.approx(overlap.GetJaccardCoefficient(label), abs=1e-12)
            missed = overlap.GetFalseNegativeError(label)
            assert found["recall"] == pytest.approx(1 - missed, abs=1e-12)
            outside = truth != label
            assert found["specificity"] == pytest.approx((mask[outside] != label).mean(), abs=1e-12)


def test_surfaces_are_measured_in_millimetres_as_simpleitk_does(run):
    scores = scored(run)
    row = rows_of(run)[1]
    spacing = VolumeStore(run / "volumes" / row.store).grid.spacing
    pair = [
        sitk.GetImageFromArray(np.uint8(labels == 2))
        for labels in (truth_of(run, row), np.load(run / f"{row.id}.npy"))
    ]
    for image in pair:
        image.SetSpacing(spacing[::-1])
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*pair)
    found = next(r for r in scores["cases"] if (r["case"], r["class"]) == (row.id, "tumour"))
    assert 0 < found["msd"] <= found["hd95"] <= hausdorff.GetHausdorffDistance() + 1e-6
    assert scores["units"] == {"distance": "mm", "volume": "ml", "tolerance": None}
    assert 0 <= found["nsd"] <= 1


def test_volumes_are_in_millilitres_of_the_affine(run):
    scores = scored(run, surfaces=False)
    row = rows_of(run)[0]
    matrix = VolumeStore(run / "volumes" / row.store).grid.matrix[:3, :3]
    voxel = abs(np.linalg.det(matrix)) / 1000
    found = next(r for r in scores["cases"] if (r["case"], r["class"]) == (row.id, "liver"))
    made, true = ((np.load(run / f"{row.id}.npy") == 1).sum(), (truth_of(run, row) == 1).sum())
    assert found["volume"] == pytest.approx(made * voxel, rel=1e-12)
    assert found["volume_difference"] == pytest.approx((made - true) * voxel, rel=1e-9)


def test_a_region_is_scored_as_one_object_and_stays_out_of_the_headline(run):
    without = scored(run, surfaces=False)
    scores = scored(run, surfaces=False, regions={"whole": ("liver", "tumour")})
    assert scores["mean"] == without["mean"] and scores["cases"] == without["cases"]
    assert scores["regions"]["whole"]["of"] == ["liver", "tumour"]
    row = rows_of(run)[3]
    mask, truth = np.load(run / f"{row.id}.npy") > 0, truth_of(run, row) > 0
    expected = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    found = next(r for r in scores["region_cases"] if r["case"] == row.id)
    assert found["region"] == "whole" and found["dice"] == pytest.approx(expected, abs=1e-12)
    rows = list(csv.DictReader((run / "scores-regions.csv").read_text().splitlines()))
    assert len(rows) == 8 and {r["region"] for r in rows} == {"whole"}


def test_every_split_has_its_means_and_the_held_out_one_is_the_runs(run):
    scores = scored(run, surfaces=False)
    assert list(scores["splits"]) == ["test", "train"]
    assert scores["splits"]["test"]["classes"] == scores["classes"]
    train = [r["dice"] for r in scores["cases"] if r["split"] == "train" and r["class"] == "liver"]
    assert scores["splits"]["train"]["classes"]["liver"]["dice"] == pytest.approx(np.mean(train))
    low, high = scores["mean"]["dice_ci"]
    assert low < scores["mean"]["dice"] < high
    assert scores["splits"]["train"]["mean"]["dice_ci"] is None  # of one case nothing is known


def test_the_confusion_matrix_is_of_the_held_out_cases(run):
    scores = scored(run, surfaces=False)
    expected = np.zeros((3, 3), np.int64)
    for row in rows_of(run):
        if row.split == "test":
            np.add.at(expected, (truth_of(run, row), np.load(run / f"{row.id}.npy")), 1)
    assert scores["confusion"] == {
        "classes": ["background", "liver", "tumour"],
        "counts": expected.tolist(),
    }


def test_parts_of_a_case_add_up_whatever_they_are(run, monkeypatch):
    whole = scored(run, surfaces=False)
    monkeypatch.setattr(tasks, "PART", 100)
    monkeypatch.setattr(
        "pipeline.io.mask_store.MaskStore.windows",
        lambda mask: [Window((z, 0, 0), (1, *SHAPE[1:])) for z in range(SHAPE[0])],
    )
    (run / "ledger/score" / f"{read_card(run / 'best.pt').model_id}.jsonl").unlink()
    assert scored(run, surfaces=False) == whole


def test_what_has_not_changed_is_not_read_again(run, monkeypatch):
    first = scored(run)
    read = []
    original = VolumeStore.read_truth
    monkeypatch.setattr(
        VolumeStore, "read_truth", lambda v, w: (read.append(v.path.stem), original(v, w))[1]
    )
    assert scored(run) == first and read == []
    again = rows_of(run)[2]
    put_mask(run, again, 99)
    changed = scored(run)
    # Opened anew to write the mask, then for its voxels and its surfaces.
    assert set(read) == {again.id}
    assert changed["mean"] != first["mean"]
    # Another tolerance: the surfaces alone are measured again.
    read.clear()
    loose = scored(run, tolerance=5.0)
    assert loose["classes"]["liver"]["nsd"] > changed["classes"]["liver"]["nsd"]
    assert loose["classes"]["liver"]["dice"] == changed["classes"]["liver"]["dice"]


def test_objects_are_matched_where_asked_and_membranes_by_name(run):
    scores = scored(run, surfaces=False, objects=True, membrane="background")
    liver = scores["objects"]["liver"]
    assert liver["pq"] == pytest.approx((liver["sq"] or 0) * liver["rq"])
    assert [row["iou"] for row in liver["by_iou"]][:2] == [0.5, 0.55]
    assert len(scores["object_cases"]) == 16
    assert liver["n_truth"] == sum(
        r["n_truth"]
        for r in scores["object_cases"]
        if (r["split"], r["class"]) == ("test", "liver")
    )
    assert 0 < scores["membranes"]["rand"] < 1 and len(scores["membranes"]["cases"]) == 7
    plain = scored(run, surfaces=False)
    assert plain["objects"] is None and plain["membranes"] is None


def test_probabilities_that_are_kept_are_calibrated(run):
    names, told = tuple(c.name for c in CLASSES), [[], []]
    for number, row in enumerate(rows_of(run)):
        spec = put_mask(run, row, number, key="kept")
        labels, truth = np.load(run / f"{row.id}.npy"), truth_of(run, row)
        stored = np.random.default_rng(number).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
        final = masks(run) / "probabilities" / row.store
        writer = CompanionWriter.create(Companion.probabilities(names), final, spec)
        writer.write(WHOLE, stored)
        writer.finish()
        if row.split == "test":
            given = np.take_along_axis(stored, labels[None].astype(int), 0)[0] / 255
            told[0].append(given.ravel()), told[1].append((labels == truth).ravel())
    confidence, right = (np.concatenate(side) for side in told)
    scores = scored(run, surfaces=False)
    bins = np.minimum((np.rint(confidence * 255).astype(int) * 15) // 255, 14)
    expected = sum(
        (bins == b).mean() * abs(right[bins == b].mean() - confidence[bins == b].mean())
        for b in np.unique(bins)
    )
    assert scores["calibration"]["ece"] == pytest.approx(expected, abs=1e-12)
    assert sum(b["count"] for b in scores["calibration"]["bins"]) == len(right)


def test_a_certain_network_that_is_always_right_is_calibrated():
    counts = np.zeros((2, 256), np.int64)
    counts[1, 255] = 10
    assert summarise_confidence(counts)["ece"] == 0
    counts[0, 255] = 10
    assert summarise_confidence(counts)["ece"] == 0.5
    assert summarise_confidence(np.zeros((2, 256), np.int64)) is None


def test_a_truth_of_other_classes_is_refused_by_name(run):
    plan = small_plan(3)
    turned = (plan.classes[0], plan.classes[2], plan.classes[1])
    write_model(run, plan.model_copy(update={"classes": turned}))
    for number, row in enumerate(rows_of(run)):
        put_mask(run, row, number)
    said = r"truth has the classes background, liver, tumour, the model background, tumour, liver"
    with pytest.raises(NothingUsableError, match=said):
        scored(run, surfaces=False)


def test_a_store_that_is_still_written_is_refused_and_the_others_are_scored(run):
    first, *others = rows_of(run)
    (masks(run) / first.store / "zarr.json").write_text("{")
    assert {r["case"] for r in scored(run, surfaces=False)["cases"]} == {r.id for r in others}
    assert "it cannot be scored" in read_quarantine(run / "quarantine.jsonl")[0].reason


def test_a_held_out_case_without_a_mask_is_named_beside_the_mean(run):
    assert scored(run, surfaces=False)["unscored"] == []
    lost = next(row for row in rows_of(run) if row.split == "test")
    shutil.rmtree(masks(run) / lost.store)
    scores = scored(run, surfaces=False)
    assert scores["unscored"] == [lost.id]
    assert headline(scores).endswith(f"without 1 held-out case that has no score: {lost.id}")


def test_cases_in_several_units_have_no_mean_length(run):
    first = rows_of(run)[1]
    path = run / "volumes" / first.store
    for store in (path, masks(run) / first.store):
        about = json.loads((store / "zarr.json").read_text())
        about["attributes"]["segflow"]["grid"]["unit"] = None
        (store / "zarr.json").write_text(json.dumps(about))
    scores = scored(run)
    assert scores["units"] == {"distance": None, "volume": None, "tolerance": None}
    liver = scores["classes"]["liver"]
    assert liver["hd95"] is None and liver["volume"] is None
    assert liver["dice"] is not None and liver["nsd"] is not None


def test_a_region_of_no_class_is_a_sentence(run):
    with pytest.raises(SettingsError, match=r"score.regions.whole names spleen; the model's class"):
        scored(run, regions={"whole": ("liver", "spleen")})
    with pytest.raises(SettingsError, match=r"score.membrane names wall; the model's classes are"):
        scored(run, membrane="wall")


def test_without_any_mask_there_is_a_sentence(run):
    write_model(run, small_plan(3), seed=9)
    with pytest.raises(NothingUsableError, match="holds no mask of a labelled case"):
        scored(run)


def test_a_region_of_no_class_is_refused_before_anything_is_done(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "name: a\n"
        "data: {root: x, layout: pairs, "
        "classes: [{name: sky, values: [0]}, {name: land, values: [1]}]}\n"
        "score: {regions: {whole: [sea]}}\n"
    )
    with pytest.raises(SettingsError, match=r"regions.whole names sea; data.classes has land, sky"):
        load_settings(path, [])
