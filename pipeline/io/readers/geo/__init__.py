"""Scenes: rasters with rasterio, polygons with pyogrio, and what moves between grids."""
