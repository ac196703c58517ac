from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from rich.console import Console

from eda.tables import clean
from foldwise.config.load import dump_config, load_config
from foldwise.eda.findings import as_config
from foldwise.report.eda_terminal import eda_tables

Looking = Callable[..., Any]


def troubled() -> pl.DataFrame:
    """A table in which nearly everything is wrong that a config can do something about."""
    frame = clean()
    rng = np.random.default_rng(5)
    twins = frame[:40].with_columns((pl.col("text") + " again").alias("text"))
    rare = clean(4, seed=9).with_columns(pl.Series("label", ["grey", "grey", "pink", "pink"]))
    frame = pl.concat([frame, twins, rare])
    return frame.with_columns(
        pl.when(pl.col("label") == "red").then(None).otherwise("shop").alias("shop"),
        ("code: " + pl.col("label")).alias("co'de: #1"),
        pl.lit("1").alias("price"),
        pl.Series("customer", [f"c{i}" for i in rng.integers(100, size=len(frame))]),
        pl.when(pl.int_range(len(frame)) == 7).then(None).otherwise("label").alias("label"),
    )


def look_at_trouble(look: Looking) -> Any:
    return look(
        troubled(),
        data={"categorical": ["shop", "co'de: #1", "id"], "missing": {"categorical": "drop"}},
        folds={"n": 5, "duplicates": "ignore"},
        text={"max_length": 16},
        loss={"name": "cross_entropy", "class_weights": "none"},
    )


def test_every_suggestion_can_be_pasted_into_the_config(look: Looking, tmp_path: Path) -> None:
    found, kinds = look_at_trouble(look)
    changes = [c for findings in kinds.values() for f in findings for c in f.changes]
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(found.rows.config), encoding="utf-8")
    for i, change in enumerate(changes):
        pasted = tmp_path / f"pasted-{i}.yaml"
        pasted.write_text(f"extends: config.yaml\n{change.yaml}\n", encoding="utf-8")
        loaded = load_config(pasted)
        assert loaded != found.rows.config
        for section, values in change.config.items():
            dumped = loaded.model_dump()[section]
            for key, value in values.items():
                held = dumped[key]
                assert held == value or value.items() <= held.items()
    keys = {
        (section, key)
        for change in changes
        for section, values in change.config.items()
        for key in values
    }
    assert keys == {
        ("data", "categorical"),
        ("data", "missing"),
        ("data", "numeric"),
        ("data", "rare_classes"),
        ("folds", "duplicates"),
        ("folds", "group"),
        ("loss", "class_weights"),
        ("text", "max_length"),
        ("text", "long"),
    }


def test_what_goes_together_is_a_config_of_its_own(look: Looking, tmp_path: Path) -> None:
    found, kinds = look_at_trouble(look)
    findings = [finding for part in kinds.values() for finding in part]
    (tmp_path / "config.yaml").write_text(dump_config(found.rows.config), encoding="utf-8")
    combined = as_config(findings, found.rows.config, "config.yaml")
    (tmp_path / "better.yaml").write_text(combined, encoding="utf-8")
    config = load_config(tmp_path / "better.yaml")
    assert config.run.name == "test-eda"
    assert config.data.categorical == ["shop"]  # both others are taken out
    assert config.data.numeric == []
    assert config.data.missing.target == "drop"
    assert config.folds.duplicates == "near"
    assert config.text.max_length > 16
    assert config.text.long == "truncate"  # offered instead of a larger max_length, not with it


def test_nothing_to_change_is_no_config(look: Looking) -> None:
    found, kinds = look(clean())
    assert kinds == {}
    assert as_config([], found.rows.config, "config.yaml") == ""


def test_the_reason_stands_above_as_a_comment(look: Looking) -> None:
    _, kinds = look(clean(), text={"max_length": 24})
    lines = kinds["length"][0].changes[0].yaml.splitlines()
    assert lines[0].startswith("# 100% of the inputs fit in 64 tokens, ")
    assert yaml.safe_load("\n".join(lines)) == {"text": {"max_length": 64}}


def test_a_change_that_would_not_load_is_not_suggested(look: Looking) -> None:
    # Without its last column the fusion that reads columns would have none: text takes over.
    frame = clean().with_columns(pl.col("label").alias("shop"))
    _, kinds = look(
        frame, data={"categorical": ["shop"], "numeric": []}, model={"fusion": "concat"}
    )
    (change,) = kinds["leak"][0].changes
    assert change.config == {"data": {"categorical": []}, "model": {"fusion": {"name": "text"}}}
    with_sizes = {"fusion": "concat", "tabular": {"categorical": {"max_size": 3}}}
    _, kinds = look(frame, data={"categorical": ["shop"], "numeric": []}, model=with_sizes)
    assert kinds["leak"][0].changes == ()


def test_of_very_many_columns_the_terminal_lists_those_of_the_config_first(look: Looking) -> None:
    many = {f"extra{i}": [f"{i % 7}"] * 24 for i in range(230)}
    rows = {"text": [f"a text of its own number{i}" for i in range(24)], "label": ["a", "b"] * 12}
    frame = pl.DataFrame({**many, **rows, "shop": ["x", "y"] * 12, "price": ["1", "2"] * 12})
    found, _ = look(frame)
    console = Console(width=120, record=True, file=StringIO())
    console.print(*eda_tables(found, []))
    told = console.export_text()
    assert all(name in told for name in ("text ", "label ", "shop ", "price "))
    assert "extra195" in told
    assert "extra196" not in told
    assert "34 more columns are in the page" in told
