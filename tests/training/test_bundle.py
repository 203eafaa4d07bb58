import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch

from models import UNetSettings
from models.losses import BCESettings, MSESettings
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import load_model
from pipeline.network_tiling import plan_tiling
from pipeline.normalise import Normalisation, Scaling
from pipeline.plan_file import PlannedTarget
from pipeline.planned_case import PlannedCase, predict_case
from pipeline.processor import Processor
from pipeline.space import Window
from pipeline.tiled import TiledNetwork
from pipeline.training import bundle as code
from pipeline.training.bundle import try_bundle, write_bundle
from tests.trained import small_plan, write_model

# No segflow: its packages are refused, wherever they are installed.
STRANGER = """
import sys


class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pipeline", "models", "flows"):
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Without())
for name in ("pipeline", "models", "flows"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{name} can be imported")
"""
RUN = """
from monai.bundle import run

root, images, masks = sys.argv[1:]
config = f"{root}/configs/inference.json"
run(config_file=config, bundle_root=root, dataset_dir=images, output_dir=masks)
"""
CHECK = """
from monai.bundle import ConfigWorkflow, load, verify_net_in_out

root, images, masks = sys.argv[1:]
config, about = f"{root}/configs/inference.json", f"{root}/configs/metadata.json"
places = {"bundle_root": root, "dataset_dir": images, "output_dir": masks}
workflow = ConfigWorkflow(config, workflow_type="inference", **places)
workflow.initialize()
assert not workflow.check_properties(), workflow.check_properties()
verify_net_in_out(net_id="network_def", meta_file=about, config_file=config, bundle_root=root, n=6)
folder, name = root.rsplit("/", 1)
found = load(name, bundle_dir=folder, load_ts_module=True, config_files=("inference.json",))
assert found[1]["name"].startswith("unet-") and b"evaluator" in found[2]["inference.json"]
"""
LOAD = """
import os

import torch

os.chdir(root)  # the network is found from there
network = load(name, bundle_dir=folder, workflow_type="inference")
stored = torch.load("models/model.pt", weights_only=True)
assert stored.keys() == network.state_dict().keys()
assert all(torch.equal(stored[k], v.cpu()) for k, v in network.state_dict().items())
"""
CPU = Processor("cpu", "float32", channels_last=False)


