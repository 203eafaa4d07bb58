"""The page: ``page.html``, and what it includes, filled with the report's values."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from pipeline.report.words import capital, count, counted, dice, number


def html(page: Mapping[str, Any]) -> str:
    """The report as one page that needs no network.

    Args:
        page: Values of all sections.
    """
    environment = Environment(
        loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined
    )
    words = {"dice": dice, "number": number, "count": count, "counted": counted}
    environment.filters.update(words, capital=capital, csp_source=_csp_source, json=_json)
    return environment.get_template("page.html").render(page)


def _template(name: str) -> str:
    return files("pipeline.report").joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """A value as JSON without blanks; what the template escapes on its way into an attribute."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _csp_source(script: str) -> str:
    """What lets this script run and no other, were one ever to slip into the page."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
