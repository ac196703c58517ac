from __future__ import annotations

from pathlib import Path

import pytest
from markupsafe import Markup

from browser import Browser
from foldwise.errors import FoldwiseError
from foldwise.report import page

EVIL = "<script>alert('x')</script>&\"</td>"
BARS = {
    "data": {"values": [{"a": EVIL, "b": 2}, {"a": "y", "b": 5}]},
    "mark": "bar",
    "encoding": {
        "x": {"field": "b", "type": "quantitative"},
        "y": {"field": "a", "type": "nominal"},
    },
    "height": 120,
}


def build(*parts: Markup, data: object = None) -> str:
    section = page.Section("One part", Markup("").join(parts))
    return page.render("A page", "made up", [section], data=data)


def test_every_text_is_escaped() -> None:
    parts = [
        page.paragraph(EVIL),
        page.facts({EVIL: EVIL}),
        page.code(EVIL),
        page.details(EVIL, page.heading(EVIL)),
        page.table(EVIL, [EVIL, "n"], [[EVIL, 1]]),
        page.chart(BARS, EVIL),
    ]
    made = build(*parts, data={EVIL: EVIL})
    assert "alert('x')" in made.replace("&#39;", "'")
    assert "<script>alert" not in made
    assert '"</td>' not in made


def test_numbers_that_are_not_finite_become_null_and_dashes() -> None:
    assert page.json_inside([float("nan"), 1.0]) == "[null,1.0]"
    assert '<td class="number" data-value="">-</td>' in page.table("t", ["a"], [[float("nan")]])


def test_numbers_are_shown_with_three_digits_and_sorted_whole() -> None:
    made = page.table("t", ["a", "b"], [["x", 0.123456], ["y", 1234567]])
    assert '<td class="number" data-value="0.123456">0.123</td>' in made
    assert '<td class="number" data-value="1234567">1,234,567</td>' in made


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page.txt", "the file's name must end in .html"),
        ("no/page.html", "there is no folder"),
        ("mine.html", "is there already and isn't a page that foldwise made; choose another name"),
    ],
)
def test_a_place_that_will_not_do_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    with pytest.raises(FoldwiseError, match=message):
        page.check_page(tmp_path / name)


def test_a_page_of_ours_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    page.write_page(path, build())
    page.check_page(path)


def test_a_heading_sorts_its_table_and_charts_are_drawn(tmp_path: Path, browser: Browser) -> None:
    rows = [["b", 2.0], ["a", None], ["c", 10.0]]
    path = tmp_path / "page.html"
    path.write_text(build(page.table("t", ["name", "score"], rows), page.chart(BARS, "bars")))

    def column() -> list[str]:
        return [cell.text for cell in browser.find_all("tbody td:first-child")]

    browser.open(path)
    by_name, by_score = browser.find_all("th button")
    by_score.click()
    assert column() == ["c", "b", "a"]  # numbers from the largest, what isn't known last
    by_score.click()
    assert column() == ["b", "c", "a"]
    by_name.click()
    assert column() == ["a", "b", "c"]
    assert [th.get_attribute("aria-sort") for th in browser.find_all("th")] == ["ascending", "none"]
    assert browser.charts_without_marks() == 0
    assert browser.errors() == []


def test_a_chart_that_cannot_be_drawn_says_so(tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "page.html"
    path.write_text(build(page.chart({"mark": "no such mark"}, "broken")))
    browser.open(path)
    assert "can't be drawn" in browser.find(".canvas").text
    assert browser.errors() != []
