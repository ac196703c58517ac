"""The page of explained rows, from values: hostile cells, narrow windows, numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from browser import Browser
from foldwise.explanation.credit import Credit
from foldwise.explanation.explained import (
    ColumnEffect,
    Explained,
    Explanation,
    Importance,
    Removal,
    Share,
)
from foldwise.explanation.words import words_in
from foldwise.report.explain_page import explanation_page, passed_in_words

HOSTILE = '</script><script>document.title="owned"</script>\u202e<img src=x>\x00' + "w" * 300


def explained(of: str | None, value: float, **changes: Any) -> Explained:
    text = f"fee charged {HOSTILE} again"
    words = words_in("text", text, 100)
    values = np.linspace(1, -1, len(words))
    credit = Credit(words, values, np.arange(len(words)) < 4, 0.0, [], 0)
    given: dict[str, Any] = {
        "row": 3,
        "of": of,
        "value": value,
        "prediction": value if of is None else of,
        "target": None if of is None else HOSTILE,
        "probabilities": {} if of is None else {of: value, HOSTILE: 1 - value},
        "texts": {"text": text, "title": None},
        "credit": credit,
        "members": [Share("model", 0.5, 0.7, 1.5), Share("linear", 0.3, 0.2, -0.5)],
        "columns": [ColumnEffect("kind" + HOSTILE, HOSTILE, 0.4, 0.1, 0.6)],
        "removal": Removal(("fee",), 0.1, 0.02, 0.1, 0.08),
    }
    return Explained(**{**given, **changes})


def test_nothing_in_a_cell_runs_or_widens_the_page(browser: Browser, tmp_path: Path) -> None:
    rows = [explained("loan", 0.8), explained(HOSTILE, 0.6)]
    worth = [Importance("kind" + HOSTILE, 0.2, 0.1, 0.3)]
    page = tmp_path / "why.html"
    found = Explanation(rows, worth, "f1_macro", 40)
    page.write_text(explanation_page(found, "run", "the model", [HOSTILE]), encoding="utf-8")
    for width in (1200, 390):
        browser.open(page, width=width, dark=width == 390)
        assert browser.errors() == []
        assert browser.driver.title == "Why run answers so"
        assert browser.overflow() <= 0
    assert browser.find_all("img") == []
    assert len(browser.find_all("article.explained")) == 2
    assert "[U+202E]" in browser.find(".explained .text").text
    shades = browser.find_all(".explained mark.for.named")
    assert [mark.text for mark in shades] == ["fee", "fee"]


def test_a_column_that_decides_is_said_and_the_check_counted() -> None:
    rows = [explained("loan", 0.8), explained("loan", 0.9, row=4, removal=None)]
    html = explanation_page(Explanation(rows, [], None, 0), "run", "the model", ())
    assert "In 1 of 1 checked rows (100%) removing the named words moves the answer more" in html
    assert "Without them the answer goes from 0.800 to 0.700, without random words to 0.780" in html
    assert "A column moves it more than twice as much as all words together." in html
    assert "be checked: too few words, or none that speaks for the answer." in html
    assert Explanation(rows, [], None, 0).as_json()["deletion_test"] == {
        "tested": 1,
        "untested": 1,
        "passed_share": 1.0,
        "passed_share_of_shades": 1.0,
    }


def test_several_labels_of_a_row_are_counted_as_labels() -> None:
    rows = [explained("loan", 0.8), explained("card", 0.9)]
    assert passed_in_words(Explanation(rows, [], None, 0)).startswith(
        "in 2 of 2 checked labels of rows (100%) "
    )


def test_a_number_has_no_probability() -> None:
    html = explanation_page(
        Explanation([explained(None, 1234.5)], [], None, 0), "run", "the model", ()
    )
    assert "Row 3: 1234" in html
    assert "raises the number" in html
    assert "Without them the answer moves by 0.1, without random words by 0.02" in html
    assert "Probabilities" not in html
