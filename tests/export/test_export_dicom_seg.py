"""DICOM SEG as highdicom, pydicom and dciodvfy read it."""

import json
import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest

from pipeline.errors import NothingUsableError, SettingsError
from pipeline.export import series as series_module
from pipeline.io.readers.dicom import reader
from pipeline.space import Window
from tests.dicom_builder import NAME, PATIENT_ID, enhanced, noise, save, write_series
from tests.export.scans import exported, labels_of, write_mask
from tests.export.scenes import scene_grid

SHAPE = (6, 12, 10)
STUDY = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5", "StudyDate": "20200119"}
TILTED = {"orientation": (0.8, 0.6, 0.0, -0.36, 0.48, 0.8), "step": (0.96, -1.28, 1.2)}
NAMES = ("background", "<script>alert(1)</script>", "a\\b " + "Läsion 心臓 " * 20)


@pytest.fixture(autouse=True)
def _forgetful():
    """Series of a folder are found once per process; each test has other folders."""
    series_module.series_below.cache_clear()


def labels():
    """Both classes, a slice without any, and one without data."""
    found = labels_of(SHAPE)
    found[2], found[3], found[4][found[4] == 2] = 0, 255, 0
    return found


def series_and_mask(folder, **options):
    """A series, and a mask on its grid as ingest and prediction would leave it."""
    paths = write_series(folder / "dicom" / "head", noise(*SHAPE), **{**STUDY, **options})
    return paths, mask_of(paths, folder / "mr-1.zarr")


def mask_of(paths, path, **more):
    grid = reader.open_series(paths, "image").grid
    told = [{"path": "series head", "role": "image", "sha256": "0" * 64}]
    return write_mask(path, labels(), grid, **{"names": NAMES, "sources": told, **more})


