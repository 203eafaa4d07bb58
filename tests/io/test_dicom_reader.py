"""What the DICOM reader refuses, how it orders and scales, and what it never tells."""

import hashlib
import logging
import re
import struct
import threading
import traceback
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    JPEG2000Lossless,
    RLELossless,
    RTStructureSetStorage,
    SegmentationStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from pipeline.errors import CaseError, SettingsError
from pipeline.io.readers import open_source
from pipeline.io.readers.dicom import reader as dicom
from pipeline.io.readers.dicom.quiet import quiet
from pipeline.space import Window
from tests.dicom_builder import (
    ACCESSION,
    BIRTH_DATE,
    NAME,
    PATIENT_ID,
    PERSONAL,
    UID,
    compressed,
    ct,
    dataset,
    enhanced,
    noise,
    save,
    save_all,
    slices,
    write_series,
)

VOXELS = noise(6, 4, 5)


def whole(source):
    return source.read(Window.whole(source.grid.shape))


def told(error):
    """Everything an error shows, its causes and their text included."""
    return "".join(traceback.format_exception(error)) + repr(error.__context__)


def refusal(paths, role="image"):
    """The error of a series, searched for what it must not tell."""
    with pytest.raises(CaseError) as caught:
        whole(dicom.open_series(paths, role))
    assert_impersonal(str(caught.value))
    assert caught.value.reason.startswith(("its ", "each of its ", "all its ")) or re.match(
        r"\d+ of its ", caught.value.reason
    )
    return str(caught.value)


def assert_impersonal(text):
    assert not [word for word in PERSONAL if word in text.lower()]


# Order and place


def test_slices_are_ordered_by_position_whatever_their_names_and_numbers(tmp_path):
    made = slices(VOXELS)
    for one, number in zip(made, (3, 1, 6, 2, 5, 4), strict=True):
        one.InstanceNumber = number
    source = dicom.open_series(sorted(save_all(tmp_path, made)), "image")
    np.testing.assert_array_equal(whole(source).array[0], VOXELS)
    np.testing.assert_allclose(source.grid.spacing, (2.0, 0.75, 0.5))
    np.testing.assert_allclose(source.grid.index_to_world((0, 0, 0)), (20, -10, -30))
    assert source.placed and source.grid.unit == "millimeter" and source.block == (1, 4, 5)
    assert source.channels == 1 and not source.sequential


def test_the_row_spacing_comes_first(tmp_path):
    paths = write_series(tmp_path, VOXELS, PixelSpacing=[3.0, 1.0])
    grid = dicom.open_series(paths, "image").grid
    np.testing.assert_allclose(grid.matrix[:3, 1], (0, -3, 0))
    np.testing.assert_allclose(grid.matrix[:3, 2], (-1, 0, 0))


def test_a_window_is_a_part_of_the_whole_with_its_own_place(tmp_path):
    source = dicom.open_series(write_series(tmp_path, VOXELS), "image")
    window = Window((1, 2, 3), (4, 2, 1))
    part = source.read(window)
    np.testing.assert_array_equal(part.array[0], VOXELS[window.slices])
    assert part.grid == source.grid.cropped(window) and part.valid is None


def test_one_slice_is_a_volume_as_thick_as_it_says(tmp_path):
    path = save(tmp_path / "a.dcm", slices(VOXELS[:1])[0])
    source = open_source(path, "image")
    assert source.grid.shape == (1, 4, 5) and source.grid.spacing[0] == 2.0 and source.placed


def test_a_radiograph_without_a_place_is_a_picture_of_known_scale(tmp_path):
    made = dataset(
        VOXELS[0],
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        ImagerPixelSpacing=[0.2, 0.1],
        Modality="DX",
    )
    source = dicom.open_source(save(tmp_path / "a.dcm", made), "image")
    assert source.grid.shape == source.block == (4, 5) and not source.placed
    np.testing.assert_allclose(source.grid.spacing, (0.2, 0.1))
    assert source.grid.unit == "millimeter"
    np.testing.assert_array_equal(whole(source).array[0], VOXELS[0])
    part = source.read(Window((1, 2), (3, 2)))
    np.testing.assert_array_equal(part.array[0], VOXELS[0, 1:4, 2:4])


def test_a_picture_that_says_nothing_of_its_scale_lies_nowhere(tmp_path):
    elements = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    made = dataset(VOXELS[0], **dict.fromkeys(elements))
    source = dicom.open_source(save(tmp_path / "a.dcm", made), "image")
    assert source.grid.unit is None and not source.placed


def test_slices_without_positions_follow_their_locations(tmp_path):
    made = slices(VOXELS, ImagePositionPatient=None)
    for z, one in enumerate(made):
        one.SliceLocation, one.InstanceNumber = 3.5 * z - 8, 10 - z
    source = dicom.open_series(sorted(save_all(tmp_path, made)), "image")
    np.testing.assert_array_equal(whole(source).array[0], VOXELS)
    assert not source.placed
    np.testing.assert_allclose(source.grid.spacing, (3.5, 0.75, 0.5))


