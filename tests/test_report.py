import csv
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import UNetSettings
from pipeline.io.files import digest, write_json, write_jsonl
from pipeline.io.manifest import ManifestRow, QuarantineRow, replace_quarantine, write_manifest
from pipeline.io.mask_store import MaskSpec, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.metrics import class_counts, confusion
from pipeline.model_file import ModelCard
from pipeline.normalise import Normalisation
from pipeline.plan_file import Plan, PlannedClass
from pipeline.report import ReportSettings, report
from pipeline.report.facts import CaseScore
from pipeline.report.gallery import choose_cases
from pipeline.space import Grid, Volume, voxel_grid
from pipeline.space.grid import as_affine

SHA = "c0ffee" + "0" * 58
MODEL_ID = f"unet-{SHA[:10]}"
HOSTILE = "<script>alert(1)</script>"
OFFLINE = r"#|data:image/(?:png|jpeg);base64,|(\.\./)?[\w.-]+$"
"""What a page may refer to: itself, pictures in it, files of the run."""
VOID = {"meta", "img", "br", "link", "input", "hr"}


@dataclass
class FakeRun:
    """A run's files, as the stages before the report leave them."""

    root: Path
    names: tuple[str, ...] = ("background", "nucleus", "membrane")
    ndim: int = 2
    rows: list[ManifestRow] = field(default_factory=list)
    score_rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        return tuple(LabelClass(i, n, i == 0) for i, n in enumerate(self.names))

    def add(
        self,
        case: str,
        image: np.ndarray,
        truth: np.ndarray,
        mask: np.ndarray | None,
        grid: Grid | None = None,
        split: str = "test",
    ) -> None:
        """Take a case in, predict it and score it."""
        grid = grid or voxel_grid(truth.shape)
        self._volume(case, image, truth, grid)
        row = ManifestRow(case, case, split, None, "complete", store=f"{case}.zarr")  # type: ignore[arg-type]
        self.rows.append(row)
        if mask is not None:
            self._mask(case, mask, grid)
        scored = truth if mask is None else mask
        counts = class_counts(confusion(scored, truth, len(self.names)))
        for c, n in list(zip(self.classes, counts, strict=True))[1:]:
            figures = {"dice": n.dice, "iou": n.iou, "precision": n.precision, "recall": n.recall}
            whole = {"tp": n.tp, "fp": n.fp, "fn": n.fn, "tn": n.tn}
            self.score_rows.append(
                {"case": case, "split": split, "class": c.name, **figures, **whole}
            )

    def _volume(self, case: str, image: np.ndarray, truth: np.ndarray, grid: Grid) -> None:
        channels = tuple(str(i) for i in range(len(image)))
        spec = VolumeSpec(grid, str(image.dtype), channels, self.classes)
        writer = VolumeWriter(self.root / "volumes" / f"{case}.zarr", spec)
        for window in writer.windows():
            part = image[(slice(None), *window.slices)]
            writer.write(window, Volume(part, grid.cropped(window)), truth[window.slices])
        limits = [
            {"percentiles": {"1": float(np.percentile(c, 1)), "99": float(np.percentile(c, 99))}}
            for c in image
        ]
        writer.finish({"channels": limits}, digest(case), [])

    def _mask(self, case: str, mask: np.ndarray, grid: Grid) -> None:
        path = self.root / "predictions" / MODEL_ID / f"{case}.zarr"
        writer = MaskWriter.create(path, MaskSpec(grid, self.classes, digest(case), {}))
        for window in mask_windows(mask.shape, "uint8"):
            writer.write(window, mask[window.slices])
        writer.finish()

    def refuse(self, *cases: str) -> None:
        """Quarantine cases."""
        rows = [QuarantineRow(c, "ingest", f"{c} is torn.", "Copy it anew.") for c in cases]
        replace_quarantine(self.root / "quarantine.jsonl", "ingest", rows)

    def finish(self, *, log: bool = True, record: bool = True, card: bool = True) -> None:
        """Write manifest, scores, log, record and model card."""
        write_manifest(self.root / "manifest.jsonl", self.rows)
        self._scores()
        if log:
            write_jsonl(self.root / "log.jsonl", self._log())
        if record:
            write_json(self.root / "predict.json", self._record())
        if card:
            write_json(self.root / "best.json", self._card().model_dump(mode="json"))

    def _scores(self) -> None:
        classes = {}
        for name in self.names[1:]:
            rows = [r for r in self.score_rows if r["class"] == name and r["split"] == "test"]
            figures = {}
            for key in ("dice", "iou", "precision", "recall"):
                values = [r[key] for r in rows if r[key] is not None]
                figures[key] = float(np.mean(values)) if values else None
            empty = sum(r["dice"] is None for r in rows)
            classes[name] = {**figures, "n_cases": len(rows) - empty, "n_empty": empty}
        dice = [c["dice"] for c in classes.values() if c["dice"] is not None]
        write_json(
            self.root / "scores.json",
            {
                "run": "fake",
                "model_id": MODEL_ID,
                "split": "test",
                "mean": {"dice": float(np.mean(dice)) if dice else None},
                "classes": classes,
                "cases": self.score_rows,
                "rules": "Counts are summed per case. A class in neither is left out.",
            },
        )
        with (self.root / "scores.csv").open("w", newline="") as file:
            csv.writer(file).writerows(r.values() for r in self.score_rows)

    def _log(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        noise = np.random.default_rng(0).normal(0, 0.03, 400)
        for step in range(10, 4001, 10):
            share = step / 4000
            rows.append(
                {
                    "kind": "train",
                    "step": step,
                    "position": step * 4,
                    "loss": float(0.12 + 0.9 * np.exp(-5 * share) + noise[step // 10 - 1] * 0.5),
                    "learning_rate": 1e-3 * (1 - share) ** 0.9,
                    "patches_per_s": 41.5,
                    "data_wait": 0.03,
                }
            )
            if step % 500 == 0:
                dice = {n: 0.9 - i * 0.07 - 0.5 * np.exp(-6 * share)
                        for i, n in enumerate(self.names[1:])}  # fmt: skip
                mean = float(np.mean(list(dice.values())))
                rows.append(
                    {"kind": "val", "step": step, "position": step * 4, "dice": mean}
                    | {"classes": dice}
                )
        return rows

    def _record(self) -> dict[str, Any]:
        return {
            "model_id": MODEL_ID,
            "blend": "exact",
            "tile": [64] * self.ndim,
            "halo": [32] * self.ndim,
            "precision": "bfloat16",
            "device": "cpu",
            "channels_last": True,
            "seam": {"voxels": 2_500_000, "different": 1},
            "cases": len(self.rows),
            "estimated_bytes": 512 * 2**20,
            "peak_bytes": 384 * 2**20,
            "seconds": 12.5,
            "voxels": 25_000_000,
        }

    def _card(self) -> ModelCard:
        shape = (32,) * self.ndim
        plan = Plan(
            key="k",
            ndim=self.ndim,  # type: ignore[arg-type]
            channels=("0",),
            classes=tuple(PlannedClass(name=c.name, background=c.background) for c in self.classes),
            spacing=(1.0,) * self.ndim,
            unit="millimeter",
            normalisation=Normalisation(kind="case"),
            patch_shape=shape,
            batch_size=4,
            network=UNetSettings(
                ndim=self.ndim,  # type: ignore[arg-type]
                in_channels=1,
                out_channels=len(self.names),
                features=(8, 16),
                strides=((1,) * self.ndim, (2,) * self.ndim),
                kernels=((3,) * self.ndim,) * 2,
            ),
            reasons={"patch_shape": "the median image", "stages": "halved while they keep 4"},
        )
        return ModelCard(
            model_id=MODEL_ID,
            weights_sha256=SHA,
            plan=plan,
            plan_key=plan.content_key,
            training={"steps": 4000, "position": 16000, "dice": 0.86251},
            versions={"segflow": "0.1", "torch": "2.13"},
        )

    def write_report(self, cases: int = 6) -> str:
        """Write the report and return the page."""
        report(
            ReportSettings(cases=cases),
            run_name="fake",
            model=self.root / "best.pt",
            manifest=self.root / "manifest.jsonl",
            quarantine=self.root / "quarantine.jsonl",
            volumes=self.root / "volumes",
            predictions=self.root / "predictions",
            scores=self.root / "scores.json",
            training_logs=self.logs,
            prediction_record=self.root / "predict.json",
            nights=self.root / "nights.jsonl",
            settings_text="name: fake\n",
            path=self.root / "report" / "index.html",
        )
        return (self.root / "report" / "index.html").read_text()

    @property
    def logs(self) -> dict[str, Path]:
        log = self.root / "log.jsonl"
        return {"": log} if log.exists() else {}

    @property
    def markdown(self) -> str:
        return (self.root / "report" / "report.md").read_text()

    @property
    def scores(self) -> Any:
        return json.loads((self.root / "scores.json").read_text())


def disks(shape: tuple[int, ...], shift: int = 0) -> np.ndarray:
    """Two balls of labels 1 and 2, moved by ``shift`` voxels."""
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    labels = np.zeros(shape, np.uint8)
    for label, place in ((1, 0.35), (2, 0.65)):
        squares = sum((a - shift * (i == 0) - n * place) ** 2
                      for i, (a, n) in enumerate(zip(axes, shape, strict=True)))  # fmt: skip
        labels[squares < (min(shape) / 5) ** 2] = label
    return labels


def picture(labels: np.ndarray, bands: int = 1, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 12, (bands, *labels.shape))
    return np.clip(60 + 60 * labels + noise, 0, 255).astype(np.uint8)


def add_case(run: FakeRun, case: str, shift: int, shape: tuple[int, ...] = (48, 48)) -> None:
    truth = disks(shape)
    run.add(case, picture(truth), truth, disks(shape, shift))


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    """Seven 2-D cases, the higher the number the worse."""
    run = FakeRun(tmp_path)
    for shift in range(7):
        add_case(run, f"c{shift}", shift)
    return run


class Page(HTMLParser):
    """Elements and visible text of a page; fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data.strip()

    def with_id(self, prefix: str) -> list[str]:
        return [str(a["id"]) for _, a in self.elements if str(a.get("id", "")).startswith(prefix)]

    @property
    def shown(self) -> list[str]:
        """Ids of the gallery's articles."""
        return [str(a["id"]) for tag, a in self.elements if tag == "article"]


def test_figures_shown_are_those_of_scores_json(run: FakeRun) -> None:
    run.finish()
    rows = Page(run.write_report()).rows
    scores = run.scores
    for name, c in scores["classes"].items():
        figures = [f"{c[k]:.4f}" for k in ("dice", "iou", "precision", "recall")]
        assert [name, *figures, str(c["n_cases"]), str(c["n_empty"])] in rows
    assert f"<b>{scores['mean']['dice']:.4f}</b>" in run.write_report()
    by_case = {r[0]: r[1:] for r in rows if re.fullmatch(r"c\d", r[0] if r else "")}
    for case, figures in by_case.items():
        dice = [r["dice"] for r in scores["cases"] if r["case"] == case]
        assert figures == [f"{v:.4f}" for v in (float(np.mean(dice)), *dice)]
    assert f"{scores['mean']['dice']:.4f}" in run.markdown
    assert scores["rules"] in run.write_report()


def test_cases_are_listed_worst_first_and_said_to_be_sorted(run: FakeRun) -> None:
    run.finish()
    page = Page(run.write_report())
    listed = [r[0] for r in page.rows if r and re.fullmatch(r"c\d", r[0])]
    assert listed == ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]
    assert [a["aria-sort"] for _, a in page.elements if "aria-sort" in a].count("ascending") == 1


def test_the_page_needs_no_network_and_runs_no_script_but_its_own(run: FakeRun) -> None:
    run.finish()
    text = run.write_report()
    page = Page(text)
    for _tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert re.match(OFFLINE, attributes.get(name) or "#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|@import|url\(", text)
    policy = next(a["content"] or "" for _, a in page.elements if "http-equiv" in a)
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert [tag for tag, _ in page.elements].count("script") == 1


def test_the_scripts_digest_is_that_of_the_script_between_its_tags(run: FakeRun) -> None:
    import base64
    import hashlib

    run.finish()
    text = run.write_report()
    script = text.split("<script>")[1].split("</script>")[0]
    source = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{source}'" in text and "addEventListener" in script


def test_hostile_names_are_text(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, names=("background", HOSTILE, '" onload="x'))
    add_case(run, "c&<img src=x>", 1)
    run.refuse('<a href="https://evil">', "ok|`\x1b[31m")
    run.finish()
    text = run.write_report()
    page = Page(text)
    assert HOSTILE not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not any(tag in ("img", "a") and "href" not in a for tag, a in page.elements)
    assert not any("onload" in a for _, a in page.elements)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "\x1b" not in run.markdown and "\\<script>" in run.markdown


def test_worst_median_and_best_cases_are_shown(run: FakeRun) -> None:
    run.finish()
    page = Page(run.write_report(cases=3))
    assert len(page.shown) == 3
    headings = re.findall(r"<h3>(\w+)</h3><span>(\w+)", run.write_report(cases=3))
    assert headings == [("c6", "worst"), ("c3", "median"), ("c0", "best")]


@pytest.mark.parametrize(
    ("n", "most", "expected"),
    [
        (0, 6, []),
        (1, 6, [0]),
        (2, 6, [0, 1]),
        (5, 6, [0, 1, 2, 3, 4]),
        (9, 3, [0, 4, 8]),
        (40, 6, [0, 1, 19, 20, 38, 39]),
        (7, 0, []),
        (7, 2, [0, 6]),
        (7, 1, [0]),
    ],
)
def test_cases_are_chosen_in_thirds_around_the_median(
    n: int, most: int, expected: list[int]
) -> None:
    ranked = [CaseScore(str(i), "test", {"a": i / 100}) for i in range(n)]
    assert [int(c.case) for c, _ in choose_cases(ranked, most)] == expected


def test_only_held_out_cases_are_in_the_gallery(run: FakeRun) -> None:
    truth = disks((48, 48))
    run.add("t9", picture(truth), truth, disks((48, 48), 9), split="train")
    run.finish()
    text = run.write_report()
    assert "<h3>t9</h3>" not in text
    assert ["t9", "train"] in [r[:2] for r in Page(text).rows]
    assert "7 held-out cases" in text


def test_a_volume_is_shown_in_three_planes_with_truth_and_prediction(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, ndim=3)
    affine = as_affine([[0, 0, 1, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])
    truth = disks((12, 36, 30))
    grid = Grid(truth.shape, affine, "millimeter")
    run.add("scan", picture(truth), truth, disks(truth.shape, 1), grid)
    run.finish()
    text = run.write_report()
    assert re.findall(r"<h4>(\w+), ", text) == ["axial", "coronal", "sagittal"]
    assert text.count('<svg class="pane"') == 6
    assert text.count("<use href=") == 3
    assert "patient" in text and "12 × 36 × 30 voxels (z, y, x), 3 × 1 × 1 mm" in text


def test_large_cases_are_read_from_the_pyramid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FakeRun(tmp_path)
    add_case(run, "wide", 3, shape=(600, 1100))
    run.finish()
    monkeypatch.setattr("pipeline.report.planes.WHOLE_BYTES", 1000)
    monkeypatch.setattr("pipeline.io.volume_store.VolumeStore.read", None)
    text = run.write_report()
    assert text.count('<svg class="pane"') == 2


def test_bands_are_shown_in_colour_where_there_are_three(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    truth = disks((40, 40))
    run.add("rgb", picture(truth, bands=3), truth, truth)
    run.add("two", picture(truth, bands=2), truth, truth)
    run.finish()
    assert run.write_report().count('<svg class="pane"') == 4


def test_a_report_without_scored_cases_says_so(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.rows.append(ManifestRow("a", "a", "train", 0, "complete", store="a.zarr"))
    run.finish(log=False, record=False)
    text = run.write_report()
    assert "no held-out case has been scored" in text
    assert "There is no training log" in text
    assert "There is no record of a prediction" in text
    assert "Complete: 1 case, none quarantined." in run.markdown
    assert "Mean Dice: –" in run.markdown


def test_a_report_of_an_empty_folder_is_written(tmp_path: Path) -> None:
    text = FakeRun(tmp_path).write_report()
    assert "No case has been taken in yet." in text
    assert "there are no scores yet" in text
    assert "There is no readable model" in text


def test_a_quarantined_majority_is_the_first_thing_said(run: FakeRun) -> None:
    run.refuse(*[f"bad{i}" for i in range(9)])
    run.finish()
    text = run.write_report()
    assert "Most cases were refused: 9 of 16 cases are quarantined." in text
    assert text.index("Most cases") < text.index("Copy it anew.") < text.index("Dice per class")
    assert ["bad3", "ingest", "bad3 is torn.", "Copy it anew."] in Page(text).rows
    assert "| bad3 | ingest | bad3 is torn. | Copy it anew. |" in run.markdown


def test_all_cases_quarantined_is_said(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.refuse("a", "b")
    run.finish()
    run.write_report()
    assert "No usable case: 2 cases quarantined, none left." in run.markdown


def test_a_missing_mask_leaves_the_truth_and_a_sentence(run: FakeRun) -> None:
    truth = disks((48, 48))
    run.add("lost", picture(truth), truth, None)
    run.finish()
    text = run.write_report(cases=8)
    assert "Its mask cannot be shown" in text
    assert text.count('<svg class="pane"') == 15


def test_a_missing_volume_leaves_a_sentence(run: FakeRun) -> None:
    run.finish()
    (run.root / "volumes" / "c6.zarr").rename(run.root / "elsewhere")
    text = run.write_report(cases=1)
    assert "No pictures: " in text and 'class="pane"' not in text


def test_a_mask_of_another_shape_is_not_drawn(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    add_case(run, "a", 1)
    run._mask("a", disks((20, 20)), voxel_grid((20, 20)))
    run.finish()
    text = run.write_report()
    assert "is of another grid: shape (20, 20) instead of (48, 48)" in text


def test_held_out_cases_without_a_score_are_counted(run: FakeRun) -> None:
    run.rows.append(ManifestRow("late", "late", "test", None, "complete", store="late.zarr"))
    run.finish()
    assert "1 held-out case of 8 not scored: late." in run.write_report()


def test_scores_of_another_model_are_said_to_be(run: FakeRun) -> None:
    run.finish()
    scores = run.scores | {"model_id": "unet-old"}
    write_json(run.root / "scores.json", scores)
    assert f"The scores are of model unet-old, the run&#39;s model now is {MODEL_ID}" in (
        run.write_report()
    )


def test_a_class_absent_everywhere_has_no_figure(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, names=("background", "ball", "other", "ghost"))
    add_case(run, "a", 0)
    run.finish()
    rows = Page(run.write_report()).rows
    assert ["ghost", "–", "–", "–", "–", "0", "1"] in rows
    assert ["a", "1.0000", "1.0000", "1.0000", "–"] in rows
    assert "mean Dice over 2 classes" in run.write_report()


def test_prediction_figures_are_in_words(run: FakeRun) -> None:
    run.finish()
    text = run.write_report()
    assert (
        "1 of 2,500,000 labels compared differ from those of one pass over the whole (0.4 in"
        in text
    )
    assert "(0.4 in a million)" in text
    assert "512.0 MiB" in text and "384.0 MiB" in text
    assert "2,000,000 voxels per second" in text


def test_training_curves_and_the_best_step_are_shown(run: FakeRun) -> None:
    run.finish()
    text = run.write_report()
    assert text.count('<svg class="chart"') == 3
    assert re.search(r"Best mean 0\.\d{4}, at step 4,000", text)
    assert "4,000 steps, 16,000 patches seen; median 41.5 patches per second" in text


def test_a_step_logged_again_after_a_kill_counts_once(run: FakeRun) -> None:
    run.finish()
    row = run._log()[-2]
    with (run.root / "log.jsonl").open("a") as file:
        file.write(json.dumps(row | {"loss": 0.5}) + '\n{"kind": "tra')
    assert "to 0.5000." in run.write_report()


def test_the_same_run_gives_the_same_bytes(run: FakeRun) -> None:
    run.refuse("bad")
    run.finish()
    assert run.write_report() == run.write_report()
    assert not list((run.root / "report").glob(".*"))