def assert_is_the_mask(path, paths):
    """Each source image, by its unique id, has the labels of its slice."""
    seg, expected = highdicom.seg.segread(path), np.where(labels() == 255, 0, labels())
    for z, source in enumerate(paths):
        uid = pydicom.dcmread(source).SOPInstanceUID
        plane = seg.get_pixels_by_source_instance(
            [uid], combine_segments=True, assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(plane[0], expected[z])


@pytest.mark.parametrize("place", [{}, TILTED], ids=["axial", "tilted"])
def test_each_source_image_has_the_labels_of_its_slice(tmp_path, place):
    paths, mask = series_and_mask(tmp_path, **place)
    out = exported(mask, tmp_path / "a.dcm", "dicomseg", source=tmp_path / "dicom")
    assert_is_the_mask(out, paths)
    seg = pydicom.dcmread(out)
    # Of two segments: five slices hold data, one of them is empty, one lacks the second.
    assert seg.SegmentationType == "BINARY" and seg.NumberOfFrames == 7


def test_frames_lie_where_the_source_images_do(tmp_path):
    paths, mask = series_and_mask(tmp_path, **TILTED)
    out = exported(mask, tmp_path / "a.dcm", "dicomseg", source=tmp_path / "dicom")
    seg, places = pydicom.dcmread(out), {}
    for path in paths:
        source = pydicom.dcmread(path)
        places[source.SOPInstanceUID] = source.ImagePositionPatient
    for frame in seg.PerFrameFunctionalGroupsSequence:
        of = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert frame.PlanePositionSequence[0].ImagePositionPatient == places[of]
    shared = seg.SharedFunctionalGroupsSequence[0]
    found = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(found, TILTED["orientation"])


def test_patient_and_study_are_the_sources_and_nothing_is_invented(tmp_path):
    paths, mask = series_and_mask(tmp_path, PatientBirthDate=None, SeriesNumber=7)
    out = exported(mask, tmp_path / "a.dcm", "dicomseg", source=tmp_path / "dicom")
    seg, source = pydicom.dcmread(out), pydicom.dcmread(paths[0])
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg[name].value == source[name].value
    assert not seg.PatientBirthDate and seg.PatientName == NAME and seg.PatientID == PATIENT_ID
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert seg.SeriesNumber == 1007 and seg.ManufacturerModelName == "unet-0123456789"


def test_segments_bear_the_names_of_classes_as_dicom_takes_them(tmp_path):
    _, mask = series_and_mask(tmp_path)
    seg = pydicom.dcmread(exported(mask, tmp_path / "a.dcm", "dicomseg", source=tmp_path / "dicom"))
    first, second = seg.SegmentSequence
    assert first.SegmentLabel == "<script>alert(1)</script>"
    assert second.SegmentLabel.startswith("a b Läsion 心臓")
    assert len(second.SegmentLabel.encode()) <= 64
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert first.SegmentAlgorithmType == "AUTOMATIC"


def test_classes_are_what_the_codes_say(tmp_path):
    _, mask = series_and_mask(tmp_path)
    codes = {
        NAMES[1]: {
            "category": ["49755003", "SCT", "Morphologically Abnormal Structure"],
            "type": ["108369006", "SCT", "Neoplasm"],
        }
    }
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    out = exported(
        mask,
        tmp_path / "a.dcm",
        "dicomseg",
        source=tmp_path / "dicom",
        codes=tmp_path / "codes.json",
    )
    found = pydicom.dcmread(out).SegmentSequence
    assert [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in found] == [
        "108369006",
        "85756007",
    ]


def test_codes_that_are_none_are_refused_with_an_example(tmp_path):
    _, mask = series_and_mask(tmp_path)
    (tmp_path / "codes.json").write_text('{"liver": ["1", "SCT"]}')
    with pytest.raises(SettingsError, match=r"codes\.json holds no codes .*\"category\""):
        exported(
            mask,
            tmp_path / "a.dcm",
            "dicomseg",
            source=tmp_path / "dicom",
            codes=tmp_path / "codes.json",
        )


def test_a_mask_exported_twice_is_the_same_instance(tmp_path):
    _, mask = series_and_mask(tmp_path)
    names = ("a.dcm", "b.dcm")
    seg = [
        pydicom.dcmread(exported(mask, tmp_path / n, "dicomseg", source=tmp_path / "dicom"))
        for n in names
    ]
    assert seg[0].SOPInstanceUID == seg[1].SOPInstanceUID != seg[0].SeriesInstanceUID


def test_a_mask_without_any_object_is_a_seg_of_empty_frames(tmp_path, capsys):
    paths, _ = series_and_mask(tmp_path)
    grid = reader.open_series(paths, "image").grid
    mask = write_mask(tmp_path / "mr-1.zarr", np.zeros(SHAPE, np.uint8), grid)
    out = exported(mask, tmp_path / "a.dcm", "dicomseg", source=tmp_path / "dicom")
    assert not pydicom.dcmread(out).pixel_array.any() and not capsys.readouterr().err


def test_a_file_of_many_frames_is_a_source_like_any_other(tmp_path):
    places = [(0.0, 0.0, 2.0 * z) for z in range(6)]
    order = [3, 0, 5, 1, 4, 2]
    shuffled = [places[z] for z in order]
    source = save(tmp_path / "dicom" / "one.dcm", enhanced(noise(*SHAPE), shuffled, **STUDY))
    mask = mask_of([source], tmp_path / "mr-1.zarr")
    out = exported(mask, tmp_path / "a.dcm", "dicomseg", source=tmp_path / "dicom")
    uid = pydicom.dcmread(source).SOPInstanceUID
    found = highdicom.seg.segread(out).get_pixels_by_source_frame(
        uid, [1, 2, 3, 4, 5, 6], combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(found, np.where(labels() == 255, 0, labels())[order])


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not here")
@pytest.mark.parametrize("name", ["made", "t1post", "hcrop"])
def test_dciodvfy_finds_no_error(tmp_path, name, request):
    if name == "made":
        paths, _ = series_and_mask(tmp_path, StudyTime="112200")
    else:
        paths = sorted((request.getfixturevalue("real_data")("dicom") / name).glob("*.dcm"))
    grid = reader.open_series(paths, "image").grid
    values = np.zeros(grid.shape, np.uint8)
    values[1:-1, 3:, 5:], values[2, :9, :9] = 1, 2
    mask = write_mask(tmp_path / "m.zarr", values, grid, names=NAMES)
    out = exported(mask, tmp_path / "a.dcm", "dicomseg", source=paths[0].parent)
    said = subprocess.run(["dciodvfy", "-new", out], capture_output=True, text=True, check=False)
    assert "Error" not in said.stderr + said.stdout, said.stderr


# Refused


def refused(mask, out, match, **settings):
    with pytest.raises(NothingUsableError, match=match) as error:
        exported(mask, out, "dicomseg", **settings)
    assert "DOE" not in str(error.value) and "ZZ99" not in str(error.value)


def test_without_its_series_there_is_no_seg(tmp_path):
    _, mask = series_and_mask(tmp_path)
    refused(mask, tmp_path / "a.dcm", r"series is not known\. Name .* with --source")
    (tmp_path / "empty").mkdir()
    refused(mask, tmp_path / "a.dcm", "holds no DICOM series", source=tmp_path / "empty")


def test_a_series_of_another_shape_or_place_is_refused(tmp_path):
    paths, _ = series_and_mask(tmp_path)
    grid = reader.open_series(paths, "image").grid
    window = Window((0, 0, 0), (5, *SHAPE[1:]))
    small = write_mask(tmp_path / "s.zarr", labels()[:5], grid.cropped(window))
    refused(small, tmp_path / "s.dcm", "not on its grid: shape", source=tmp_path / "dicom")
    moved = write_mask(tmp_path / "m.zarr", labels())
    refused(moved, tmp_path / "m.dcm", "not on its grid: its", source=tmp_path / "dicom")


def test_among_several_series_the_one_of_the_masks_name_is_taken(tmp_path):
    paths, mask = series_and_mask(tmp_path)
    write_series(tmp_path / "dicom" / "again", noise(*SHAPE), SeriesInstanceUID="1.2.9", **STUDY)
    out = exported(mask, tmp_path / "a.dcm", "dicomseg", source=tmp_path / "dicom")
    assert_is_the_mask(out, paths)
    nameless = mask_of(paths, tmp_path / "other.zarr", sources=[])
    refused(nameless, tmp_path / "b.dcm", "2 series .* lie on its grid", source=tmp_path / "dicom")


def test_a_source_without_the_ids_that_a_seg_refers_to_is_refused(tmp_path):
    _, mask = series_and_mask(tmp_path, FrameOfReferenceUID=None)
    refused(mask, tmp_path / "a.dcm", "have no FrameOfReferenceUID", source=tmp_path / "dicom")


def test_a_regression_and_a_scene_are_no_segmentation(tmp_path):
    numbers = write_mask(tmp_path / "n.zarr", np.zeros(SHAPE, np.float32), target="depth")
    refused(numbers, tmp_path / "n.dcm", r"it holds numbers \(depth\)", source=tmp_path)
    scene = write_mask(tmp_path / "s.zarr", labels_of((6, 8)), scene_grid((6, 8)))
    refused(scene, tmp_path / "s.dcm", "it is a scene", source=tmp_path)