def test_slices_without_positions_or_locations_follow_their_numbers(tmp_path):
    made = slices(VOXELS, ImagePositionPatient=None, ImageOrientationPatient=None)
    source = dicom.open_series(sorted(save_all(tmp_path, made)), "image")
    np.testing.assert_array_equal(whole(source).array[0], VOXELS)
    assert not source.placed
    np.testing.assert_allclose(source.grid.spacing, (2.0, 0.75, 0.5))


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (("InstanceNumber",), "have neither positions nor numbers: their order is unknown"),
        (("SliceThickness",), "have no positions, and do not say how far apart they are"),
        (("PixelSpacing",), "have no positions, and do not say how large their voxels are"),
    ],
)
def test_slices_that_say_too_little_are_refused(tmp_path, missing, words):
    made = slices(VOXELS, **dict.fromkeys(("ImagePositionPatient", *missing)))
    assert words in refusal(save_all(tmp_path, made))


def test_slices_of_which_some_have_no_position_are_refused(tmp_path):
    made = slices(VOXELS)
    del made[2].ImagePositionPatient
    assert "1 of 6 have no position, direction or voxel size" in refusal(save_all(tmp_path, made))


# Series that are no volume


def test_missing_slices_are_named_by_position(tmp_path):
    made = slices(noise(9, 4, 5))
    del made[5:7], made[1]
    words = refusal(save_all(tmp_path, made))
    assert "3 of its 9 slices are missing, at -28, -20, -18 mm." in words


def test_a_hole_of_many_slices_is_not_counted_out(tmp_path):
    made = slices(VOXELS)
    made[5].ImagePositionPatient = [-20.0, 10.0, 2e8]
    words = refusal(save_all(tmp_path, made))
    assert "slices are missing, at -20, -18, -16, -14, -12 mm and 100000005 more." in words


def test_missing_numbers_are_named_where_there_are_no_positions(tmp_path):
    made = slices(VOXELS, ImagePositionPatient=None)
    del made[2]
    assert "1 of its 6 slices are missing, of number 3." in refusal(save_all(tmp_path, made))


def test_a_slice_that_is_there_twice_is_named_by_position(tmp_path):
    made = slices(VOXELS)
    made[3].ImagePositionPatient = made[2].ImagePositionPatient
    # Without its own position the fourth slice also leaves a hole; the copy is told first.
    assert "its slices at -26 mm occur more than once" in refusal(save_all(tmp_path, made))


def test_a_time_series_is_told_from_copies(tmp_path):
    made = slices(VOXELS) + slices(VOXELS) + slices(VOXELS)
    words = refusal(save_all(tmp_path, made))
    assert "each of its 6 positions occurs 3 times: a time series, or several echoes" in words
    film = slices(VOXELS, step=(0, 0, 0))
    assert "all its 6 slices lie at one position: a time series" in refusal(
        save_all(tmp_path / "film", film)
    )


def test_uneven_slices_are_refused(tmp_path):
    made = slices(VOXELS)
    made[2].ImagePositionPatient = [-20.0, 10.0, -25.7]
    words = refusal(save_all(tmp_path, made))
    assert "unevenly spaced, 1.7 to 2.3 apart: the one at -25.7 mm lies 0.3 from" in words


def test_rounded_positions_are_even(tmp_path):
    made = slices(noise(30, 4, 5), step=(0, 0, 2 / 3))
    for one in made:
        one.ImagePositionPatient = [round(float(v), 2) for v in one.ImagePositionPatient]
    grid = dicom.open_series(save_all(tmp_path, made), "image").grid
    np.testing.assert_allclose(grid.spacing[0], 2 / 3, atol=1e-3)


def test_slices_aside_of_their_line_are_refused(tmp_path):
    made = slices(VOXELS)
    made[2].ImagePositionPatient = [-19.0, 10.0, -26.0]
    words = refusal(save_all(tmp_path, made))
    assert "do not lie on one line: they are shifted sideways by up to 1 mm" in words


def test_directions_that_differ_are_named(tmp_path):
    made = slices(VOXELS) + slices(VOXELS[:2], orientation=(0, 1, 0, 0, 0, -1))
    words = refusal(save_all(tmp_path, made))
    assert "its 8 slices lie in 2 directions (6 axial and 2 sagittal): a localizer" in words


def test_sizes_that_differ_are_named(tmp_path):
    made = slices(VOXELS) + slices(noise(2, 7, 5), origin=(-20, 10, 50))
    words = refusal(save_all(tmp_path, made))
    assert "have 2 sizes (6 of 4 × 5 voxels and 2 of 7 × 5 voxels)" in words
    finer = slices(VOXELS) + slices(VOXELS, origin=(-20, 10, -18), PixelSpacing=[1.0, 1.0])
    assert "voxels of 2 sizes (0.75 × 0.5 mm and 1 × 1 mm)" in refusal(
        save_all(tmp_path / "finer", finer)
    )


