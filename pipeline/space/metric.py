"""How long a degree is on Earth."""

from __future__ import annotations

from math import cos, radians


def degree_lengths(latitude: float) -> tuple[float, float]:
    """Metres of a degree of longitude and of a degree of latitude, on WGS 84.

    The series of the National Geospatial-Intelligence Agency, good to a centimetre.

    Example:
        >>> [round(metres) for metres in degree_lengths(45.0)]
        [78847, 111132]
    """
    phi = radians(latitude)
    east = 111412.84 * cos(phi) - 93.5 * cos(3 * phi) + 0.118 * cos(5 * phi)
    north = 111132.954 - 559.822 * cos(2 * phi) + 1.175 * cos(4 * phi)
    return east, north
