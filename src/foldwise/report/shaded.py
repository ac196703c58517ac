"""A text as HTML with its words shaded; whatever stands in it is shown, and does nothing.

Control characters and those that turn the direction of writing are written out, so that a cell
can't reorder what stands beside it; very long texts are cut.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from markupsafe import Markup

from foldwise.explanation.credit import Credit

SHOWN = 3_000  # characters of a cell
_LEAST = 0.12  # of the strongest word: what is weaker isn't shaded
_TURNS = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    """Write out the characters of a text that can't be seen or change how others are shown."""
    text = _TURNS.sub(lambda match: f"[U+{ord(match.group()):04X}]", text)
    return "".join(
        f"[U+{ord(sign):04X}]"
        if unicodedata.category(sign) == "Cc" and sign not in "\n\t\r"
        else sign
        for sign in text
    )


def label(value: float) -> str:
    """Write a probability or a number of any size."""
    return f"{value:.4g}"


def shaded(column: str, text: str, credit: Credit, named: Collection[str] = ()) -> Markup:
    """Shade the words of a cell.

    Args:
        column: whose cell it is.
        text: of the cell.
        credit: of the row's words, those of other cells too: they share the scale.
        named: words that are set in bold, in lower case.
    """
    strongest = float(abs(credit.values).max(initial=0.0)) or 1.0
    anything_read = bool(credit.read.any())
    parts: list[Markup] = []
    at, reading = 0, True
    for word, value, read in zip(credit.words, credit.values, credit.read, strict=True):
        if word.column != column:
            continue
        if word.end > SHOWN:
            break
        reading = bool(read) or not anything_read
        parts.append(_plain(text[at : word.start], reading))
        share = float(value) / strongest
        parts.append(_word(word.text, share, reading, value, word.kind in named))
        at = word.end
    parts.append(_plain(text[at:SHOWN], reading))
    if len(text) > SHOWN:
        more = f" ... and {len(text) - SHOWN:,} more characters"
        parts.append(Markup('<span class="note">{}</span>').format(more))
    return Markup("").join(parts)


def _plain(text: str, read: bool) -> Markup:
    if not text.strip() or read:
        return Markup("{}").format(visible(text))
    return Markup('<span class="unread">{}</span>').format(visible(text))


def _word(text: str, share: float, read: bool, value: float, named: bool) -> Markup:
    if abs(share) < _LEAST and not named:
        return _plain(text, read)
    kind = ("for" if share > 0 else "against") + " unread" * (not read) + " named" * named
    return Markup('<mark class="{}" style="--a:{:.2f}" title="{:+.3g}">{}</mark>').format(
        kind, abs(share), value, visible(text)
    )