def test_kinds_of_values_that_differ_are_refused(tmp_path):
    made = slices(VOXELS)
    made[1].PhotometricInterpretation = "MONOCHROME1"
    assert "have 2 kinds of values (5 of MONOCHROME2, 1 per voxel and 1 of MONOCHROME1" in refusal(
        save_all(tmp_path, made)
    )


def test_files_of_two_series_are_refused(tmp_path):
    other = slices(VOXELS, origin=(-20, 10, -18), SeriesInstanceUID=f"{UID}.9")
    assert "its 12 files are of 2 series" in refusal(save_all(tmp_path, slices(VOXELS) + other))
    assert "its series has no files" in refusal([])


# Values


def test_hounsfield_units_stay_integers_wide_enough(tmp_path):
    stored = noise(3, 4, 5, dtype=np.uint16, least=0, most=4096)
    source = dicom.open_series(save_all(tmp_path / "a", ct(stored)), "image")
    assert source.dtype == np.int16
    np.testing.assert_array_equal(whole(source).array[0], stored.astype(int) - 1024)
    wide = dicom.open_series(
        save_all(tmp_path / "b", ct(stored, BitsStored=16, HighBit=15)), "image"
    )
    assert wide.dtype == np.int32
    np.testing.assert_array_equal(whole(wide).array[0], stored.astype(int) - 1024)


def test_values_beyond_32_bits_are_refused(tmp_path):
    stored = noise(2, 4, 5, dtype=np.uint32, least=0, most=9)
    made = slices(stored, RescaleSlope=1, RescaleIntercept=-1)
    assert "its rescaled values may be -1 to 4294967294" in refusal(save_all(tmp_path, made))


def test_every_slice_has_its_own_scale(tmp_path):
    stored = noise(3, 4, 5, dtype=np.uint16, least=0, most=4096)
    made = slices(stored, Modality="PT")
    for z, one in enumerate(made):
        one.RescaleSlope, one.RescaleIntercept = f"{0.5 + z}", f"{z}"
    source = dicom.open_series(save_all(tmp_path, made), "image")
    expected = stored * (0.5 + np.arange(3))[:, None, None] + np.arange(3)[:, None, None]
    assert source.dtype == np.float32
    np.testing.assert_array_equal(whole(source).array[0], expected.astype(np.float32))


def test_monochrome1_is_turned_over_where_no_scale_gives_values_a_meaning(tmp_path):
    stored = noise(2, 4, 5, dtype=np.uint16, least=0, most=4096)
    inverse = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    paths = write_series(tmp_path / "a", stored, **inverse)
    np.testing.assert_array_equal(
        whole(dicom.open_series(paths, "image")).array[0], 4095 - stored.astype(int)
    )
    np.testing.assert_array_equal(whole(dicom.open_series(paths, "mask")).array[0], stored)
    scaled = write_series(tmp_path / "b", stored, RescaleSlope=2, RescaleIntercept=0, **inverse)
    np.testing.assert_array_equal(
        whole(dicom.open_series(scaled, "image")).array[0], stored.astype(int) * 2
    )
    signed = write_series(tmp_path / "c", VOXELS, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(whole(dicom.open_series(signed, "image")).array[0], -1 - VOXELS)


def test_padding_is_no_data(tmp_path):
    stored = VOXELS.copy()
    stored[0, 0, :2], stored[3, 1, 1] = -2000, -1990
    alone = write_series(tmp_path / "a", stored, PixelPaddingValue=-2000)
    volume = whole(dicom.open_series(alone, "image"))
    np.testing.assert_array_equal(volume.valid, stored != -2000)
    reach = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    ranged = dicom.open_series(write_series(tmp_path / "b", stored, **reach), "image")
    np.testing.assert_array_equal(whole(ranged).valid, stored > -1990)
    part = ranged.read(Window((3, 0, 1), (1, 2, 3)))
    np.testing.assert_array_equal(part.valid, stored[3:4, :2, 1:4] > -1990)


def test_a_padding_value_written_unsigned_is_meant_signed(tmp_path):
    made = slices(np.where(VOXELS > 900, np.int16(-2000), VOXELS))
    for one in made:
        one.add_new("PixelPaddingValue", "US", 65536 - 2000)
    volume = whole(dicom.open_series(save_all(tmp_path, made), "image"))
    assert volume.valid is not None and not volume.valid.all()
    np.testing.assert_array_equal(volume.valid, volume.array[0] != -2000)


def test_colours_are_channels(tmp_path):
    pixels = noise(3, 4, 6, 3, dtype=np.uint8, least=0, most=256)
    source = dicom.open_series(write_series(tmp_path / "a", pixels), "image")
    assert source.channels == 3 and source.dtype == np.uint8
    np.testing.assert_array_equal(whole(source).array, pixels.transpose(3, 0, 1, 2))
    planes = slices(pixels, PlanarConfiguration=1)
    for one, plane in zip(planes, pixels, strict=True):
        one.PixelData = plane.transpose(2, 0, 1).tobytes()
    source = dicom.open_series(save_all(tmp_path / "b", planes), "image")
    np.testing.assert_array_equal(whole(source).array, pixels.transpose(3, 0, 1, 2))


@pytest.mark.parametrize(
    ("keyword", "dtype"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)]
)
def test_floating_point_is_read_as_float32(tmp_path, keyword, dtype):
    voxels = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(dtype)
    made = slices(voxels)
    for one, pixels in zip(made, voxels, strict=True):
        del one.PixelData, one.PixelRepresentation
        setattr(one, keyword, pixels.tobytes())
        padding = keyword.replace("Data", "PaddingValue")
        setattr(one, padding, float(voxels[0, 0, 0]))
    source = dicom.open_series(save_all(tmp_path, made), "image")
    assert source.dtype == np.float32
    volume = whole(source)
    np.testing.assert_array_equal(volume.array[0], voxels.astype(np.float32))
    np.testing.assert_array_equal(volume.valid, voxels != voxels[0, 0, 0])


