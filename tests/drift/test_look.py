"""Tables that drift and tables that don't: what is found, what is left alone, what it is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import make_table
from foldwise.config.schema import Config
from foldwise.drift import sides as sides_room
from foldwise.drift.classifier import tell_apart
from foldwise.drift.look import Drift, compare_answers, find_drift
from foldwise.drift.measures import Check, Part
from foldwise.drift.sides import New, Training, read_new, set_against
from foldwise.drift.words import as_json, headline, remarks, sentence, shortened
from foldwise.members.boosting import Boosting
from foldwise.members.member import Columns
from foldwise.parts.usercode import UserCode
from foldwise.table.chunks import open_rows
from foldwise.tasks.task import TargetTask

NO_TEXT = SimpleNamespace(columns=[])


@pytest.fixture
def config(make_config: Callable[..., Config]) -> Config:
    """Of a table with a text, a category and a number; identical texts are one observation."""
    return make_config(data={"categorical": ["kind"], "numeric": ["amount"]})


def table(rows: int, seed: int) -> pl.DataFrame:
    """Rows whose texts are all different."""
    frame = make_table(rows, seed).with_row_index("row").cast({"row": pl.Int64})
    text = pl.col("text") + pl.lit(f" r{seed}x") + pl.col("row").cast(pl.String)
    return frame.with_columns(text, amount=pl.col("amount").cast(pl.Float64))


def compared(before: pl.DataFrame, after: pl.DataFrame, config: Config) -> Drift:
    sides = set_against(Training(before, "", (0, before.height)), New(after, after.height), config)
    answers = [answered(part) for part in (sides.training, sides.new) if part is not None]
    return find_drift(sides, answers[1], answers[0], config, NO_TEXT)


def answered(rows: pl.DataFrame) -> pl.DataFrame:
    sure = np.random.default_rng(rows.height).uniform(0.5, 1, rows.height)
    return pl.DataFrame({"prediction": rows["label"], "prob_a": sure, "prob_b": 1 - sure})


def found(drift: Drift) -> dict[tuple[str, str | None], float]:
    return {(check.kind, check.column): check.size for check in drift.found}


def test_rows_of_the_same_source_have_not_drifted(config: Config) -> None:
    drift = compared(table(300, 0), table(200, 1), config)
    assert drift.found == []
    assert (
        headline(drift)
        == f"No drift: none of {len(drift.tested)} comparisons differs by more than chance."
    )
    assert as_json(drift)["drift"] is False


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": pl.lit("new <b>")}, {("values", "kind"), ("unseen", "kind")}),
        ({"amount": pl.col("amount") + 0.7}, {("numbers", "amount")}),
        ({"amount": pl.col("amount") + 100}, {("numbers", "amount"), ("range", "amount")}),
        ({"amount": pl.lit(None, pl.Float64)}, {("missing", "amount")}),
        ({"text": pl.col("text") + " covid lockdown"}, {("words", "text")}),
        ({"label": pl.lit("card")}, {("classes", None)}),
    ],
)
def test_what_was_changed_is_what_is_found(
    config: Config, change: dict[str, Any], expected: set[tuple[str, str | None]]
) -> None:
    drift = compared(table(300, 0), table(200, 1).with_columns(**change), config)
    assert {key for key in found(drift) if key[0] != "classifier"} == expected
    if "label" not in change and change.keys() != {"amount"}:
        assert ("classifier", None) in found(drift)
    assert headline(drift).startswith("Drift: ")


def test_what_gives_new_rows_away_is_named(config: Config) -> None:
    after = table(200, 1).with_columns(pl.col("text") + " covid")
    drift = compared(table(300, 0), after, config)
    assert drift.apart is not None
    assert drift.apart.auc > 0.99
    assert next(iter(drift.apart.by_column)) == "text"
    first = drift.apart.by_value[0]
    assert (first.name, first.training, first.new) == ("text: covid", 0, pytest.approx(1))


def test_a_real_difference_that_is_tiny_is_no_drift(config: Config) -> None:
    sides = compared(table(60, 0), table(40, 1), config).sides
    part = (Part("median", 1.0, 1.1),)
    tiny = Check("numbers", "amount", 0.03, 1e-9, part, percent=False, adjusted=1e-8)
    large = Check("numbers", "amount", 0.3, 0.2, part, percent=False, adjusted=0.2)
    drift = Drift(sides, (tiny, large), None)
    assert (drift.found, drift.size) == ([], 0)
    assert headline(drift) == (
        "No drift to speak of: 1 of 2 comparisons differ by more than chance, none of them in 5% "
        "of the rows or more."
    )


def test_near_duplicates_count_once_and_twins_of_training_rows_are_left_out(
    config: Config,
) -> None:
    before = table(100, 0)
    after = pl.concat([before.head(30), *[table(10, 1)] * 5])
    after = after.with_columns(row=pl.int_range(after.height, dtype=pl.Int64))
    sides = set_against(Training(before, "", (0, 100)), New(after, 80), config)
    assert (sides.rows, sides.twins, sides.copies) == (80, 30, 40)
    assert sides.new.height == 10
    assert sides.training is not None
    assert sides.training.height == 70
    assert not set(sides.training["row"]) & set(range(30))


def test_the_training_table_itself_leaves_nothing_to_compare(config: Config) -> None:
    before = table(100, 0)
    drift = compared(before, before, config)
    assert headline(drift).startswith("Nothing could be compared")
    assert any("100 of 100 new rows are near-duplicates" in line for line in remarks(drift))


def test_rows_that_training_would_drop_are_a_finding(config: Config) -> None:
    after = table(100, 1).with_columns(
        text=pl.when(pl.col("row") < 40).then(None).otherwise(pl.col("text"))
    )
    drift = compared(table(300, 0), after, config)
    assert found(drift)[("dropped", None)] == pytest.approx(0.4, abs=0.05)
    everything = compared(table(300, 0), after.with_columns(text=pl.lit(None, pl.String)), config)
    assert found(everything)[("dropped", None)] > 0.9


def test_large_tables_are_drawn_from_and_it_is_said(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides_room, "MOST", 50)
    table(120, 1).drop("row").write_csv(tmp_path / "new.csv")
    opened = open_rows(config.data.model_copy(update={"path": str(tmp_path / "new.csv")}))
    new = read_new(opened, seed=0)
    assert new.frame.height == 50
    assert read_new(opened, seed=0).frame.equals(new.frame)
    sides = set_against(Training(table(200, 0), "", (0, 200)), new, config)
    drift = find_drift(sides, None, None, config, NO_TEXT)
    assert remarks(drift)[0].startswith("50 of 120 new rows and 50 of 200 training rows were drawn")


def test_absent_columns_are_empty_and_unreadable_cells_left_out(
    config: Config, tmp_path: Path
) -> None:
    later = table(60, 1).drop("row", "kind").with_columns(pl.col("amount").cast(pl.String))
    odd = pl.when(pl.int_range(pl.len()) < 4).then(pl.lit("a lot")).otherwise(pl.col("amount"))
    later.with_columns(amount=odd).write_csv(tmp_path / "new.csv")
    opened = open_rows(config.data.model_copy(update={"path": str(tmp_path / "new.csv")}))
    assert "has no column 'kind'" in opened.notes[-1]
    sides = set_against(Training(table(200, 0), "", (0, 200)), read_new(opened, seed=0), config)
    drift = find_drift(sides, None, None, config, NO_TEXT)
    assert (sides.rows, sides.unreadable, sides.new.height) == (60, 4, 56)
    assert found(drift)[("missing", "kind")] > 0.9


def test_one_row_is_no_drift(config: Config) -> None:
    drift = compared(table(300, 0), table(1, 1), config)
    assert drift.found == []
    assert drift.apart is None
    assert "too few rows for a classifier to learn from: 1 new ones" in remarks(drift)


def test_trees_tell_rows_without_text_apart_by_what_moved() -> None:
    random = np.random.default_rng(0)
    before = pl.DataFrame({"a": random.normal(size=400), "b": random.normal(size=400)})
    after = pl.DataFrame({"a": random.normal(size=300), "b": 2 * random.normal(size=300)})
    apart = tell_apart(before, after, Columns((), (), ("a", "b")), seed=0)
    assert apart is not None
    assert apart.kind == "boosted trees"
    assert apart.p < 0.001  # a spread, which no linear model sees
    assert next(iter(apart.by_column)) == "b"
    assert apart.low < apart.auc < apart.high


def test_no_row_is_scored_by_what_it_had_a_part_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, scored = set[float](), set[float]()
    fit, predict = Boosting.fit, Boosting.predict

    def fits(self: Boosting, rows: pl.DataFrame, *rest: Any) -> None:
        fitted.update(rows["a"])
        fit(self, rows, *rest)

    def predicts(self: Boosting, rows: pl.DataFrame) -> Any:
        scored.update(rows["a"])
        return predict(self, rows)

    monkeypatch.setattr(Boosting, "fit", fits)
    monkeypatch.setattr(Boosting, "predict", predicts)
    rows = pl.DataFrame({"a": np.arange(100.0)})
    assert tell_apart(rows[:60], rows[60:], Columns((), (), ("a",)), seed=0) is not None
    assert not fitted & scored
    assert (len(fitted), len(scored)) == (50, 50)


def test_without_training_rows_the_answers_are_compared(config: Config) -> None:
    sides = set_against(Training(None, "table.csv: no such file"), New(table(100, 1), 100), config)
    before = answered(table(300, 0))
    drift = find_drift(sides, answered(sides.new), before, config, NO_TEXT)
    assert {check.kind for check in drift.checks} == {"classes", "confidence"}
    assert "table.csv: no such file" in remarks(drift)[0]


def test_names_lose_line_breaks_and_control_characters(config: Config) -> None:
    name = "a\nb\x1b[31m\u202e" + "x" * 60
    assert shortened(name).isprintable()
    assert len(shortened(name)) == 40
    after = table(200, 1).with_columns(kind=pl.lit(name))
    drift = compared(table(300, 0), after, config)
    assert all(sentence(check).isprintable() for check in drift.checks)


def test_predicted_numbers_and_sets_of_labels_are_compared_too(
    make_config: Callable[..., Config],
) -> None:
    random = np.random.default_rng(0)
    numbers = [pl.DataFrame({"prediction": random.normal(mean, 1, 300)}) for mean in (0, 1)]
    (check,) = compare_answers(numbers[0], numbers[1], NO_TEXT)
    assert (check.kind, check.p < 1e-6) == ("predictions", True)

    config = make_config(task="multilabel", data={"separator": ";"}, metrics=["f1_macro"])
    task = TargetTask(config, UserCode([]))
    task.load_state({"target": {"classes": ["a", "b"]}, "rows": {}})
    sides = []
    for share in (0.2, 0.6):
        likely = np.where(random.random((300, 2)) < [0.5, share], 0.9, 0.1)
        sides.append(pl.DataFrame(task.from_probabilities(likely)))
    classes, confidence = compare_answers(sides[0], sides[1], task)
    assert classes.parts[0].name == "b"
    assert classes.parts[0].new == pytest.approx(0.6, abs=0.08)
    assert classes.p < 1e-6
    assert confidence.p > 0.05
