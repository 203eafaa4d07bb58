"""GeoPackage: polygons in the scene's own CRS; of a picture without one, in pixels."""

from __future__ import annotations

import warnings

import numpy as np
import pyogrio.raw
import shapely

from pipeline.export.case import Export
from pipeline.export.georeference import provenance
from pipeline.export.polygons import needs_regions, outlines_of, places, shapes, table

LAYER = "mask"


def write(export: Export) -> None:
    """Write the mask's regions as one layer of polygons.

    Raises:
        CaseError: The mask is a volume, or holds numbers.
    """
    needs_regions(export)
    for number, outlines in enumerate(outlines_of(export)):
        columns, rings = table(export, outlines), outlines.rings
        polygons = shapes(places(export, rings.corners), rings)
        with warnings.catch_warnings():
            # A picture has no system, and pyogrio wonders whether it was forgotten.
            warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
            pyogrio.raw.write(
                export.target,
                geometry=np.asarray(shapely.to_wkb(polygons), object),
                field_data=list(columns.values()),
                fields=list(columns),
                crs=export.grid.crs,
                geometry_type="Polygon",
                driver="GPKG",
                layer=LAYER,
                append=number > 0,
                layer_metadata=provenance(export) if number == 0 else None,
            )