def test_a_palette_holds_labels_but_no_image(tmp_path):
    stored = noise(2, 4, 6, dtype=np.uint8, least=0, most=5)
    paths = write_series(tmp_path, stored, PhotometricInterpretation="PALETTE COLOR")
    assert "its voxels are numbers of a palette's colours" in refusal(paths)
    np.testing.assert_array_equal(whole(dicom.open_series(paths, "mask")).array[0], stored)


# Several frames in a file

PLACES = [(-20.0, 10.0, -30.0 + 2 * z) for z in range(6)]


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_frames_are_placed_and_scaled_each_by_its_own_group(tmp_path, syntax):
    voxels, order = noise(6, 32, 40, least=0), [4, 0, 5, 2, 1, 3]
    scales = [(0.5 + z, float(z)) for z in range(6)]
    made = enhanced(voxels[order], [PLACES[z] for z in order], [scales[z] for z in order])
    if syntax is not None:
        made.compress(syntax, generate_instance_uid=False)
    source = dicom.open_source(save(tmp_path / "a.dcm", made), "image")
    assert source.placed and source.block == (1, 32, 40)
    np.testing.assert_allclose(source.grid.spacing, (2.0, 0.75, 0.5))
    np.testing.assert_allclose(source.grid.index_to_world((0, 0, 0)), (20, -10, -30))
    factors = np.array(scales)[:, :, None, None]
    np.testing.assert_allclose(whole(source).array[0], voxels * factors[:, 0] + factors[:, 1])


def test_frames_are_refused_like_slices(tmp_path):
    made = enhanced(VOXELS, PLACES)
    del made.PerFrameFunctionalGroupsSequence[2]
    words = refusal([save(tmp_path / "a.dcm", made)])
    assert "1 of 6 have no position" in words
    gap = enhanced(VOXELS, [*PLACES[:5], (-20.0, 10.0, -18.0)])
    assert "1 of its 7 slices are missing, at -20 mm" in refusal([save(tmp_path / "b.dcm", gap)])


def test_a_film_is_no_volume(tmp_path):
    made = dataset(VOXELS, NumberOfFrames=6, SliceThickness=None)
    words = refusal([save(tmp_path / "a.dcm", made)])
    assert "do not say how far apart they are: they may be a film" in words


def test_frames_at_a_known_distance_are_a_volume_without_a_place(tmp_path):
    made = dataset(VOXELS, NumberOfFrames=6, SpacingBetweenSlices=-4.0, SliceThickness=None)
    source = dicom.open_source(save(tmp_path / "a.dcm", made), "image")
    assert not source.placed
    np.testing.assert_allclose(source.grid.spacing, (4.0, 0.75, 0.5))
    np.testing.assert_array_equal(whole(source).array[0], VOXELS)


