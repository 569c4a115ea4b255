"""A document as a page (HTML) and as a summary (Markdown): fills this package's templates.

Everything that a model, a data file or a person wrote is text: an HTML template escapes on its own, a
Markdown template passes each value through the filter `md`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.document import Document, Where, shown_in
from harness.storage.disk import write_whole

UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def render(
    template: str,
    context: Mapping[str, Any],
    *,
    html: bool,
) -> bytes:
    """The filled template as UTF-8. A name that `context` lacks raises; nothing is left blank in silence."""
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=html,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown_text
    return environment.get_template(template).render(**context).encode("utf-8")


def html_page(document: Document) -> bytes:
    """One file that loads nothing and runs no script but our own, which it can do without."""
    script = files("harness.report").joinpath("templates/page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    ours = {"script": Markup(script), "script_hash": f"sha256-{digest}"}
    return render("document.html.j2", _context(document, Where.PAGE) | ours, html=True)


def markdown_page(document: Document) -> bytes:
    return render("document.md.j2", _context(document, Where.SUMMARY), html=False)


def write_pages(document: Document, folder: Path, page: str) -> Path:
    """Write summary.md and the page into a results folder; the page's path."""
    write_whole(folder / "summary.md", markdown_page(document))
    return write_whole(folder / page, html_page(document))


def _context(document: Document, where: Where) -> dict[str, Any]:
    """The sections that have anything to show there."""
    shown = partial(shown_in, where)
    return {
        "document": document,
        "shown": shown,
        "models": document.models(),
        "sections": [section for section in document.sections if shown(section.parts)],
    }


def markdown_text(value: object) -> str:
    """One line of Markdown that shows `value` as it is: no markup, no HTML, no table break."""
    line = " ".join(str(value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~#!$])", r"\\\1", line)


def svg_source(svg: bytes) -> str:
    """A picture for the `src` of an image in a page that loads nothing."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def _visible(value: object) -> object:
    """Control characters and overrides of the text's direction, which could hide or turn text, as U+FFFD."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return UNSEEN.sub("\ufffd", value)
    return value
