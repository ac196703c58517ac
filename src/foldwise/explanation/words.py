"""The words of a text, where they stand in it, and the text without some of them.

In: a cell's text. Out: spans of characters. Whatever is said of a text is said of its words, so
tokens, which are pieces of words in one tokenizer and pairs of words in another, are brought to
these spans. Scripts that write no spaces count a character as a word; punctuation is no word.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_NO_SPACES = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LONGEST = 60  # characters of a word: a longer run without a space is several
_WORD = re.compile(
    rf"[{_NO_SPACES}]"
    rf"|[^\W{_NO_SPACES}](?:[^\W{_NO_SPACES}]|['\u2019](?=\w)){{0,{_LONGEST - 1}}}"
    # Signs that carry a meaning, such as emoji; the rest are of punctuation.
    r"|[^\w\s\x00-\x7f\x80-\xbf\u2000-\u206f\u3000-\u303f\ufe00-\ufe0f\uff00-\uff0f]"
)


@dataclass(frozen=True)
class Word:
    """A word in a row.

    Attributes:
        column: whose cell it stands in.
        start: its first character in the cell.
        end: behind its last.
        text: as it stands there.
    """

    column: str
    start: int
    end: int
    text: str

    @property
    def kind(self) -> str:
        """What occurrences of the same word have in common."""
        return self.text.casefold()


def words_in(column: str, text: str, most: int) -> list[Word]:
    """Find the first words of a text.

    Args:
        column: whose cell it is.
        text: of the cell.
        most: words to find.
    """
    found: list[Word] = []
    for match in _WORD.finditer(text):
        if len(found) == most:
            break
        found.append(Word(column, match.start(), match.end(), match.group()))
    return found


def without(text: str, words: Collection[Word]) -> str:
    """Return a text without words of it; what stood around them stays."""
    parts, at = [], 0
    for word in sorted(words, key=lambda word: word.start):
        parts.append(text[at : word.start])
        at = word.end
    return "".join([*parts, text[at:]])


def word_at(words: Sequence[Word], start: int, end: int) -> int | None:
    """Return the place of the first word that shares a character with a span.

    Args:
        words: of one cell, in its order.
        start: of the span.
        end: of the span.
    """
    place = bisect_right(words, start, key=lambda word: word.end)
    return place if place < len(words) and words[place].start < end else None