def test_slides_and_mosaics_are_no_volume(tmp_path):
    made = dataset(
        VOXELS,
        NumberOfFrames=6,
        TotalPixelMatrixColumns=10,
        SOPClassUID=VLWholeSlideMicroscopyImageStorage,
    )
    assert "laid out in tiles (a whole slide" in refusal([save(tmp_path / "a.dcm", made)])
    mosaic = dataset(VOXELS[0], ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    assert "or a mosaic of slices" in refusal([save(tmp_path / "b.dcm", mosaic)])


def test_fragments_are_shared_out_by_the_offset_table(tmp_path):
    voxels = noise(6, 32, 40)
    made = enhanced(voxels, PLACES)
    made.compress(RLELossless, generate_instance_uid=False)
    frames = list(pydicom.encaps.generate_frames(made.PixelData, number_of_frames=6))
    made.PixelData = pydicom.encaps.encapsulate(frames, fragments_per_frame=3)
    made["PixelData"].is_undefined_length = True
    source = dicom.open_source(save(tmp_path / "a.dcm", made), "image")
    np.testing.assert_array_equal(whole(source).array[0], voxels)
    untold = pydicom.encaps.encapsulate(frames, fragments_per_frame=3, has_bot=False)
    made.PixelData = untold
    assert "cannot be read" in refusal([save(tmp_path / "b.dcm", made)])
    content, offsets, lengths = pydicom.encaps.encapsulate_extended(frames)
    made.PixelData, made.ExtendedOffsetTable = content, offsets
    made.ExtendedOffsetTableLengths = lengths
    source = dicom.open_source(save(tmp_path / "c.dcm", made), "image")
    np.testing.assert_array_equal(whole(source).array[0], voxels)


# Reading


def test_each_slice_is_decoded_once_for_neighbouring_windows(tmp_path, monkeypatch):
    source = dicom.open_series(write_series(tmp_path, VOXELS), "image")
    decoded = []
    original = source._slices._decode
    source._slices._decode = lambda z: (decoded.append(z), original(z))[1]
    windows = [Window((0, y, x), (6, 2, 1)) for y in (0, 2) for x in range(5)]
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(source.read, windows * 4))
    assert sorted(decoded) == list(range(6))
    for window, part in zip(windows * 4, parts, strict=True):
        np.testing.assert_array_equal(part.array[0], VOXELS[window.slices])


def test_the_slices_kept_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "CACHE_BYTES", 2 * VOXELS[0].nbytes)
    source = dicom.open_series(write_series(tmp_path, VOXELS), "image")
    with ThreadPoolExecutor(8) as pool:
        for volume in pool.map(lambda _: whole(source), range(16)):
            np.testing.assert_array_equal(volume.array[0], VOXELS)
    assert len(source._slices._slices) <= 2
    assert source._slices._bytes == sum(VOXELS[z].nbytes for z in source._slices._slices)


# Damage


def truncated(content):
    return content[:-9]


def cut_in_the_header(content):
    return content[:600]


def empty(content):
    return b""


def zeros(content):
    return bytes(len(content))


def garbage(content):
    return b"no image at all" * 50


@pytest.mark.parametrize("damage", [truncated, cut_in_the_header, empty, zeros, garbage])
def test_a_damaged_file_is_counted_not_named(tmp_path, damage):
    paths = write_series(tmp_path / "DOE_JANE", VOXELS)
    paths[2].write_bytes(damage(paths[2].read_bytes()))
    words = refusal(paths)
    assert words.startswith("1 of its 6 files cannot be read: truncated or damaged.")
    assert refusal(paths[2:3]).startswith("its file cannot be read: truncated or damaged.")


def test_a_file_that_is_gone_or_no_dicom_is_the_cases_fault(tmp_path):
    paths = write_series(tmp_path, VOXELS)
    paths[0].unlink()
    (tmp_path / "notes.txt").write_text(NAME)
    assert "1 of its 6 files are no DICOM image" in refusal([*paths[1:], tmp_path / "notes.txt"])
    assert "1 of its 6 files cannot be read" in refusal(paths)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_damaged_codestream_is_found_when_it_is_read(tmp_path, syntax):
    made = slices(noise(3, 32, 40))
    for one in made:
        one.compress(syntax, generate_instance_uid=False)
    paths = save_all(tmp_path, made)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) // 2])
    source = dicom.open_series(paths, "image")
    with pytest.raises(CaseError, match="1 of its 3 files cannot be read") as caught:
        whole(source)
    assert_impersonal(told(caught.value))
    np.testing.assert_array_equal(source.read(Window((0, 0, 0), (1, 32, 40))).array.shape[1], 1)


@pytest.mark.parametrize("elements", [
    {"Rows": 60_000, "Columns": 60_000},
    {"Rows": 0},
    {"NumberOfFrames": 2**31 - 1},
    {"NumberOfFrames": 90_000},
    {"BitsStored": 99},
    {"BitsStored": 0},
])  # fmt: skip
def test_a_header_that_claims_what_its_file_cannot_hold_is_refused(tmp_path, elements):
    made = dataset(VOXELS[0], **elements)
    assert "cannot be read" in refusal([save(tmp_path / "a.dcm", made)])
    made = dataset(noise(32, 40))
    made.compress(RLELossless, generate_instance_uid=False)
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    assert "cannot be read" in refusal([save(tmp_path / "b.dcm", made)])


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "PixelSpacing", "SliceThickness"])
def test_places_beyond_all_measure_are_none(tmp_path, keyword):
    made = slices(VOXELS[:2])
    for one in made:
        setattr(one, keyword, np.full(np.shape(one[keyword].value), "1e300").tolist())
    try:
        grid = dicom.open_series(save_all(tmp_path, made), "image").grid
        assert np.isfinite(grid.matrix).all()
    except CaseError as error:
        assert "no position, direction or voxel size" in str(error) or "no positions" in str(error)


