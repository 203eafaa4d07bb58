"""DICOM series as GDCM, through SimpleITK, and pydicom see them."""

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from pipeline.errors import CaseError
from pipeline.io.readers.dicom import reader as dicom
from pipeline.space import Window
from tests.dicom_builder import (
    compressed,
    ct,
    dataset,
    noise,
    save,
    save_all,
    slices,
    write_series,
)


def whole(source):
    return source.read(Window.whole(source.grid.shape))


def as_itk_sees_it(paths_or_folder):
    reader = SimpleITK.ImageSeriesReader()
    names = paths_or_folder
    if isinstance(names, Path):
        names = reader.GetGDCMSeriesFileNames(str(names))
    reader.SetFileNames([str(name) for name in names])
    return reader.Execute()


def corners(shape):
    return np.stack(np.meshgrid(*[(0.0, n - 1.0) for n in shape], indexing="ij"), -1).reshape(-1, 3)


def assert_same_place(grid, image, atol):
    for index in corners(grid.shape):
        x, y, z = image.TransformContinuousIndexToPhysicalPoint(index[::-1].tolist())
        # SimpleITK speaks LPS.
        np.testing.assert_allclose(grid.index_to_world(index), (-x, -y, z), atol=atol)


@pytest.mark.parametrize(("name", "shape"), [("t1post", (22, 512, 512)), ("hcrop", (32, 51, 35))])
def test_a_real_series_is_what_gdcm_reads(real_data, name, shape):
    folder = real_data("dicom") / name
    source = dicom.open_series(sorted(folder.glob("*.dcm")), "image")
    image = as_itk_sees_it(folder)
    assert source.placed and source.grid.shape == shape and source.dtype == np.int16
    np.testing.assert_array_equal(whole(source).array[0], SimpleITK.GetArrayFromImage(image))
    # GDCM makes the six-digit directions of t1post unit vectors, and its step the normal's: they
    # part by 0.1 µm at the far corner.
    assert_same_place(source.grid, image, atol=1e-3)


def test_the_real_series_are_found_without_a_problem(real_data):
    found = dicom.find_series(real_data("dicom"))
    assert {(s.folder, len(s.paths), s.problem) for s in found} == {
        ("t1post", 22, None),
        ("hcrop", 32, None),
    }


OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
TURNED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
DIRECTIONS = {
    "axial": ((1, 0, 0, 0, 1, 0), (0, 0, 2.0)),
    "axial, feet last": ((1, 0, 0, 0, 1, 0), (0, 0, -2.0)),
    "turned half": (TURNED, (0, 0, 1.5)),
    "sagittal": ((0, 1, 0, 0, 0, -1), (-3.0, 0, 0)),
    "coronal": ((1, 0, 0, 0, 0, -1), (0, 1.25, 0)),
    "oblique": (OBLIQUE, tuple(2.5 * np.cross(OBLIQUE[:3], OBLIQUE[3:]))),
}


@pytest.mark.parametrize(("orientation", "step"), DIRECTIONS.values(), ids=DIRECTIONS)
def test_every_voxel_lies_where_simpleitk_puts_it(tmp_path, orientation, step):
    voxels = noise(5, 4, 6)
    paths = write_series(tmp_path, voxels, orientation=orientation, step=step)
    source = dicom.open_series(paths, "image")
    image = as_itk_sees_it(tmp_path)
    array = SimpleITK.GetArrayFromImage(image)
    # Both order slices along the normal; GDCM may count from the other end.
    read = whole(source).array[0]
    if not np.array_equal(read, array):
        image, array = image[:, :, ::-1], array[::-1]
    np.testing.assert_array_equal(read, array)
    assert_same_place(source.grid, image, atol=1e-5)


def test_a_tilted_gantry_shears_the_grid(tmp_path):
    voxels, step = noise(4, 5, 6), np.array((0.0, 0.9, 2.0))
    paths = write_series(tmp_path, voxels, origin=(3, 4, 5), step=step)
    source = dicom.open_series(sorted(paths), "image")
    for z, path in enumerate(paths):
        header = pydicom.dcmread(path)
        x, y, depth = header.ImagePositionPatient
        np.testing.assert_allclose(source.grid.index_to_world((z, 0, 0)), (-x, -y, depth))
    np.testing.assert_allclose(source.grid.matrix[:3, 0], (0, -0.9, 2))
    np.testing.assert_array_equal(whole(source).array[0], voxels)


def jpeg_ls(frame):
    return imagecodecs.jpegls_encode(frame)


