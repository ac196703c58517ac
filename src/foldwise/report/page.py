"""One HTML file that needs nothing else: sections of tables, charts and facts in, a page out.

The run's report, the look at a table and the comparison of runs share this frame. Styles, scripts
and the chart library lie inside the file, so it opens without a network, years later, from a mail.
All text goes through Jinja's escaping; JSON is written so that no text in it can end its script.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from foldwise.errors import FoldwiseError
from foldwise.run.files import finite, write_text
from foldwise.storage.outputs import fetch_output, send
from foldwise.storage.places import called

_MARK = "<!-- made by {} -->"
_SHORT = 12  # characters of a cell that stays on its line

Cell = str | int | float | None


@dataclass(frozen=True)
class Section:
    """A titled part of a page, with an entry in its navigation.

    Attributes:
        title: heading and navigation entry.
        body: what `table`, `chart`, `facts` and `paragraph` return, added up.
    """

    title: str
    body: Markup

    @property
    def anchor(self) -> str:
        """The section's id in the page."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def render(
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    script: str = "",
    data: Any = None,
    maker: str = "foldwise",
    *,
    charts: bool = True,
) -> str:
    """Build the page.

    Args:
        title: of the page and its window.
        subtitle: one line below it.
        sections: in order.
        script: JavaScript of this kind of page, run after the frame's own.
        data: what the script finds as `foldwiseData`; numbers that aren't finite become null.
        maker: stands in the first lines, where `check_page` looks for it.
        charts: whether `chart` was used, whose library is most of a page's size.
    """
    page: str = _template().render(
        mark=Markup(_MARK.format(maker)),
        title=title,
        subtitle=subtitle,
        sections=sections,
        css=Markup(_file("page.css")),
        library=Markup(_library() if charts else ""),
        frame_script=Markup(_file("page.js")),
        script=Markup(script),
        data=json_inside(data),
    )
    return page


def check_page(path: Path, maker: str = "foldwise") -> None:
    """Check that a page can be written here.

    Args:
        path: of the page.
        maker: as given to `render`: only a page of the same maker is replaced.

    Raises:
        FoldwiseError: another ending than .html, no such folder, or a file that isn't a page of
            ours, which is never overwritten.
    """
    if path.suffix != ".html":
        raise FoldwiseError(f"-o {called(path)}: the file's name must end in .html")
    if not path.parent.is_dir():
        raise FoldwiseError(f"-o {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise FoldwiseError(f"-o {path}: {path.parent} can't be written to")
    fetch_output(path)
    if path.exists() and not _is_ours(path, maker):
        raise FoldwiseError(
            f"-o {called(path)}: is there already and isn't a page that {maker} made; choose "
            "another name"
        )


def write_page(path: Path, page: str) -> None:
    """Write a page, whole or not at all."""
    write_text(path, page)
    send(path)


def paragraph(text: str, kind: str = "") -> Markup:
    """Build a paragraph; `kind` is note (small and grey), warning or lead."""
    return Markup('<p class="{}">{}</p>').format(kind, text)


def heading(text: str) -> Markup:
    """Build a heading inside a section."""
    return Markup("<h3>{}</h3>").format(text)


def facts(values: Mapping[str, object]) -> Markup:
    """Build a list of names and values."""
    entries = Markup("").join(
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value)
        for name, value in values.items()
    )
    return Markup('<dl class="facts">{}</dl>').format(entries)


def code(text: str) -> Markup:
    """Build a block of text in which every space counts."""
    return Markup('<pre tabindex="0">{}</pre>').format(text)


def details(summary: str, body: Markup) -> Markup:
    """Build a part that is folded away until it is asked for."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, body)


def table(
    caption: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[Cell | Markup]],
    *,
    sortable: bool = True,
    wide: Collection[int] = (),
) -> Markup:
    """Build a table; numbers are set right, sorted as numbers, and three digits are shown.

    Args:
        caption: says what it holds, to those who can't see it too.
        headings: one a column.
        rows: cells by row; None is shown as a dash.
        sortable: whether headings are buttons that sort.
        wide: columns of running text, which may take several lines.
    """
    numeric = {
        i
        for i in range(len(headings))
        if any(isinstance(row[i], int | float) for row in rows)
        and all(row[i] is None or isinstance(row[i], int | float) for row in rows)
    }
    head = Markup("").join(
        _heading(text, i in numeric, sortable) for i, text in enumerate(headings)
    )
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(_cell(cell, i in numeric, i in wide) for i, cell in enumerate(row))
        )
        for row in rows
    )
    return Markup(
        '<div class="scroll" role="region" tabindex="0" aria-label="{}"><table>'
        "<caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(caption, caption, head, body)


def chart(chart_or_spec: Any, description: str) -> Markup:
    """Build a chart that fills the page's width and follows light and dark.

    Args:
        chart_or_spec: an Altair chart (one view, or layers) or its Vega-Lite spec.
        description: what it shows, for those who can't see it.
    """
    given = chart_or_spec if isinstance(chart_or_spec, dict) else chart_or_spec.to_dict()
    spec = {**given, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    spec.pop("config", None)  # the page's own, by light and dark
    return Markup(
        '<figure class="chart"><div class="canvas" role="img" aria-label="{}"></div>'
        '<script type="application/json">{}</script><figcaption>{}</figcaption></figure>'
    ).format(description, json_inside(spec), description)


def script(name: str) -> str:
    """Return a JavaScript file of this folder, for `render`."""
    return _file(name)


def json_inside(value: Any) -> Markup:
    """Return a value as JSON that can stand inside a script element.

    `<`, `>` and `&` are written as escapes, so neither `</script>` nor `<!--` can occur.
    """
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _heading(text: str, numeric: bool, sortable: bool) -> Markup:
    kind = "number" if numeric else "text"
    if not sortable:
        return Markup('<th scope="col" class="{}">{}</th>').format(kind, text)
    return Markup(
        '<th scope="col" class="{}" aria-sort="none"><button type="button">{}</button></th>'
    ).format(kind, text)


def _cell(cell: Cell | Markup, numeric: bool, wide: bool) -> Markup:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return Markup('<td class="{}" data-value="">-</td>').format("number" if numeric else "")
    if numeric:
        return Markup('<td class="number" data-value="{}">{}</td>').format(cell, number(cell))
    short = isinstance(cell, str) and len(cell) <= _SHORT  # such as +0.016: not broken on a phone
    return Markup('<td class="{}">{}</td>').format(
        "wide" if wide else "short" if short else "", cell
    )


def number(value: Any) -> str:
    """Return a number as tables show it: whole ones with separators, others with three digits."""
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    return f"{value:.3f}" if size < 100 else f"{value:,.1f}" if size < 1e6 else f"{value:.2e}"


def _is_ours(path: Path, maker: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _MARK.format(maker).encode() in file.read(100)


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("foldwise", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


@cache
def _library() -> str:
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


__all__ = [
    "Section",
    "chart",
    "check_page",
    "code",
    "details",
    "escape",
    "facts",
    "heading",
    "json_inside",
    "number",
    "paragraph",
    "render",
    "script",
    "table",
    "write_page",
]