def test_a_codestream_larger_than_its_header_says_is_not_decoded(tmp_path):
    made = dataset(noise(32, 40))
    made.compress(JPEG2000Lossless, generate_instance_uid=False)
    at = made.PixelData.index(b"\xff\x4f\xff\x51")
    content = bytearray(made.PixelData)
    content[at + 8 : at + 16] = (60_000).to_bytes(4, "big") * 2
    made.PixelData = bytes(content)
    assert "cannot be read" in refusal([save(tmp_path / "a.dcm", made)])


def test_run_lengths_that_overrun_their_frame_are_the_cases_fault(tmp_path):
    frame = noise(4, 4)
    # Two bytes of each voxel in segments of their own, both of 21 bytes where 16 fit.
    run = bytes([20, *range(21)])
    segments = struct.pack("<16I", 2, 64, 64 + len(run), *[0] * 13) + run + run
    made = compressed(dataset(frame), [frame], lambda _: segments, RLELossless)
    assert "cannot be read" in refusal([save(tmp_path / "a.dcm", made)])


def test_a_deflated_bomb_is_refused(tmp_path):
    made = dataset(VOXELS[0])
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(tmp_path / "a.dcm", made)
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    header = zlib.decompress(content[start:], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    # The header, then an element of another group that goes on for a gigabyte.
    bomb = packer.compress(header[:-52] + b"\x09\x00\x10\x10OB\0\0" + b"\xf0\xff\xff\x3f")
    zeros = bytes(2**20)
    bomb += b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    path.write_bytes(content[:start] + bomb)
    assert "cannot be read" in refusal([path])


@pytest.mark.parametrize(("bits", "words"), [(64, "have 64 bits"), (1, "have 1 bits")])
def test_other_widths_are_refused(tmp_path, bits, words):
    made = dataset(noise(4, 8, dtype=np.int64), BitsAllocated=bits, BitsStored=bits, HighBit=0)
    assert words in refusal([save(tmp_path / "a.dcm", made)])


def test_a_syntax_without_a_decoder_is_named(tmp_path):
    made = dataset(noise(32, 40))
    made.compress(RLELossless, generate_instance_uid=False)
    made.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    words = refusal([save(tmp_path / "a.dcm", made)])
    assert "stored as MPEG2 Main Profile / Main Level, for which there is no decoder" in words
    content = (tmp_path / "a.dcm").read_bytes()
    own = content.replace(b"1.2.840.10008.1.2.4.100", b"1.2.840.99999.1.2.4.100")
    (tmp_path / "b.dcm").write_bytes(own)
    assert "stored as an unknown transfer syntax" in refusal([tmp_path / "b.dcm"])


def test_flipped_bits_are_read_or_refused(tmp_path):
    path = save(tmp_path / "a.dcm", enhanced(VOXELS, PLACES, [(1.0, 0.0)] * 6))
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        flipped = bytearray(content)
        for at in random.integers(0, len(content), 8):
            flipped[at] ^= 1 << random.integers(8)
        path.write_bytes(flipped)
        try:
            whole(dicom.open_source(path, "image"))
        except CaseError as error:
            assert_impersonal(told(error))


# Finding series


def test_every_series_is_found_however_folders_nest(tmp_path):
    for number, folder in enumerate(("a/b/c", "a/b", "d")):
        uid = f"{UID}.{number}"
        write_series(tmp_path / folder, VOXELS, SeriesInstanceUID=uid, SeriesNumber=number)
    mixed = slices(VOXELS, SeriesInstanceUID=f"{UID}.3") + slices(
        VOXELS, SeriesInstanceUID=f"{UID}.4", Modality="CT"
    )
    save_all(tmp_path / "both", mixed)
    found = dicom.find_series(tmp_path)
    assert sorted((s.folder, len(s.paths)) for s in found) == [
        ("a/b", 6), ("a/b/c", 6), ("both", 6), ("both", 6), ("d", 6)
    ]  # fmt: skip
    assert [s.case for s in found] == sorted(s.case for s in found)
    assert all(re.fullmatch(r"(mr|ct)-[0-9a-f]{10}", s.case) for s in found)
    for series in found:
        assert series.problem is None
        source = dicom.open_series(series.paths, "image")
        np.testing.assert_array_equal(whole(source).array[0], VOXELS)


def test_what_is_no_image_is_passed_over(tmp_path):
    write_series(tmp_path / "a", VOXELS)
    for number, kind in enumerate((RTStructureSetStorage, EncapsulatedPDFStorage)):
        elements = dict.fromkeys(("Rows", "Columns", "BitsAllocated"))
        made = dataset(VOXELS[0], SOPClassUID=kind, **elements)
        del made.PixelData
        save(tmp_path / "a" / f"other{number}.dcm", made)
    save(tmp_path / "a" / "seg.dcm", dataset(VOXELS[0], SOPClassUID=SegmentationStorage))
    (tmp_path / "a" / "notes.txt").write_text("notes")
    (tmp_path / "a" / "DICOMDIR").write_bytes(b"")
    (tmp_path / "a" / "._im000.dcm").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".trash").mkdir()
    write_series(tmp_path / ".trash", VOXELS, SeriesInstanceUID=f"{UID}.7")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = dicom.find_series(tmp_path)
    assert [(len(s.paths), s.problem) for s in found] == [(6, None)]
    assert "no DICOM image" in refusal([tmp_path / "a" / "seg.dcm"])


