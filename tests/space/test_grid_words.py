"""What separates two grids is told part by part, in voxels and in the world's unit."""

import numpy as np
import pytest

from pipeline.space import Grid, voxel_grid
from pipeline.space.grid import as_affine

SHAPE = (10, 20, 30)


def scan(spacing=(3.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), turned=0.0, flip=1.0):
    z, y, x = spacing
    angle = np.deg2rad(turned)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = np.fliplr(turn @ np.diag([x * flip, y, z]))
    matrix[:3, 3] = origin
    return Grid(SHAPE, as_affine(matrix), "millimeter")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            scan(origin=(0, 0, 6)),
            "its corners lie up to 2 voxels (6 mm) away: its origin is moved by 6 mm",
        ),
        (
            scan(spacing=(2.5, 1, 1)),
            "its corners lie up to 1.67 voxels (5 mm) away: its spacing is 2.5 × 1 × 1 mm instead "
            "of 3 × 1 × 1 mm",
        ),
        (
            scan(turned=5),
            "its corners lie up to 2.61 voxels (3.15 mm) away: its axes are turned by 5°",
        ),
        (
            scan(flip=-1, origin=(29, 0, 0)),
            "its corners lie up to 31 voxels (31 mm) away: its axes run LAS instead of RAS, its "
            "origin is moved by 29 mm",
        ),
    ],
)
def test_each_part_that_differs_is_told_by_itself(other, words):
    assert scan().difference(other) == words


def test_lengths_without_a_unit_are_told_in_voxels_alone():
    here = voxel_grid((4, 4))
    there = Grid((4, 4), as_affine([[0, 1, 2], [1, 0, 0], [0, 0, 1]]))
    assert here.difference(there) == (
        "its corners lie up to 2 voxels away: its origin is moved by 2"
    )


def test_a_scene_is_measured_in_its_own_unit():
    affine = [[0, 10, 500], [-10, 0, 900], [0, 0, 1]]
    here = Grid((4, 4), as_affine(affine), "meter", "EPSG:32633", "corner")
    moved = Grid((4, 4), as_affine([[0, 10, 505], *affine[1:]]), "meter", "EPSG:32633", "corner")
    assert here.difference(moved) == (
        "its corners lie up to 0.5 voxels (5 m) away: its origin is moved by 5 m"
    )


@pytest.mark.parametrize(
    ("grid", "orientation"),
    [
        (scan(), "RAS"),
        (scan(flip=-1, turned=20), "LAS"),
        (scan(turned=90), "ALS"),
        (voxel_grid((4, 4)), None),
        (Grid((4, 4), as_affine([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), "meter", "EPSG:1"), "ES"),
    ],
)
def test_a_grid_tells_where_its_axes_run(grid, orientation):
    assert grid.orientation == orientation
