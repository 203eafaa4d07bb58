"""From files of every kind to stores: what is read is what stands in the store."""

import json
import logging

import h5py
import numpy as np
import pydicom
import pytest
import rasterio
import scipy.io
import SimpleITK as sitk
import zarr
from ome_zarr_models.v05.image_label import ImageLabel

from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.discover import discover
from pipeline.io.volume_store import VolumeStore
from pipeline.space import Window

CLASSES = (
    ClassSettings(name="background", values=(0,), background=True),
    ClassSettings(name="object", values=(1,)),
)
RANDOM = np.random.default_rng(3)


def settings(root, **fields):
    known = {"root": str(root), "layout": "pairs", "classes": CLASSES}
    return DataSettings(**(known | fields))


def whole(taken, case):
    store = VolumeStore(taken.volumes / f"{case}.zarr")
    window = Window.whole(store.grid.shape)
    return store, store.read(window), store.read_truth(window) if store.labelled else None


def test_channel_files_become_one_image_and_bands_are_chosen_in_order(
    tmp_path, write_scan, take_in
):
    voxels = [RANDOM.normal(size=(5, 6, 7)).astype(np.float32) for _ in range(3)]
    for number, channel in enumerate(voxels):
        write_scan(tmp_path / "data" / f"imagesTr/a_{number:04}.nii.gz", channel)
    write_scan(tmp_path / "data/labelsTr/a.nii.gz", np.ones((5, 6, 7), np.uint8))
    data = settings(
        tmp_path / "data",
        images=tuple(f"imagesTr/{{case}}_{n:04}.nii.gz" for n in range(3)),
        masks="labelsTr/{case}.nii.gz",
        bands=(3, 1),
    )
    taken = take_in(data, tmp_path)
    assert not taken.refused
    _, volume, truth = whole(taken, "a")
    np.testing.assert_array_equal(volume.array, np.stack([voxels[2].T, voxels[0].T]))
    assert truth.shape == (7, 6, 5) and (truth == 1).all()


def test_objects_keep_their_union_and_their_numbers(tmp_path, write_picture, take_in, times):
    image = RANDOM.integers(0, 255, (40, 50, 3), dtype=np.uint8)
    first, second = np.zeros((2, 40, 50), np.uint8)
    first[3:9, 4:12], second[20:30, 30:44] = 255, 255
    write_picture(tmp_path / "data/x/images/x.png", image)
    write_picture(tmp_path / "data/x/masks/a.png", first)
    write_picture(tmp_path / "data/x/masks/b.png", second)
    data = settings(
        tmp_path / "data", images="{case}/images/{case}.png", masks="{case}/masks/*.png"
    )
    taken = take_in(data, tmp_path)
    store, volume, truth = whole(taken, "x")
    np.testing.assert_array_equal(volume.array, np.moveaxis(image, -1, 0))
    np.testing.assert_array_equal(truth, ((first > 0) | (second > 0)).astype(np.uint8))
    expected = np.where(first > 0, 1, np.where(second > 0, 2, 0))
    np.testing.assert_array_equal(store.read_instances(Window.whole((40, 50))), expected)
    ImageLabel.from_zarr(zarr.open_group(store.path / "labels" / "instances", mode="r"))
    before = times(taken.volumes)
    take_in(data, tmp_path)
    assert times(taken.volumes) == before


def test_polygons_are_burnt_onto_their_image(tmp_path, write_scene, take_in):
    bands = RANDOM.integers(1, 255, (2, 60, 80), dtype=np.uint8)
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000)
    write_scene(tmp_path / "data/images/a.tif", bands, transform=place)
    square = [[500_100, 5_299_900], [500_300, 5_299_900], [500_300, 5_299_700],
              [500_100, 5_299_700], [500_100, 5_299_900]]  # fmt: skip
    feature = {
        "type": "Feature",
        "properties": {"kind": 1},
        "geometry": {"type": "Polygon", "coordinates": [square]},
    }
    collection = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
        "features": [feature],
    }
    (tmp_path / "data/masks").mkdir()
    (tmp_path / "data/masks/a.geojson").write_text(json.dumps(collection))
    taken = take_in(settings(tmp_path / "data", mask_attribute="kind"), tmp_path)
    assert not taken.refused
    _, _, truth = whole(taken, "a")
    expected = np.zeros((60, 80), np.uint8)
    expected[10:30, 10:30] = 1
    np.testing.assert_array_equal(truth, expected)


