"""Whatever a file does, its case is refused and the good cases beside it are complete."""

import gzip
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
import SimpleITK as sitk
from isal import igzip
from PIL import Image

from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, ingest
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.manifest import read_quarantine

CLASSES = (
    ClassSettings(name="background", values=(0,), background=True),
    ClassSettings(name="object", values=(1,)),
)
MOST_MIB = 900
"""More than a good case takes, far less than what the bad ones claim to hold."""
RANDOM = np.random.default_rng(7)


def scan(path: Path) -> bytes:
    voxels = RANDOM.integers(0, 500, (20, 18, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return path.read_bytes()


def picture(path: Path, **options) -> bytes:
    pixels = RANDOM.integers(0, 255, (64, 48), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path.read_bytes()


def scene(path: Path) -> bytes:
    pixels = RANDOM.integers(0, 255, (1, 64, 48), dtype=np.uint8)
    size = {"count": 1, "height": 64, "width": 48, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", driver="GTiff", **size, **place) as raster:
        raster.write(pixels)
    return path.read_bytes()


def flipped(content: bytes) -> bytes:
    """A bit of every hundredth byte of the second half, turned over."""
    damaged = bytearray(content)
    for place in range(len(damaged) // 2, len(damaged) - 8, 100):
        damaged[place] ^= 0x10
    return bytes(damaged)


def nifti_header(shape: tuple[int, ...]) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + bytes(4)


def gzip_bomb(path: Path, header: bytes, gib: float) -> None:
    """A header and gibibytes of nothing, in members of 64 MiB."""
    member = igzip.compress(bytes(64 * 2**20), 3)
    path.write_bytes(gzip.compress(header) + member * round(gib * 16))


def png_bomb(path: Path, side: int) -> None:
    """A well-formed black picture of side x side pixels."""
    row = zlib.compressobj(1)
    data = b"".join(row.compress(bytes(side + 1)) for _ in range(side)) + row.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def scans(folder: Path) -> set[str]:
    """Good and bad volumes; the ids of the good ones."""
    folder.mkdir(parents=True)
    plain, zipped = scan(folder / "good_plain.nii"), scan(folder / "good_zipped.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((9, 8, 7), np.int16)), folder / "good_meta.mha")
    (folder / "cut.nii").write_bytes(plain[: len(plain) // 2])
    (folder / "cut_zip.nii.gz").write_bytes(zipped[: len(zipped) // 2])
    (folder / "flipped.nii.gz").write_bytes(flipped(zipped))
    (folder / "claims.nii").write_bytes(nifti_header((30_000, 30_000, 30_000)) + bytes(4096))
    (folder / "claims_zip.nii.gz").write_bytes(
        gzip.compress(nifti_header((30_000, 30_000, 30_000)) + bytes(4096))
    )
    gzip_bomb(folder / "bomb.nii.gz", nifti_header((4, 4, 4)), 4)
    (folder / "negative.nii").write_bytes(
        nifti_header((20, 18, 16)).replace(
            struct.pack("<hhhh", 3, 20, 18, 16), struct.pack("<hhhh", 3, -20, 18, 16)
        )
        + bytes(12_000)
    )
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha", ".npy", ".h5", ".mat", ".dcm"):
        (folder / f"empty_{suffix[1:].replace('.', '_')}{suffix}").write_bytes(b"")
        (folder / f"words_{suffix[1:].replace('.', '_')}{suffix}").write_text("not voxels " * 50)
    (folder / "png_inside.nii.gz").write_bytes(picture(folder.parent / "inside.png"))
    (folder / "vast.nrrd").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 90000 90000 90000\nencoding: raw\n"
        "endian: little\n\n" + "x" * 99
    )
    (folder / "outside.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n"
        "ElementDataFile = ../../../../etc/passwd\n"
    )
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return {"good_plain", "good_zipped", "good_meta"}


def pictures(folder: Path) -> set[str]:
    """Good and bad pictures and scenes; the ids of the good ones."""
    folder.mkdir(parents=True)
    png, tif = picture(folder / "good.png"), scene(folder / "good_scene.tif")
    jpg = picture(folder / "good_photo.jpg", quality=90)
    (folder / "cut.png").write_bytes(png[: len(png) // 2])
    (folder / "flipped.png").write_bytes(flipped(png))
    (folder / "cut_scene.tif").write_bytes(tif[: len(tif) // 2])
    (folder / "cut_photo.jpg").write_bytes(jpg[: len(jpg) // 2])
    png_bomb(folder / "bomb.png", 50_000)
    for suffix in (".png", ".tif", ".jpg", ".jp2", ".vrt"):
        (folder / f"empty_{suffix[1:]}{suffix}").write_bytes(b"")
        (folder / f"words_{suffix[1:]}{suffix}").write_text("not pixels " * 50)
    (folder / "png_inside.tif").write_bytes(png)
    (folder / "vast.tif").write_bytes(vast(tif))
    (folder / "reaches.vrt").write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">'
        "<SimpleSource><SourceFilename>/etc/passwd</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    return {"good", "good_scene", "good_photo"}


def vast(tif: bytes) -> bytes:
    """The same TIFF, claiming two million pixels on each side."""
    content = bytearray(tif)
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", content, entry)
        if tag in (256, 257):  # ImageWidth and ImageLength
            struct.pack_into("<HHII", content, entry, tag, 4, 1, 2_000_000)
    return bytes(content)


def take_in(root: Path, folder: Path) -> tuple[set[str], dict[str, str]]:
    """Ingest a folder of images; complete cases, and refusals by case."""
    data = DataSettings(root=str(root), layout="pairs", masks=None, classes=CLASSES)
    rows = ingest(
        data,
        IngestSettings(),
        ExecuteSettings(on="serial"),
        manifest=folder / "manifest.jsonl",
        quarantine=folder / "quarantine.jsonl",
        volumes=folder / "volumes",
    )
    refused = {
        r.case: f"{r.reason} {r.remedy}" for r in read_quarantine(folder / "quarantine.jsonl")
    }
    return {row.id for row in rows if row.status == "complete"}, refused


if __name__ == "__main__":
    took, said = take_in(Path(sys.argv[1]), Path(sys.argv[2]))
    # Of this program alone: ru_maxrss remembers the process that was forked to start it.
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
    print(json.dumps({"complete": sorted(took), "refused": said, "peak_mib": peak}))


@pytest.mark.parametrize("corpus", [scans, pictures])
def test_every_bad_file_is_refused_in_bounded_memory_and_every_good_one_is_complete(
    tmp_path, corpus
):
    good = corpus(tmp_path / "data" / "images")
    command = [sys.executable, "-m", "tests.faults.test_corrupt_corpus"]
    done = subprocess.run(
        [*command, tmp_path / "data", tmp_path / "run"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["complete"]) == good
    files = {p.name for p in (tmp_path / "data" / "images").iterdir()}
    assert len(found["refused"]) == len(files) - len(good)
    unforeseen = [r for r in found["refused"].values() if "unexpected error" in r]
    assert not unforeseen
    assert found["peak_mib"] < MOST_MIB
    stores = {p.name for p in (tmp_path / "run" / "volumes").iterdir()}
    assert stores == {f"{case}.zarr" for case in good}


def test_a_listing_that_leads_out_of_its_folder_is_refused_case_by_case(tmp_path, make_msd):
    data = make_msd(tmp_path / "data")
    scan(tmp_path / "secret.nii.gz")
    listing = json.loads((tmp_path / "data" / "dataset.json").read_text())
    listing["training"] += [
        {"image": "../../secret.nii.gz", "label": "./labelsTr/liver_0.nii.gz"},
        {"image": "./imagesTr/../../secret.nii.gz", "label": "./labelsTr/liver_0.nii.gz"},
        {"image": str(tmp_path / "secret.nii.gz"), "label": "./labelsTr/liver_0.nii.gz"},
    ]
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(listing))
    run = tmp_path / "run"
    rows = ingest(
        data,
        IngestSettings(),
        ExecuteSettings(on="serial"),
        manifest=run / "manifest.jsonl",
        quarantine=run / "quarantine.jsonl",
        volumes=run / "volumes",
    )
    assert sum(row.status == "complete" for row in rows) == 4
    (refused,) = read_quarantine(run / "quarantine.jsonl")
    assert "secret" in refused.case


def test_links_in_circles_and_links_that_lead_out_are_not_followed(tmp_path):
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    scan(images / "good.nii.gz")
    scan(tmp_path / "secret.nii.gz")
    (images / "circle").symlink_to(tmp_path / "data")
    (images / "self.nii.gz").symlink_to(images / "self.nii.gz")
    (images / "secret.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    complete, refused = take_in(tmp_path / "data", tmp_path / "run")
    assert complete == {"good"}
    assert set(refused) == {"self", "secret"}
    assert "outside the dataset's folder" in refused["secret"]
