"""Words, where they stand, texts without them, and hostile texts as HTML."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.explanation.credit import Credit
from foldwise.explanation.words import Word, without, word_at, words_in
from foldwise.report.shaded import SHOWN, shaded, visible


def credit_of(words: list[Word], values: list[float]) -> Credit:
    return Credit(words, np.array(values), np.ones(len(words), dtype=bool), 0.0, [], 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("They don't pay, EVER.", ["They", "don't", "pay", "EVER"]),
        ("good \U0001f600\U0001f600!", ["good", "\U0001f600", "\U0001f600"]),
        ("\u4fe1\u7528\u5361 ok", ["\u4fe1", "\u7528", "\u5361", "ok"]),
        ("\x00a\x00b \u202ec", ["a", "b", "c"]),
        ("-- ... !!", []),
        ("x" * 130, ["x" * 60, "x" * 60, "x" * 10]),
    ],
)
def test_words_are_found_in_any_script(text: str, expected: list[str]) -> None:
    assert [word.text for word in words_in("text", text, 100)] == expected


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_a_word_is_the_text_at_its_place_and_all_of_it_goes_when_removed(text: str) -> None:
    words = words_in("text", text, 100)
    assert [text[word.start : word.end] for word in words] == [word.text for word in words]
    left = without(text, words)
    assert len(left) == len(text) - sum(len(word.text) for word in words)
    assert without(text, []) == text


def test_a_token_belongs_to_the_first_word_that_it_shares_a_character_with() -> None:
    words = words_in("text", "pay late fees", 9)
    assert [word_at(words, *span) for span in [(0, 2), (2, 3), (3, 8), (8, 9), (9, 20)]] == [
        *(0, 0, 1),
        *(None, 2),
    ]


def test_hostile_texts_are_shown_and_do_nothing() -> None:
    text = '<script>alert(1)</script> \u202egnp\x00 & "x" <img src=x onerror=y>'
    words = words_in("text", text, 100)
    html = str(shaded("text", text, credit_of(words, [1.0] * len(words))))
    assert "<script" not in html
    assert "<img" not in html
    assert "\u202e" not in html
    assert "\x00" not in html
    assert "[U+202E]" in html
    assert "[U+0000]" in html
    assert '&lt;<mark class="for" style="--a:1.00" title="+1">script</mark>&gt;' in html


def test_joined_emoji_and_line_breaks_stay_as_they_are() -> None:
    text = "\U0001f468\u200d\U0001f469\u200d\U0001f467\r\nok\ttab"
    assert visible(text) == text


def test_a_text_of_a_million_characters_is_cut_and_says_so() -> None:
    text = "word " * 200_000
    words = words_in("text", text, 4_000)
    html = str(shaded("text", text, credit_of(words, [1.0] * len(words))))
    assert len(html) < 100 * SHOWN
    assert "and 997,000 more characters" in html