def test_a_mask_of_another_resolution_is_refused_unless_warping_is_asked_for(
    tmp_path, write_scene, take_in
):
    bands = RANDOM.integers(1, 255, (1, 40, 40), dtype=np.uint8)
    write_scene(tmp_path / "data/images/a.tif", bands)
    coarse = RANDOM.integers(0, 2, (1, 20, 20), dtype=np.uint8)
    step = rasterio.Affine(20.0, 0.0, 499_980.0, 0.0, -20.0, 5_300_040.0)
    write_scene(tmp_path / "data/masks/a.tif", coarse, transform=step)
    write_scene(tmp_path / "data/images/b.tif", bands)
    write_scene(tmp_path / "data/masks/b.tif", bands % 2)
    data = settings(tmp_path / "data")
    refused = take_in(data, tmp_path / "one").refused["a"]
    assert "its mask has shape (20, 20), its image (40, 40)" in refused.reason
    assert "set data.mask_grid to nearest" in refused.remedy
    taken = take_in(data.model_copy(update={"mask_grid": "nearest"}), tmp_path / "two")
    _, _, truth = whole(taken, "a")
    np.testing.assert_array_equal(truth, np.kron(coarse[0], np.ones((2, 2), np.uint8)))


@pytest.mark.parametrize("version", ["v5", "v7.3"])
def test_an_oct_volume_and_its_manual_labels_come_from_one_matlab_file(tmp_path, take_in, version):
    images = RANDOM.integers(0, 255, (12, 16, 5)).astype(np.uint8)  # rows, columns, slices
    fluid = (RANDOM.random((12, 16, 5)) < 0.3).astype(np.float64)
    fluid[:, :, 2] = np.nan
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "Subject_01.mat"
    if version == "v5":
        scipy.io.savemat(path, {"images": images, "manualFluid1": fluid, "layers": [1.0]})
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, array in (("images", images), ("manualFluid1", fluid)):
                file[name] = array.T
                file[name].attrs["MATLAB_class"] = np.bytes_(
                    str(array.dtype).replace("float64", "double")
                )
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    data = settings(
        tmp_path / "data", images="{case}.mat::images", masks="{case}.mat::manualFluid1"
    )
    taken = take_in(data, tmp_path)
    assert not taken.refused
    _, volume, truth = whole(taken, "Subject_01")
    np.testing.assert_array_equal(volume.array[0], images.transpose(2, 0, 1))
    expected = np.where(np.isnan(fluid), 255, fluid).transpose(2, 0, 1)
    np.testing.assert_array_equal(truth, expected)


def patient_words(folder):
    """Names and ids that the headers of a series carry."""
    words = set()
    for path in folder.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        for tag in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
            text = str(header.get(tag, "")).strip()
            words |= {part for part in [text, *text.split("^")] if len(part) > 2}
    return words


def test_real_dicom_series_become_stores_in_place_and_no_patient_goes_with_them(
    tmp_path, real_data, take_in, caplog, capfd
):
    caplog.set_level(logging.DEBUG)
    data = settings(real_data("dicom"), layout="dicom", masks=None)
    taken = take_in(data, tmp_path)
    assert not taken.refused and len(taken.complete) == 2
    reader = sitk.ImageSeriesReader()
    for files in discover(data):
        store, volume, _ = whole(taken, files.case)
        folder = files.image.paths[0].parent
        names = reader.GetGDCMSeriesFileNames(str(folder))
        reader.SetFileNames(names)
        image = reader.Execute()
        np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image))
        corner = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0))) * [-1, -1, 1]
        np.testing.assert_allclose(store.grid.index_to_world((0, 0, 0)), corner, atol=1e-3)
        words = patient_words(folder)
        assert words
        made = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        said = caplog.text + "".join(capfd.readouterr())
        for word in words:
            assert word.encode() not in made and word not in said, "a patient attribute leaked"


def test_real_nuclei_are_taken_in_with_their_instances(tmp_path, real_data, take_in):
    root = real_data("dsb2018") / "stage1_train"
    data = settings(root, images="{case}/images/{case}.png", masks="{case}/masks/*.png")
    case = discover(data)[0]
    taken = take_in(data, tmp_path)
    assert not taken.refused and len(taken.complete) == 120
    store, volume, truth = whole(taken, case.case)
    instances = store.read_instances(Window.whole(store.grid.shape))
    assert instances.max() == len(case.mask.paths)
    np.testing.assert_array_equal(instances > 0, truth == 1)
    assert volume.array.shape[0] == 3
