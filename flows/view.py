"""Serve a mask with its image, and tell how viewers open them."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from flows.console import COMPLETE, Console
from pipeline.errors import SettingsError, StoreError
from pipeline.io.companion_store import ObjectStore, ProbabilityStore
from pipeline.io.mask_store import KIND as MASK
from pipeline.io.mask_store import MaskStore
from pipeline.io.store import published_attributes, published_key
from pipeline.io.volume_store import KIND as VOLUME
from pipeline.io.volume_store import VolumeStore
from pipeline.view import (
    Layer,
    StoreServer,
    companion_layer,
    image_layer,
    mask_layer,
    neuroglancer_link,
    programs,
    truth_layers,
    vizarr_link,
)

UPWARDS = 5
"""Folders above a mask in which its run is looked for."""


@dataclass
class Shown:
    """What is served and shown."""

    layers: list[Layer] = field(default_factory=list)
    """The lowest first."""
    stores: dict[str, Path] = field(default_factory=dict)
    """Folders by the name under which they are served."""

    def volume(self, store: VolumeStore) -> None:
        """Show an image, its truth above it."""
        self.stores["image.zarr"] = store.path
        self.layers += [image_layer(store, "image.zarr"), *truth_layers(store, "image.zarr")]

    def mask(self, store: MaskStore) -> None:
        """Show a mask, and what stands beside it; the truth would hide it."""
        self.layers = [replace(x, visible=x.name != "truth") for x in self.layers]
        self.stores["mask.zarr"] = store.path
        self.layers.append(mask_layer(store, "mask.zarr"))
        for kind in (ProbabilityStore, ObjectStore):
            path = store.path.parent / kind.kind / store.path.name
            if published_key(path) == store.key:
                self.stores[f"{kind.kind}.zarr"] = path
                self.layers.append(companion_layer(kind(path), f"{kind.kind}.zarr"))


def view(place: Path, image: Path | None, port: int, open_browser: bool, console: Console) -> None:
    """Serve a store until Ctrl-C; say how to look at it.

    Raises:
        SettingsError: The store is none that can be shown, or the port is taken.
    """
    shown = gather(place, image, console)
    try:
        server = StoreServer(shown.stores, port)
    except OSError as error:
        raise SettingsError(f"--port {port} cannot be used ({error.strerror})") from error
    with server:
        link = _tell(shown, server, place, console)
        if open_browser:
            webbrowser.open(link)
        console.announce("serving until Ctrl-C, on this machine alone")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.end(COMPLETE, "complete: the server has stopped")


def gather(place: Path, image: Path | None, console: Console) -> Shown:
    """What there is to show of a volume store, or of a mask store and its image.

    Raises:
        SettingsError: The store is of another kind, or not finished, or the image is of another
            grid.
    """
    shown, kind = Shown(), published_attributes(place).get("kind")
    if kind == VOLUME:
        shown.volume(VolumeStore(place))
        return shown
    if kind != MASK:
        met = f"a store of {kind}" if kind else "no finished store of segflow"
        raise SettingsError(f"{place} is {met}: give a mask store or a volume store")
    mask = MaskStore(place)
    volume = find_volume(mask) if image is None else _chosen(image, mask)
    if volume is not None:
        shown.volume(volume)
    else:
        console.line("note: the mask's image was not found, name its volume store with --image")
    shown.mask(mask)
    return shown


def _chosen(image: Path, mask: MaskStore) -> VolumeStore:
    """The volume that was named.

    Raises:
        SettingsError: It is no volume store, or the mask lies elsewhere.
    """
    try:
        volume = VolumeStore(image)
    except StoreError as error:
        raise SettingsError(f"--image: {error}") from error
    if difference := mask.grid.difference(volume.grid):
        raise SettingsError(f"--image {image} is not the mask's: {difference}")
    return volume


def find_volume(mask: MaskStore) -> VolumeStore | None:
    """The volume store that a mask was made from, where its run still has it."""
    for folder in _volume_folders(mask.path.absolute()):
        path = folder / mask.path.name
        if published_key(path) == mask.attributes["volume"]:
            return VolumeStore(path)
    return None


def _volume_folders(mask: Path) -> Iterator[Path]:
    """Where the volume stores of a mask's run may lie."""
    for folder in mask.parents[:UPWARDS]:
        yield from (folder / "volumes", folder / "inputs")
        if (folder / "run.yaml").is_file():
            from pipeline.run import load_settings  # brings torch along

            try:
                yield load_settings(folder / "run.yaml").dir.volumes
            except SettingsError:
                continue  # of an earlier segflow: its volumes may lie beside it all the same


def _tell(shown: Shown, server: StoreServer, place: Path, console: Console) -> str:
    """Print links and commands; give the link."""

    def address(path: str) -> str:
        name, _, rest = path.partition("/")
        return server.url(name) + (f"/{rest}" if rest else "")

    link = neuroglancer_link(shown.layers, address)
    found = [("Neuroglancer", link), ("Vizarr", vizarr_link(shown.layers, server.url))]
    found += programs(shown.layers, server.url, str(place))
    for layer in shown.layers:
        console.line(f"{layer.name}: {address(layer.path)}")
    for name, text in found:
        # A viewer's page is loaded from its own host; what it shows is not sent there.
        host = f" (loads the viewer from {urlsplit(text).hostname})" if "://" in text[:9] else ""
        console.line(f"\n{name}{host}:\n  {text}")
    console.result |= {
        "layers": {layer.name: address(layer.path) for layer in shown.layers},
        "viewers": dict(found),
    }
    return link
