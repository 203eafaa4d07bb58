"""The page: ``page.html`` filled with the report's values."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from pipeline.report.words import count, counted, dice


def html(page: Mapping[str, Any]) -> str:
    """The report as one page that needs no network.

    Args:
        page: Values of all sections.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters.update(dice=dice, count=count, counted=counted, csp_source=_csp_source)
    source = files("pipeline.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(page)


def _csp_source(script: str) -> str:
    """What lets this script run and no other, were one ever to slip into the page."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
