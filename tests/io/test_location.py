"""Paths and URLs: an object store serves as source and as place of the stores."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from s3fs import S3FileSystem

from pipeline.errors import SettingsError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, ingest
from pipeline.io.location import is_remote, locate, sha256_of, walk_all
from pipeline.io.volume_store import VolumeStore
from pipeline.space import Window


@pytest.fixture(scope="module")
def s3():
    """Start an S3 server on the loopback and give its bucket's URL; credentials by environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wanted = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "night",
        "AWS_SECRET_ACCESS_KEY": "shift",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    # s3fs keeps the connection that another test has made.
    S3FileSystem.clear_instance_cache()
    _answers(address)
    bucket = locate("s3://scans")
    bucket.mkdir()
    yield "s3://scans"
    process.terminate()
    process.wait(10)
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})


def _answers(address: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"no S3 server answers at {address}")


def upload(folder: Path, url: str) -> None:
    for file in walk_all(folder):
        (locate(url) / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())


def take_in(data, folder: Path, store: str, execute: ExecuteSettings):
    return ingest(
        data,
        IngestSettings(),
        execute,
        manifest=folder / "manifest.jsonl",
        quarantine=folder / "quarantine.jsonl",
        volumes=locate(store),
    )


@pytest.mark.parametrize("on", ["serial", "local"])
def test_a_dataset_on_an_object_store_becomes_stores_on_it(tmp_path, s3, make_msd, on):
    here = make_msd(tmp_path / "data")
    upload(tmp_path / "data", f"{s3}/{on}/data")
    there = here.model_copy(update={"root": f"{s3}/{on}/data"})
    # A cluster of its own: workers of an earlier test's were started without the server's key.
    execute = ExecuteSettings(on=on, workers=2, memory_gb=2)
    local = take_in(here, tmp_path / "a", str(tmp_path / "a" / "volumes"), execute)
    remote = take_in(there, tmp_path / "b", f"{s3}/{on}/volumes", execute)
    assert [row.status for row in remote] == ["complete"] * 4
    assert [row.key for row in remote] == [row.key for row in local]
    whole = Window.whole((7, 11, 9))
    for row in remote:
        one = VolumeStore(locate(f"{s3}/{on}/volumes") / row.store)
        other = VolumeStore(tmp_path / "a" / "volumes" / row.store)
        np.testing.assert_array_equal(one.read(whole).array, other.read(whole).array)
        np.testing.assert_array_equal(one.read_truth(whole), other.read_truth(whole))
        assert one.statistics == other.statistics


def test_a_second_ingest_from_an_object_store_does_nothing_and_a_changed_object_is_met(
    tmp_path, s3, make_msd
):
    here = make_msd(tmp_path / "data")
    upload(tmp_path / "data", f"{s3}/again/data")
    data = here.model_copy(update={"root": f"{s3}/again/data"})
    notes: list[str] = []

    def run():
        notes.clear()
        return ingest(
            data,
            IngestSettings(),
            ExecuteSettings(on="serial"),
            manifest=tmp_path / "manifest.jsonl",
            quarantine=tmp_path / "quarantine.jsonl",
            volumes=locate(f"{s3}/again/volumes"),
            progress=lambda *said: notes.append(said[-1]),
        )

    first = run()
    assert run() == first
    assert notes == ["4 unchanged"]
    other = (tmp_path / "data" / "imagesTr" / "liver_1.nii.gz").read_bytes()
    (locate(f"{s3}/again/data") / "imagesTr" / "liver_0.nii.gz").write_bytes(other)
    changed = run()
    assert notes == ["3 unchanged", "liver_0: changed, what was made from it is stale"]
    assert changed[0].key != first[0].key and changed[1:] == first[1:]


def test_no_unfinished_store_is_left_on_an_object_store(s3, tmp_path, make_msd):
    here = make_msd(tmp_path / "data", cases=2)
    (tmp_path / "data" / "imagesTr" / "liver_0.nii.gz").write_bytes(b"broken")
    upload(tmp_path / "data", f"{s3}/broken/data")
    data = here.model_copy(update={"root": f"{s3}/broken/data"})
    rows = take_in(data, tmp_path, f"{s3}/broken/volumes", ExecuteSettings(on="serial"))
    assert [row.status for row in rows] == ["quarantined", "complete"]
    left = {p.name for p in locate(f"{s3}/broken/volumes").iterdir()}
    assert left == {"liver_1.zarr"}


def test_credentials_in_a_url_are_refused():
    with pytest.raises(SettingsError, match=r"data.root carries credentials in its URL"):
        locate("s3://key:secret@bucket/folder", "data.root")


def test_an_unknown_file_system_is_refused():
    with pytest.raises(SettingsError, match=r"data.root: nowhere://x is of no file system"):
        locate("nowhere://x", "data.root")


def test_a_plain_path_stays_one(tmp_path):
    assert locate(str(tmp_path)) == tmp_path and not is_remote(locate(str(tmp_path)))


def test_the_sum_of_a_folder_follows_its_files_and_their_names(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x").write_bytes(b"1")
    first = sha256_of(tmp_path / "a")
    (tmp_path / "a" / "deep" / "x").rename(tmp_path / "a" / "deep" / "y")
    renamed = sha256_of(tmp_path / "a")
    (tmp_path / "a" / "deep" / "y").write_bytes(b"2")
    assert len({first, renamed, sha256_of(tmp_path / "a")}) == 3
