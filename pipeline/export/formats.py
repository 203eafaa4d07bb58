"""The formats there are, and who writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipeline.export.case import Export

FormatName = Literal[
    "nifti", "mha", "nrrd", "dicomseg", "cog", "ometiff", "geojson", "gpkg", "png", "csv"
]
Writer = Callable[[Export], None]


@dataclass(frozen=True)
class Format:
    """A format of files."""

    suffixes: tuple[str, ...]
    """What its files' names end with; the first where none is given."""
    about: str
    """What it is, in a line."""


FORMATS: dict[FormatName, Format] = {
    "nifti": Format((".nii.gz", ".nii"), "NIfTI on the source's own grid, names in a sidecar"),
    "mha": Format((".mha",), "MetaImage, compressed"),
    "nrrd": Format((".seg.nrrd", ".nrrd"), "NRRD with the segments of 3D Slicer"),
    "dicomseg": Format((".dcm",), "DICOM Segmentation that refers to the source series"),
    "cog": Format((".tif", ".tiff"), "Cloud Optimized GeoTIFF"),
    "ometiff": Format((".ome.tif", ".ome.tiff"), "OME-TIFF"),
    "geojson": Format((".geojson", ".json"), "polygons, as GeoJSON"),
    "gpkg": Format((".gpkg",), "polygons, as GeoPackage"),
    "png": Format((".png",), "the mask laid over its image"),
    "csv": Format((".csv",), "a table of objects"),
}


def writer_of(name: FormatName) -> Writer:
    """The function that writes a format; its library is imported here and not before."""
    match name:
        case "nifti":
            from pipeline.export import nifti

            return nifti.write
        case "mha":
            from pipeline.export import metaimage

            return metaimage.write
        case "nrrd":
            from pipeline.export import nrrd

            return nrrd.write
        case "dicomseg":
            from pipeline.export import dicom_seg

            return dicom_seg.write
        case "cog":
            from pipeline.export import geotiff

            return geotiff.write
        case "ometiff":
            from pipeline.export import ometiff

            return ometiff.write
        case "geojson":
            from pipeline.export import geojson

            return geojson.write
        case "gpkg":
            from pipeline.export import geopackage

            return geopackage.write
        case "png":
            from pipeline.export import overlays

            return overlays.write
        case "csv":
            from pipeline.export import objects_table

            return objects_table.write
