"""What fails at three in the morning takes no good mask away, and is mended by the next night."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import ModelError, SettingsError, StoreError
from pipeline.execute import unexpected
from pipeline.io.files import read_jsonl
from pipeline.io.manifest import read_manifest
from pipeline.publish import current_version
from pipeline.run.night import run_night
from tests.flows.discs import CASES
from tests.nights.conftest import Dataset

ALL = {f"disc_{n}" for n in range(CASES)}


def test_a_score_that_fails_takes_no_mask_away_and_is_made_by_the_next_night(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.score import stage

    def gone(task: Any) -> Any:
        raise OSError(errno.ESTALE, "stale")

    with monkeypatch.context() as broken:
        broken.setattr(stage, "measure", gone)
        night = run_night(dataset.settings)
    assert set(dataset.masks()) == ALL and night.scores is None
    assert {r.stage for r in night.refused} == {"score"}

    steps: list[str] = []
    night = run_night(dataset.settings, ended=lambda step, line: steps.append(step))
    assert steps[-2:] == ["score", "report"]
    assert night.scores is not None and not night.refused
    assert set(dataset.masks()) == ALL


def test_a_prediction_that_fails_keeps_the_published_mask_of_the_same_image(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.predict import stage

    run_night(dataset.settings)
    before = dataset.masks()
    shutil.rmtree(dataset.run.predictions)
    dataset.draw("new", 100)
    whole = stage.plan_predict

    def full(case: Any, *arguments: Any) -> Any:
        if case.case in ("disc_1", "new"):
            raise unexpected(OSError(errno.ENOSPC, "full"))
        return whole(case, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(stage, "plan_predict", full)
        night = run_night(dataset.settings)
    assert [(r.case, r.stage) for r in night.refused] == [("disc_1", "predict"), ("new", "predict")]
    assert dataset.masks() == before
    kept = {m.case for m in current_version(dataset.run.published).masks if m.kept_from == "v0001"}
    assert kept == {"disc_1"}

    run_night(dataset.settings)
    version = current_version(dataset.run.published)
    assert version.added == ("new",) and not any(m.kept_from for m in version.masks)


def test_a_truth_that_turns_bad_takes_no_mask_away_while_the_image_is_the_same(
    dataset: Dataset,
) -> None:
    run_night(dataset.settings)
    before = dataset.masks()
    truth = dataset.folder / "data" / "masks" / "disc_1.png"
    good, seen = truth.read_bytes(), truth.stat()
    truth.write_bytes(good[: len(good) // 2])
    for _ in range(2):
        night = run_night(dataset.settings)
        assert [(r.case, r.stage) for r in night.refused] == [("disc_1", "ingest")]
        assert dataset.masks() == before
    kept = {m.case for m in current_version(dataset.run.published).masks if m.kept_from == "v0001"}
    assert kept == {"disc_1"}

    truth.write_bytes(good)
    os.utime(truth, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    night = run_night(dataset.settings)
    assert not night.refused and dataset.masks() == before
    assert not any(m.kept_from for m in current_version(dataset.run.published).masks)

    truth.write_bytes(good[: len(good) // 2])
    dataset.draw("other", 100)
    dataset.image("disc_1").write_bytes(dataset.image("other").read_bytes())
    run_night(dataset.settings)
    version = current_version(dataset.run.published)
    assert set(version.removed) == {"disc_1"} and version.added == ("other",)


def test_a_disk_that_is_not_mounted_publishes_nothing(dataset: Dataset) -> None:
    run_night(dataset.settings)
    for number in range(1, CASES):
        dataset.image(f"disc_{number}").unlink()
        (dataset.folder / "data" / "masks" / f"disc_{number}.png").unlink()
    with pytest.raises(StoreError, match="7 of 8 published masks would be gone"):
        run_night(dataset.settings)
    assert set(dataset.masks()) == ALL
    assert read_jsonl(dataset.run.nights)[-1]["state"] == "failed"
    meant = dataset.settings.publish.model_copy(update={"most_removed": 1.0})
    run_night(dataset.settings.model_copy(update={"publish": meant}))
    assert set(dataset.masks()) == {"disc_0"}


def test_a_training_that_has_not_ended_serves_no_night(dataset: Dataset) -> None:
    (dataset.run.checkpoints / "train.json").unlink()
    with pytest.raises(ModelError, match="has not ended, so that its model is not judged"):
        run_night(dataset.settings)
    assert not dataset.run.promoted.exists()


def test_no_other_model_takes_the_place_of_a_lost_one(dataset: Dataset) -> None:
    night = run_night(dataset.settings)
    shutil.rmtree(dataset.run.promoted / night.model)
    with pytest.raises(ModelError, match="there is no usable model at .*promoted/current"):
        run_night(dataset.settings)


def test_folders_of_others_are_neither_counted_as_versions_nor_removed(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset(publish={"keep": 1})
    theirs = dataset.run.published / "v0001"
    theirs.mkdir(parents=True)
    (theirs / "letter.txt").write_text("mine")
    for number in range(2):
        dataset.draw(f"new_{number}", 100 + number)
        run_night(dataset.settings)
    assert sorted(p.name for p in dataset.run.published.iterdir()) == ["current", "v0001", "v0003"]
    assert (theirs / "letter.txt").read_text() == "mine"


def test_two_runs_do_not_publish_in_one_folder(dataset: Dataset) -> None:
    run_night(dataset.settings)
    with pytest.raises(SettingsError, match="holds versions of run discs: name another for other"):
        run_night(dataset.settings.model_copy(update={"name": "other"}))


def test_a_mask_of_an_earlier_image_is_not_published(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    dataset.draw("new", 100)
    run_night(dataset.settings)
    narrow = dataset.settings.predict.model_copy(update={"splits": ("train", "val", "test")})
    dataset.draw("new", 101)
    night = run_night(dataset.settings.model_copy(update={"predict": narrow}))
    assert night.publication is not None
    assert night.publication.version.removed == {
        "new": "its mask is of an earlier image, and no other was made"
    }


def test_a_version_that_was_published_and_not_told_is_told_by_the_next_night(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.run.night import steps

    def killed(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as broken:
        broken.setitem(steps.STEPS, "report", killed)
        with pytest.raises(OSError, match="full"):
            run_night(dataset.settings)
    row = read_jsonl(dataset.run.nights)[-1]
    assert (row["state"], row["version"]) == ("failed", "v0001")
    assert row["sentence"].startswith("failed, after v0001 was published: ")
    night = run_night(dataset.settings)
    assert (night.state, night.publication.version.name) == ("published", "v0001")
    assert dataset.run.report.exists()
    assert run_night(dataset.settings).state == "nothing new"


@pytest.mark.parametrize("content", ["{}", "not JSON"])
def test_a_damaged_index_costs_no_night(dataset: Dataset, content: str) -> None:
    run_night(dataset.settings)
    whole = dataset.masks()
    (dataset.run.published / "v0001" / "index.json").write_text(content)
    night = run_night(dataset.settings)
    assert night.publication.version.name == "v0002"
    assert dataset.masks() == whole


def test_a_current_that_is_no_link_is_refused_with_its_remedy(dataset: Dataset) -> None:
    (dataset.run.published / "current").mkdir(parents=True)
    with pytest.raises(StoreError, match="current is no link, as a backup makes of one: move it"):
        run_night(dataset.settings)


def test_a_mask_that_cannot_be_read_costs_no_other_one(dataset: Dataset) -> None:
    run_night(dataset.settings)
    shutil.rmtree(dataset.run.published)
    for path in (dataset.run.predictions).glob("*/disc_3.zarr/0/mask/c/**/*"):
        if path.is_file():
            path.write_bytes(b"")
    night = run_night(dataset.settings)
    assert {m.case for m in night.publication.version.masks} == ALL - {"disc_3"}


def test_a_damaged_record_of_nights_is_put_aside(dataset: Dataset) -> None:
    run_night(dataset.settings)
    dataset.run.nights.write_text("torn\n" + dataset.run.nights.read_text())
    dataset.draw("new", 100)
    assert run_night(dataset.settings).state == "published"
    assert dataset.run.nights.with_suffix(".damaged").read_text().startswith("torn")


def test_a_publication_that_failed_at_its_last_step_can_be_tried_again(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.publish import stage

    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as broken:
        broken.setattr(stage, "point", fails)
        with pytest.raises(OSError, match="no"):
            run_night(dataset.settings)
    night = run_night(dataset.settings)
    assert night.state == "published" and set(dataset.masks()) == ALL


def test_a_volume_that_another_run_rewrites_meanwhile_gives_no_mask(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.predict import stage

    whole = stage.predict_shards
    store = dataset.run.volumes / "disc_1.zarr" / "zarr.json"
    text = store.read_text()
    key = next(r.key for r in read_manifest(dataset.run.manifest) if r.id == "disc_1")

    def rewritten(task: Any) -> Any:
        store.write_text(text.replace(key, "0" * len(key)))
        return whole(task)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(stage, "predict_shards", rewritten)
        with pytest.raises(StoreError, match="disc_1 is gone, or another run has rewritten it"):
            run_night(dataset.settings)
    assert not list(dataset.run.predictions.glob("*/disc_1.zarr"))
    store.write_text(text)
    run_night(dataset.settings)
    assert set(dataset.masks()) == ALL
