"""Numbers in words, one way for the whole report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime


def dice(value: float | None) -> str:
    """A share with four digits; a dash where there is none."""
    return "–" if value is None else f"{value:.4f}"


def number(value: float | None) -> str:
    """A measured number with four digits that count; a dash where there is none.

    Example:
        >>> number(1234.5), number(0.000123456), number(None)
        ('1234', '0.0001235', '–')
    """
    return "–" if value is None else f"{value:.4g}"


def measure(value: float | None) -> str:
    """A length or a volume, so that a column of them lines up; a dash where there is none.

    Example:
        >>> measure(12345.6), measure(12.345), measure(1.2), measure(-0.5), measure(0.00012)
        ('12,346', '12.3', '1.20', '-0.500', '0.00012')
    """
    if value is None:
        return "–"
    size = abs(value)
    if 0 < size < 0.1:
        return f"{value:.3g}"
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"


def count(value: float | None) -> str:
    """A whole number; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def counted(value: int, one: str, many: str = "") -> str:
    """A number of things.

    Args:
        value: How many.
        one: The thing's name.
        many: Its plural; empty: with an s.

    Example:
        >>> counted(1, "case"), counted(1200, "patch", "patches")
        ('1 case', '1,200 patches')
    """
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def times(sizes: Sequence[float] | str | None, digits: int = 6) -> str:
    """Sizes along axes; a word stays as it is.

    Example:
        >>> times((64, 32)), times((0.123456, 3), digits=3), times(None)
        ('64 × 32', '0.123 × 3', '–')
    """
    if not isinstance(sizes, list | tuple):
        return "–" if sizes is None else str(sizes)
    return " × ".join(f"{n:.{digits}g}" for n in sizes)


def memory(value: float) -> str:
    """Bytes, 1024 to the step.

    Example:
        >>> memory(1000), memory(2**29)
        ('1000 bytes', '512.0 MiB')
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit in ("bytes", "KiB") else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    """A length of time in the two largest units that matter.

    Example:
        >>> duration(12.5), duration(600), duration(9000)
        ('12.5 s', '10 min', '2 h 30 min')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def when(moment: str) -> str:
    """A moment that a person reads; in UTC, for a page is read anywhere.

    Args:
        moment: ISO 8601, with its offset.

    Example:
        >>> when("2026-11-22T09:31:17+01:00")
        'Sun 22 Nov 2026, 08:31 UTC'
    """
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%a %d %b %Y, %H:%M} UTC"


def day(moment: str) -> str:
    """Its day, in UTC.

    Example:
        >>> day("2026-11-22T08:31:17+00:00")
        '22 Nov 2026'
    """
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%d %b %Y}"


def capital(text: str) -> str:
    """A sentence with its first letter large.

    Example:
        >>> capital("failed: UNet"), capital("")
        ('Failed: UNet', '')
    """
    return text[:1].upper() + text[1:]