def jpeg_lossless(frame):
    return imagecodecs.ljpeg_encode(frame, bitspersample=16)


UNCOMPRESSED = [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("syntax", UNCOMPRESSED, ids=lambda uid: uid.name)
def test_every_order_of_bytes_gives_the_same_voxels(tmp_path, syntax):
    voxels = noise(3, 5, 7)
    made = slices(voxels)
    for one in made:
        one.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            one.PixelData = np.frombuffer(one.PixelData, "<i2").astype(">i2").tobytes()
            one["PixelData"].VR = "OW"
    source = dicom.open_series(save_all(tmp_path, made), "image")
    read = whole(source).array
    np.testing.assert_array_equal(read[0], voxels)
    assert read.dtype == source.dtype == np.dtype("int16") and read.dtype.isnative


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_what_pydicom_compresses_comes_back(tmp_path, syntax):
    voxels = noise(3, 32, 40)
    made = slices(voxels)
    for one in made:
        one.compress(syntax, generate_instance_uid=False)
    source = dicom.open_series(save_all(tmp_path, made), "image")
    np.testing.assert_array_equal(whole(source).array[0], voxels)


@pytest.mark.parametrize(
    ("encode", "syntax"), [(jpeg_ls, JPEGLSLossless), (jpeg_lossless, JPEGLosslessSV1)]
)
def test_what_imagecodecs_compresses_comes_back(tmp_path, encode, syntax):
    voxels = noise(3, 32, 40, dtype=np.uint16, least=0, most=60_000)
    made = [
        compressed(one, [frame], encode, syntax)
        for one, frame in zip(slices(voxels), voxels, strict=True)
    ]
    source = dicom.open_series(save_all(tmp_path, made), "image")
    np.testing.assert_array_equal(whole(source).array[0], voxels)


def test_lossy_jpeg_is_read_as_imagecodecs_reads_it(tmp_path):
    ramp = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    made = compressed(dataset(ramp), [ramp], imagecodecs.jpeg8_encode, JPEGBaseline8Bit)
    expected = imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(ramp)).astype(int)
    read = whole(dicom.open_source(save(tmp_path / "a.dcm", made), "image")).array[0, 0]
    # Two decoders may round an inverse cosine transform to neighbouring values.
    np.testing.assert_allclose(read.astype(int), expected, atol=1)


def pydicom_files():
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return sorted(folder.glob("*.dcm"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("path", pydicom_files(), ids=lambda path: path.stem)
def test_a_file_of_pydicom_is_read_as_pydicom_reads_it_or_is_the_cases_fault(path):
    try:
        source = dicom.open_source(path, "image")
        read = whole(source).array
    except CaseError as error:
        assert error.reason.startswith("its ")
        return
    header = pydicom.dcmread(path, force=True)
    pixels = header.pixel_array
    expected = pixels if header.SamplesPerPixel == 1 else np.moveaxis(pixels, -1, 0)
    scale, shift = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
    expected = expected * float(scale) + float(shift)
    np.testing.assert_allclose(read.reshape(expected.shape), expected, rtol=1e-6)


def test_most_files_of_pydicom_that_hold_one_image_are_read():
    # 49 hold one: one of them is truncated, two defeat pydicom's decoders, one has a palette.
    opened = 0
    for path in pydicom_files():
        try:
            whole(dicom.open_source(path, "image"))
            opened += 1
        except CaseError:
            pass
    assert opened == 45


def test_hounsfield_units_are_those_of_gdcm(tmp_path):
    stored = noise(3, 6, 5, dtype=np.uint16, least=0, most=4096)
    paths = save_all(tmp_path, ct(stored))
    source = dicom.open_series(paths, "image")
    array = SimpleITK.GetArrayFromImage(as_itk_sees_it(tmp_path))
    assert source.dtype == np.int16
    np.testing.assert_array_equal(whole(source).array[0], array)


def test_real_values_are_those_of_gdcm(tmp_path):
    stored = noise(3, 6, 5, dtype=np.uint16, least=0, most=4096)
    paths = save_all(tmp_path, ct(stored, RescaleSlope="0.37", RescaleIntercept="-12.5"))
    source = dicom.open_series(paths, "image")
    array = SimpleITK.GetArrayFromImage(as_itk_sees_it(tmp_path))
    assert source.dtype == np.float32
    # GDCM computes in float64, the reader rounds to float32 once.
    np.testing.assert_allclose(whole(source).array[0], array, rtol=1e-6)