def stranger(script, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER + script, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def cases(make_msd, take_in, tmp_path):
    """Ingested scans of one size, with an oblique affine."""
    make = make_msd(tmp_path / "data", cases=2, shape=(22, 25, 19))
    return take_in(make, tmp_path)


def both(cases, tmp_path, plan, script=RUN):
    """Masks of every case, by segflow and by the bundle of the same weights; (X, Y, Z)."""
    assert try_bundle(write_model(tmp_path, plan).parent, tmp_path / "manifest.jsonl") is None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    images, masks = tmp_path / "data" / "imagesTr", elsewhere / "masks"
    stranger(script, tmp_path / "bundle", images, masks, cwd=elsewhere)
    model, _ = load_model(tmp_path / "best.pt")
    tiling = plan_tiling(plan, "float32")
    for name, row in cases.rows.items():
        store = VolumeStore(cases.volumes / row.store)
        box = Window.whole(store.grid.shape)
        placed = CPU.place(model, plan.ndim)
        case = PlannedCase.of(store, plan)
        own = predict_case(TiledNetwork(placed, tiling, CPU, plan.decision), case, box)
        other = nib.load(masks / f"{name}.nii.gz")
        source = nib.load(images / f"{name}.nii.gz")
        assert np.allclose(other.affine, source.affine, atol=1e-5)
        assert other.get_data_dtype() == plan.mask_dtype
        yield own.T, np.asarray(other.dataobj)


def test_masks_are_segflows_own_where_an_image_is_one_pass(cases, tmp_path):
    for own, other in both(cases, tmp_path, small_plan(3), RUN + CHECK + LOAD):
        assert len(np.unique(own)) > 1
        # A tie between two classes may fall either way: MONAI sums mean and std in float32.
        assert np.mean(own != other) < 1e-3
    config = json.loads((tmp_path / "bundle/configs/inference.json").read_text())
    assert config["inferer"]["roi_size"] == [-1, -1, -1]


def test_blended_windows_are_laid_and_weighed_alike(cases, tmp_path):
    plan = small_plan(3, norm="instance")
    for own, other in both(cases, tmp_path, plan):
        # MONAI's least weight is a thousandth, ours a thousandth of the centre's, which is no 1.
        assert np.mean(own != other) < 5e-3
    config = json.loads((tmp_path / "bundle/configs/inference.json").read_text())
    assert config["inferer"]["roi_size"] == [16, 16, 16]


def test_an_unpadded_network_sees_the_same_mirrored_surroundings(cases, tmp_path):
    network = small_plan(3).network.model_copy(
        update={"padding": "valid", "downsampling": "max_pool"}
    )
    network = UNetSettings.model_validate(network.model_dump())
    plan = small_plan(3).model_copy(update={"network": network, "patch_shape": (44, 44, 44)})
    for own, other in both(cases, tmp_path, plan):
        assert np.mean(own != other) < 1e-3


def test_regions_and_clipped_intensities_come_out_alike(cases, tmp_path):
    scaling = Scaling(mean=100.0, std=15.0, lower=80.0, upper=130.0)
    regions = small_plan(3).model_copy(
        update={
            "loss": BCESettings(regions=((1, 2), (2,))),
            "network": small_plan(3).network.model_copy(update={"out_channels": 2}),
            "normalisation": Normalisation(kind="dataset", channels=(scaling,)),
        }
    )
    for own, other in both(cases, tmp_path, regions):
        assert np.mean(own != other) < 1e-3
    about = json.loads((tmp_path / "bundle/configs/metadata.json").read_text())
    output = about["network_data_format"]["outputs"]["pred"]
    assert output["channel_def"] == {"0": "liver or tumour", "1": "tumour"}


@pytest.mark.parametrize("channels", [1, 2])
def test_voxels_around_a_stripped_skull_stay_zero_in_the_bundle_too(
    channels, make_msd, take_in, write_scan, tmp_path
):
    data = make_msd(tmp_path / "data", cases=2, shape=(22, 25, 19))
    random = np.random.default_rng(0)
    for path in (tmp_path / "data" / "imagesTr").iterdir():
        image = random.normal(100, 20, (22, 25, 19, channels)).astype(np.float32)
        image[:9] = image[:, 20:] = 0
        image[12, ..., -1] = 0  # a zero of one of several channels
        write_scan(path, image if channels > 1 else image[..., 0])
    plan = small_plan(3, channels).model_copy(
        update={"normalisation": Normalisation(kind="case", nonzero=True)}
    )
    for own, other in both(take_in(data, tmp_path), tmp_path, plan):
        assert len(np.unique(own)) > 1
        assert np.mean(own != other) < 1e-3


def test_values_of_a_regression_come_out_in_their_own_unit(cases, tmp_path):
    plan = small_plan(3).model_copy(
        update={
            "loss": MSESettings(),
            "classes": (),
            "target": PlannedTarget(name="height", mean=300.0, std=50.0),
            "network": small_plan(3).network.model_copy(update={"out_channels": 1}),
        }
    )
    for own, other in both(cases, tmp_path, plan):
        assert np.allclose(own, other, atol=0.01)  # of a standard deviation of 50


def test_resampled_images_come_out_nearly_alike(cases, tmp_path):
    store = VolumeStore(cases.volumes / next(iter(cases.rows.values())).store)
    spacing = tuple(0.8 * v for v in store.grid.spacing)
    plan = small_plan(3).model_copy(update={"resample": True, "spacing": spacing})
    for own, other in both(cases, tmp_path, plan):
        assert own.shape == other.shape
        assert np.mean(own != other) < 0.1  # other kernels, on images of noise


def test_a_bundle_of_the_same_model_is_left_alone_and_of_another_is_replaced(tmp_path, times):
    folder = tmp_path / "bundle"
    model = write_model(tmp_path, small_plan(2))
    write_bundle(folder, model, (40, 40))
    before = times(folder)
    write_bundle(folder, model, (40, 40))
    assert times(folder) == before
    first = json.loads((folder / "configs/metadata.json").read_text())["name"]
    write_bundle(folder, write_model(tmp_path, small_plan(2), seed=1), (40, 40))
    assert json.loads((folder / "configs/metadata.json").read_text())["name"] != first
    assert {p.name for p in tmp_path.iterdir()} == {"best.pt", "best.json", "bundle"}


def test_what_cannot_be_exported_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    write_model(tmp_path, small_plan(2))
    full = OSError(28, "No space left on device")

    def fails(*_):
        raise full

    monkeypatch.setattr(code, "write_atomic", fails)
    said = try_bundle(tmp_path, tmp_path / "manifest.jsonl")
    assert said is not None and "No space left" in said and "segflow train" in said
    assert {p.name for p in tmp_path.iterdir()} == {"best.pt", "best.json"}


def test_a_large_scene_is_laid_out_in_windows(tmp_path):
    write_bundle(tmp_path / "bundle", write_model(tmp_path, small_plan(2)), (60_000, 60_000))
    roi = json.loads((tmp_path / "bundle/configs/inference.json").read_text())["inferer"][
        "roi_size"
    ]
    assert all(side % 8 == 0 and 16 < side < 60_000 for side in roi)
    network = torch.jit.load(tmp_path / "bundle/models/model.ts")
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 3, 64, 64)
