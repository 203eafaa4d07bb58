"""The server of stores: what it gives to foreign clients, and what it keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
import zarr
from zarr.storage import FsspecStore

from pipeline.io.mask_store import MaskSpec, MaskStore, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.space import Grid, voxel_grid
from pipeline.view import StoreServer, mask_layer, neuroglancer_link, programs, vizarr_link

SCRIPT = "<script>alert(1)</script>"
CLASSES = (LabelClass(0, "background", True), LabelClass(1, SCRIPT))
SHAPE = (4700, 4700)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask in two shards, of which most chunks have no data and are therefore not stored."""
    path = tmp_path_factory.mktemp("stores") / "patient_7.zarr"
    labels = np.random.default_rng(0).integers(0, 2, SHAPE, np.uint8)
    labels[:, 600:] = 255
    writer = MaskWriter.create(path, MaskSpec(voxel_grid(labels.shape), CLASSES, "key", {}))
    for window in mask_windows(labels.shape, "uint8"):
        writer.write(window, labels[window.slices])
    writer.finish()
    return path


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[StoreServer]:
    """A server of that store."""
    with StoreServer({"mask.zarr": store}) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server: StoreServer) -> Iterator[httpx.Client]:
    """A client whose addresses begin at the store."""
    with httpx.Client(base_url=server.url("mask.zarr")) as client:
        yield client


def test_zarr_reads_over_http_what_it_reads_from_the_disk(server: StoreServer, store: Path) -> None:
    root = zarr.open_group(FsspecStore.from_url(server.url("mask.zarr")), mode="r")
    local = zarr.open_group(store, mode="r")

    assert root.attrs["segflow"] == local.attrs["segflow"]
    for window in (np.s_[:, 500:1100], np.s_[4000:, 4000:]):
        np.testing.assert_array_equal(root["0/mask"][window], local["0/mask"][window])
    np.testing.assert_array_equal(root["0/y"][:], local["0/y"][:])


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=5-", 5, None), ("bytes=-100", -100, None), ("bytes=7-7", 7, 8)],
)
def test_a_range_is_answered_with_these_bytes(client, store, asked, start, stop) -> None:
    content = (store / "0/mask/c/0/0").read_bytes()
    found = client.get("0/mask/c/0/0", headers={"Range": asked})

    assert (found.status_code, found.content) == (206, content[start:stop])
    first = content.index(found.content) if len(found.content) > 50 else range(len(content))[start]
    last = first + len(found.content) - 1
    assert found.headers["Content-Range"] == f"bytes {first}-{last}/{len(content)}"


def test_a_range_behind_the_end_is_refused(client, store) -> None:
    size = (store / "zarr.json").stat().st_size
    found = client.get("zarr.json", headers={"Range": f"bytes={size}-"})

    assert (found.status_code, found.headers["Content-Range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "items=0-1", "bytes=-", "bytes=9-3", "bytes"])
def test_what_is_no_single_range_is_answered_with_the_whole(client, store, asked) -> None:
    found = client.get("zarr.json", headers={"Range": asked})

    assert (found.status_code, found.content) == (200, (store / "zarr.json").read_bytes())


def test_head_tells_the_size_and_sends_nothing(client, store) -> None:
    found = client.head("0/mask/c/0/0")

    assert (found.status_code, found.content) == (200, b"")
    assert int(found.headers["Content-Length"]) == (store / "0/mask/c/0/0").stat().st_size
    assert found.headers["Accept-Ranges"] == "bytes"


def test_a_page_of_any_origin_that_knows_the_address_may_read(client) -> None:
    asked = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"}
    asked |= {"Access-Control-Request-Headers": "range"}
    asked |= {"Access-Control-Request-Private-Network": "true"}
    allowed = client.options("0/mask/c/0/0", headers=asked)

    assert allowed.status_code == 204
    assert "Range" in allowed.headers["Access-Control-Allow-Headers"]
    assert allowed.headers["Access-Control-Allow-Private-Network"] == "true"
    for path in ("zarr.json", "0/mask/c/7/7"):  # of an absent chunk too: a browser hides it else
        found = client.get(path, headers={"Origin": "https://viewer.example"})
        assert found.headers["Access-Control-Allow-Origin"] == "*"
        assert "Content-Range" in found.headers["Access-Control-Expose-Headers"]


def test_an_absent_chunk_is_not_found_and_the_connection_stays(client) -> None:
    assert client.get("0/mask/c/7/7").status_code == 404
    assert client.get("zarr.json").status_code == 200


def raw(server: StoreServer, target: str) -> int:
    """Status of a target that is sent as it stands, unlike any client would."""
    import socket

    with socket.create_connection(("127.0.0.1", server.server_port), 10) as connection:
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        return int(connection.recv(100).split()[1])


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "0/../../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "..%5csecret.txt",
        "%00",
        "/etc/passwd",
        "//etc/passwd",
        "outside.txt",
        "outside/secret.txt",
        ".hidden",
        "0",
        "0/",
        "",
    ],
)
def test_no_path_leaves_the_store(tmp_path: Path, path: str) -> None:
    store = tmp_path / "a.zarr"
    (store / "0").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (store / "outside.txt").symlink_to(tmp_path / "secret.txt")
    (store / "outside").symlink_to(tmp_path)
    (store / ".hidden").write_text("secret")
    with StoreServer({"a.zarr": store}) as server:
        assert server.find(f"/{server.secret}/a.zarr/{path}") is None


