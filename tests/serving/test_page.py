"""The page that tries the model, in a real browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest

from browser import Browser
from foldwise.serving.rows import Column

from .conftest import count_words, explain_words, made, running

TOKEN = "a-token-of-24-characters"
HOSTILE = "<img src=x onerror=\"document.title='got in'\">"


@pytest.fixture
def page(browser: Browser) -> Iterator[Any]:
    """Open a server's page in a window of some width, in light or dark."""

    def open_page(address: str, width: int = 1200, dark: bool = False) -> Browser:
        browser.window(width, dark=dark)
        browser.errors()
        browser.driver.get(address)
        return browser

    yield open_page
    browser.driver.get("about:blank")


def fill(browser: Browser, number: int, text: str) -> None:
    field = browser.find(f"#field-{number}")
    field.clear()
    field.send_keys(text)


def bars(browser: Browser) -> list[str]:
    return [line.text.replace("\n", " ") for line in browser.find_all("#bars li")]


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_a_row_is_typed_predicted_and_explained(page: Any, width: int, dark: bool) -> None:
    from selenium.webdriver.common.keys import Keys

    with running(made()) as address:
        browser = page(address, width, dark)
        browser.wait("return document.activeElement.id === 'field-0'")
        fill(browser, 0, "one two \U0001f600 four")
        browser.find("#field-0").send_keys(Keys.CONTROL, Keys.ENTER)
        browser.wait("return document.querySelectorAll('#bars li').length === 2")
        assert browser.find("#said").text == "long"
        assert bars(browser) == ["long 66.7%", "short 33.3%"]
        assert not browser.find("#why").is_displayed()
        # By keyboard: past the fields and the first button, to the one that explains.
        for _ in range(4):
            browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        assert browser.driver.switch_to.active_element.get_attribute("id") == "explain"
        browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
        browser.wait("return document.querySelectorAll('.text mark').length === 4")
        words = [
            (mark.text, mark.get_attribute("class")) for mark in browser.find_all(".text mark")
        ]
        assert [word for word, _ in words] == ["one", "two", "\U0001f600", "four"]
        assert [kind.strip() for _, kind in words] == ["for", "for", "for", "against"]
        told = [table.text.split("\n") for table in browser.find_all("#reasons table")]
        assert told[0][:3] == ["Words that count most", "Word Adds to the margin", "one +1.00"]
        assert "kind empty +25.00" in told[1]
        assert told[2][-1] == "linear 0.50 +1.50"
        assert browser.overflow() == 0
        assert browser.errors() == []


def test_a_label_that_is_named_by_class_weights_is_told_to_be(page: Any) -> None:
    def label(rows: pl.DataFrame) -> pl.DataFrame:
        short = {"prediction": pl.lit("short"), "confidence": pl.col("prob_short")}
        return count_words(rows).with_columns(**short)

    weights = {"long": 1.0, "short": 4.0}
    with running(made(label, about={"class_weights": weights})) as address:
        browser = page(address)
        browser.wait("return document.querySelector('#field-0')")
        fill(browser, 0, "one two three four")
        browser.find("#predict").click()
        browser.wait("return document.querySelectorAll('#bars li').length === 2")
        assert browser.find("#said").text == "short"
        assert browser.find("#sure").text == "33.3%, the largest once rare classes weigh more"
        assert bars(browser) == ["long 66.7%", "short 33.3%"]
        assert browser.errors() == []


def test_names_and_texts_of_a_hostile_run_are_shown_as_they_are_written(page: Any) -> None:
    def label(rows: pl.DataFrame) -> pl.DataFrame:
        made = count_words(rows.rename({HOSTILE: "text"}))
        return made.select(
            pl.lit(HOSTILE).alias("prediction"),
            pl.col("prob_long").alias(f"prob_{HOSTILE}"),
            "prob_short",
        )

    columns = [Column(HOSTILE, "text"), Column("__proto__", "categorical")]
    known = {"name": "__proto__", "role": "categorical", "values": [HOSTILE]}
    about = {
        "run": HOSTILE,
        "columns": [{"name": HOSTILE, "role": "text"}, known],
        "classes": [HOSTILE, "short"],
    }
    with running(made(label, columns, about=about)) as address:
        browser = page(address)
        browser.wait("return document.querySelector('#field-0')")
        fill(browser, 0, HOSTILE)
        browser.find("#explain").click()
        browser.wait("return document.querySelectorAll('#reasons mark').length > 1")
        assert HOSTILE in browser.find("#reasons .text").text
        assert browser.find("#title").text == HOSTILE
        assert browser.find("#said").text == HOSTILE
        assert browser.find("#fields label").text == f"{HOSTILE} text"
        assert browser.find("#bars .name").text == HOSTILE
        assert browser.run("return document.images.length") == 0
        assert browser.run("return document.querySelector('option').value") == HOSTILE
        assert browser.driver.title != "got in"
        assert browser.errors() == []


def test_a_field_at_fault_is_marked_and_a_token_is_asked_for(page: Any) -> None:
    with running(made(token=TOKEN, characters=5)) as address:
        browser = page(address)
        browser.wait("return !document.querySelector('#entry').hidden")
        assert not browser.find("#row").is_displayed()
        browser.find("#token").send_keys("wrong")
        browser.find("#entry button").click()
        browser.wait("return !document.querySelector('#problem').hidden")
        assert browser.find("#problem").text == "This isn't the token."
        browser.find("#token").clear()
        browser.find("#token").send_keys(TOKEN)
        browser.find("#entry button").click()
        browser.wait("return document.querySelector('#field-1')")
        fill(browser, 1, "too long for it")
        browser.find("#predict").click()
        browser.wait("return document.querySelector('[aria-invalid]')")
        assert browser.find("[aria-invalid]").get_attribute("id") == "field-1"
        assert browser.find("#fault-1").text == "has 15 characters; at most 5 are read"
        assert not browser.find("#label").is_displayed()


def test_a_new_question_ends_the_explanation_of_the_last_and_a_server_may_not_explain(
    page: Any,
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(row: pl.DataFrame, between: Callable[[], object]) -> dict[str, Any]:
        if row["text"][0] != "one two":
            return explain_words(row, between)
        begun.set()
        try:
            while True:
                between()
                time.sleep(0.01)
        finally:
            ended.set()

    with running(made(explain=endless)) as address:
        browser = page(address)
        browser.wait("return document.querySelector('#field-0')")
        fill(browser, 0, "one two")
        browser.find("#explain").click()
        browser.wait("return document.querySelectorAll('#bars li').length === 2")
        assert begun.wait(10)
        assert browser.find("#lead").text == "Finding out why. It takes a few seconds."
        fill(browser, 0, "three")
        browser.find("#explain").click()
        browser.wait("return document.querySelectorAll('#reasons mark').length === 1")
        assert ended.wait(10)
        assert browser.find("#said").text == "short"
    why = "it needs a package"
    with running(made(explain=None, about={"unexplained": why})) as address:
        browser = page(address)
        browser.wait("return document.querySelector('#field-0')")
        assert not browser.find("#explain").is_displayed()
        assert browser.find("#hint").text.endswith(f"This server doesn't explain: {why}.")