def test_headers_of_any_length_and_of_a_makers_own_class_are_read(tmp_path):
    made = slices(VOXELS, SOPClassUID="1.3.12.2.1107.5.9.9")
    for one in made:
        one.private_block(0x0021, "A MAKER", create=True).add_new(1, "OB", bytes(300_000))
    save_all(tmp_path / "a", made)
    other = dataset(VOXELS[0], SOPClassUID="1.3.12.2.1107.5.9.1", Rows=None)
    save(tmp_path / "a" / "raw.dcm", other)
    (series,) = dicom.find_series(tmp_path)
    assert len(series.paths) == 6 and series.problem is None
    np.testing.assert_array_equal(whole(dicom.open_series(series.paths, "image")).array[0], VOXELS)


def test_files_need_no_suffix_or_no_preamble(tmp_path):
    paths = write_series(tmp_path, VOXELS)
    for number, path in enumerate(paths):
        bare = path.with_name(f"IM{number}")
        path.rename(bare)
        if number % 2:
            bare.write_bytes(bare.read_bytes()[132:])
            bare.rename(bare.with_suffix(".IMA"))
    (series,) = dicom.find_series(tmp_path)
    assert len(series.paths) == 6 and series.problem is None
    np.testing.assert_array_equal(whole(dicom.open_series(series.paths, "image")).array[0], VOXELS)


def test_a_file_of_several_frames_is_a_series_of_its_own(tmp_path):
    for number in range(2):
        save(tmp_path / f"{number}.dcm", enhanced(VOXELS, PLACES))
    write_series(tmp_path, VOXELS, SeriesInstanceUID=f"{UID}.1")
    found = dicom.find_series(tmp_path)
    assert sorted(len(s.paths) for s in found) == [1, 1, 6]
    assert len({s.case for s in found}) == 3 and not any(s.problem for s in found)


def test_a_series_that_is_no_volume_comes_with_its_reason(tmp_path):
    made = slices(VOXELS)
    del made[3]
    save_all(tmp_path / "gap", made)
    (series,) = dicom.find_series(tmp_path)
    assert "1 of its 6 slices are missing, at -24 mm" in str(series.problem)


def test_a_damaged_file_counts_to_the_series_beside_it(tmp_path):
    paths = write_series(tmp_path / "a", VOXELS)
    paths[1].write_bytes(b"")
    write_series(tmp_path / "b", VOXELS, SeriesInstanceUID=f"{UID}.1")
    lonely = write_series(tmp_path / "DOE" / "c", VOXELS, SeriesInstanceUID=f"{UID}.2")
    for path in lonely:
        path.write_bytes(path.read_bytes()[:300])
    found = {s.folder: s for s in dicom.find_series(tmp_path)}
    assert "1 of its 6 files cannot be read" in str(found["a"].problem)
    assert found["b"].problem is None
    # Whose they are cannot be read, so nothing of their folder is shown.
    assert "6 of its 6 files cannot be read" in str(found["…/…"].problem)


def test_a_closed_folder_is_not_passed_over(tmp_path):
    write_series(tmp_path / NAME, VOXELS)
    (tmp_path / NAME).chmod(0)
    try:
        if list_is_allowed(tmp_path / NAME):
            pytest.skip("root may open every folder")
        with pytest.raises(SettingsError, match="1 folders in it cannot be opened") as caught:
            dicom.find_series(tmp_path)
    finally:
        (tmp_path / NAME).chmod(0o700)
    assert_impersonal(str(caught.value))


def list_is_allowed(folder):
    try:
        return bool(list(folder.iterdir()))
    except OSError:
        return False


def test_cases_may_be_named_by_folder(tmp_path):
    write_series(tmp_path / "p 1" / "T1", VOXELS, SeriesInstanceUID=f"{UID}.1")
    both = slices(VOXELS, SeriesInstanceUID=f"{UID}.2", SeriesNumber=5) + slices(
        VOXELS, SeriesInstanceUID=f"{UID}.3", SeriesNumber=6
    )
    save_all(tmp_path / "p 2", both)
    twice = slices(VOXELS, SeriesInstanceUID=f"{UID}.4") + slices(
        VOXELS, SeriesInstanceUID=f"{UID}.5"
    )
    save_all(tmp_path / "p 3", twice)
    names = [s.case for s in dicom.find_series(tmp_path, "folder")]
    assert names[:3] == ["p_1-T1", "p_2-5", "p_2-6"]
    assert all(re.fullmatch(r"p_3-[0-9a-f]{10}", name) for name in names[3:])
    assert len(set(names)) == 5


def test_cases_are_named_by_patient_only_when_asked(tmp_path):
    write_series(tmp_path / "a", VOXELS)
    assert [s.case for s in dicom.find_series(tmp_path, "patient")] == [f"{PATIENT_ID}-4"]