def test_hostile_targets_are_answered_with_not_found(server: StoreServer) -> None:
    for path in ("../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "zarr.json%00", "zarr%"):
        assert raw(server, f"/{server.secret}/mask.zarr/{path}") == 404


def test_nobody_reads_without_the_secret_or_from_elsewhere(server: StoreServer) -> None:
    for target in ("/mask.zarr/zarr.json", "/wrong/mask.zarr/zarr.json", "/", "*", "/ä/b/c"):
        assert server.find(target) is None
    assert server.server_address[0] == "127.0.0.1"
    assert httpx.post(server.url("mask.zarr") + "/zarr.json").status_code == 501
    for host, status in (("localhost:9999", 200), ("rebound.example", 404), ("", 404)):
        told = httpx.get(server.url("mask.zarr") + "/zarr.json", headers={"Host": host})
        assert told.status_code == status


def test_a_link_is_followed_once_so_that_a_view_stays_on_its_version(tmp_path: Path) -> None:
    for version in ("v0001", "v0002"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "zarr.json").write_text(version)
    current = tmp_path / "current"
    current.symlink_to("v0001")
    with StoreServer({"a.zarr": current}) as server:
        current.unlink()
        current.symlink_to("v0002")
        found = server.find(f"/{server.secret}/a.zarr/zarr.json")

    assert found is not None and found.read_text() == "v0001"


# Links


def layers(store: Path, grid: Grid | None = None) -> list:
    """The mask's layer, as it would be on another grid."""
    from dataclasses import replace

    layer = mask_layer(MaskStore(store), "mask.zarr")
    return [layer if grid is None else replace(layer, grid=grid)]


def test_neuroglancer_is_told_source_colours_and_size_of_voxels(store: Path) -> None:
    affine = ((0.0, 0.0, 0.5, 0.0), (0.0, 0.5, 0.0, 0.0), (2.0, 0.0, 0.0, 0.0), (0, 0, 0, 1.0))
    grid = Grid((40, 50, 60), affine, "millimeter")
    link = neuroglancer_link(layers(store, grid), lambda path: f"http://127.0.0.1:1/s/{path}")
    state = json.loads(unquote(link.partition("#!")[2]))

    assert state["dimensions"] == {"x": [0.0005, "m"], "y": [0.0005, "m"], "z": [0.002, "m"]}
    assert state["position"] == [30, 25, 20]
    (layer,) = state["layers"]
    assert layer["source"] == "http://127.0.0.1:1/s/mask.zarr/|zarr3:"
    assert (layer["type"], layer["segments"]) == ("segmentation", ["1"])
    assert layer["segmentColors"] == {"1": "#e69f00"}


def test_links_name_neither_case_nor_class(store: Path) -> None:
    found = layers(store)
    links = [make(found, lambda path: path) for make in (neuroglancer_link, vizarr_link)]

    assert not any("patient" in unquote(link) or "script" in unquote(link) for link in links)


def test_programs_are_told_what_fits_the_mask(store: Path) -> None:
    address = "http://127.0.0.1:1/s/{}".format
    flat = dict(programs(layers(store), address, "a b.zarr"))
    grid = Grid(
        SHAPE, ((0.0, 10.0, 0.0), (-10.0, 0.0, 0.0), (0.0, 0.0, 1.0)), "meter", "EPSG:32633"
    )
    scene = dict(programs(layers(store, grid), address, "a b.zarr"))
    scan = dict(programs(layers(store, voxel_grid((4, 5, 6))), address, "a b.zarr"))

    assert flat == {"napari": "napari --plugin napari-ome-zarr http://127.0.0.1:1/s/mask.zarr"}
    assert scene["QGIS"] == "segflow export 'a b.zarr' mask.tif --to cog && qgis mask.tif"
    assert scan["ITK-SNAP"].startswith("segflow export 'a b.zarr' mask.nii.gz --to nifti && itk")