def test_ids_are_the_same_wherever_the_series_lies(tmp_path):
    write_series(tmp_path / "x", VOXELS)
    (here,) = dicom.find_series(tmp_path)
    (tmp_path / "x").rename(tmp_path / "y")
    (there,) = dicom.find_series(tmp_path)
    assert here.case == there.case == "mr-" + hashlib.sha256(UID.encode()).hexdigest()[:10]


# What never leaves


@pytest.mark.parametrize("names", ["series", "folder"])
@pytest.mark.parametrize(
    "folder",
    ["Doe, Jane", "doe_jane_head", "ZZ-991.234/T1", f"scan{BIRTH_DATE}", f"x/{ACCESSION}/y", "Döé"],
)
def test_folders_lose_the_patient(tmp_path, folder, names):
    save(tmp_path / folder / "a.dcm", slices(VOXELS[:1])[0])
    (series,) = dicom.find_series(tmp_path, names)
    assert_impersonal(f"{series!r} {series.case} {series.folder}")
    assert "…" in series.folder and "Döé" not in series.folder


def test_short_names_hide_only_folders_that_hold_them_as_a_word(tmp_path):
    write_series(tmp_path / "NG_li" / "lines", VOXELS, PatientName="NG^LI", PatientID="7")
    (series,) = dicom.find_series(tmp_path)
    assert series.folder == "…/lines"


def test_names_in_other_scripts_are_hidden_too(tmp_path):
    japanese = "Yamada^Tarou=山田^太郎"
    made = dataset(VOXELS[0], SpecificCharacterSet="ISO_IR 192", PatientName=japanese)
    save(tmp_path / "山田太郎" / "t1" / "a.dcm", made)
    (series,) = dicom.find_series(tmp_path)
    assert series.folder == "…/t1"


def test_no_error_series_or_log_tells_who_the_patient_is(tmp_path, caplog, capfd):
    folder = tmp_path / "DOE JANE" / PATIENT_ID
    broken = {
        "Rows": ("LO", NAME),
        "ImagePositionPatient": ("LO", [NAME, NAME, NAME]),
        "PixelSpacing": ("LO", [PATIENT_ID, NAME]),
        "SeriesNumber": ("LO", NAME),
        "Modality": ("LO", NAME),
        "SeriesInstanceUID": ("LO", NAME),
        "SOPClassUID": ("LO", PATIENT_ID),
        "PhotometricInterpretation": ("LO", NAME),
        "BitsAllocated": ("LO", ACCESSION),
        "RescaleSlope": ("LO", NAME),
        "NumberOfFrames": ("LO", PATIENT_ID),
    }
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for keyword, (vr, value) in broken.items():
            made = slices(VOXELS[:3])
            for one in made:
                one.add_new(keyword, vr, value)
            paths = save_misspelt(folder / keyword, made)
            for series in dicom.find_series(tmp_path):
                assert_impersonal(f"{series!r} {series.problem}")
            try:
                whole(dicom.open_series(paths, "image"))
            except CaseError as error:
                assert_impersonal(told(error))
    read = capfd.readouterr()
    assert_impersonal(caplog.text + read.out + read.err)
    assert_impersonal(" ".join(str(w.message) for w in caught if "dicom_reader" not in w.filename))


def save_misspelt(folder, made):
    """Write headers that pydicom would rather not."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, one in enumerate(made):
            paths.append(folder / f"{number}.dcm")
            one.file_meta.MediaStorageSOPClassUID = UID
            one.file_meta.MediaStorageSOPInstanceUID = UID
            pydicom.dcmwrite(paths[-1], one, enforce_file_format=True)
    return paths


def test_warnings_of_the_library_are_silent_in_every_thread_and_no_longer():
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with quiet:
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=stay)
    with quiet:
        other.start()
        inside.wait(10)
    # The first has left, the other is still inside.
    assert warnings.filters != before
    leave.set()
    other.join()
    assert warnings.filters == before


def test_groups_by_the_hundred_thousand_are_not_parsed(tmp_path):
    path = save(tmp_path / "a.dcm", dataset(VOXELS[0]))
    content = path.read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00")
    groups = b"\x00\x52\x29\x92SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0\0\0\0\0" * 300_000
    path.write_bytes(content[:at] + groups + b"\xfe\xff\xdd\xe0" + bytes(4) + content[at:])
    assert "cannot be read" in refusal([path])


@pytest.mark.parametrize("depth", [20, 20_000])
def test_groups_nested_however_deep_are_read_or_refused(tmp_path, depth):
    path = save(tmp_path / "a.dcm", dataset(VOXELS[0]))
    content = path.read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00")
    open_item = b"\x00\x52\x29\x92SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    end_item = b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
    path.write_bytes(content[:at] + open_item * depth + end_item * depth + content[at:])
    if depth == 20:
        whole(dicom.open_source(path, "image"))
    else:
        assert "cannot be read" in refusal([path])
