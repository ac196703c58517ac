from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from eda.tables import clean

Looking = Callable[..., Any]


def test_a_clean_table_has_no_finding(look: Looking) -> None:
    found, kinds = look(clean())
    assert kinds == {}
    assert found.twins.near.n_groups_multi == 0
    assert [power.verdict for power in found.leaks.powers] == ["", "", "", ""]


def test_a_duplicated_block_is_named_with_its_rows(look: Looking) -> None:
    frame = clean()
    frame = pl.concat([frame, frame[100:160]])
    _, kinds = look(frame)
    (block,) = kinds["repeated block"]
    assert block.says == (
        "Rows 400 to 459 repeat rows 100 to 159 in every column that the config uses: the table "
        "was joined with a part of itself."
    )
    (duplicates,) = kinds["duplicates"]
    assert "120 rows (26.1%) are near-duplicates of another, in 60 groups of up to 2" in (
        duplicates.says
    )


@pytest.mark.parametrize("used", [True, False])
def test_a_copy_of_the_target_is_found_whether_it_is_used_or_not(look: Looking, used: bool) -> None:
    frame = clean()
    codes = {"red": "k7", "green": "k2", "blue": "k9"}
    frame = frame.with_columns(pl.col("label").replace(codes).alias("code"))
    found, kinds = look(frame, data={"categorical": ["shop", *(["code"] if used else [])]})
    (leak,) = kinds["leak"]
    assert leak.level == "warning"
    assert leak.says.startswith("'code' copies the target")
    assert ("used as categorical" if used else "not used by the config") in leak.says
    first = found.leaks.powers[0]
    assert (first.column, first.scores) == ("code", {"accuracy": 1.0, "f1_macro": 1.0})
    assert [change.config for change in leak.changes] == (
        [{"data": {"categorical": ["shop"]}}] if used else []
    )


def test_a_number_that_tells_the_class_is_found_by_the_tree(look: Looking) -> None:
    frame = clean()
    rng = np.random.default_rng(1)
    middle = frame["label"].replace_strict({"red": 0.0, "green": 10.0, "blue": 20.0})
    frame = frame.with_columns((middle + rng.normal(size=len(frame))).alias("price"))
    found, kinds = look(frame)
    assert "'price'" in kinds["leak"][0].says
    assert found.leaks.powers[0].method == "tree"


def test_texts_cut_by_an_export_are_found(look: Looking) -> None:
    frame = clean().with_columns(pl.col("text").str.slice(0, 100))
    rows = int((frame["text"].str.len_chars() == 100).sum())
    _, kinds = look(frame)
    (cut,) = kinds["cut texts"]
    assert cut.says.startswith(f"{rows} values of 'text' ({rows / 400:.1%}) end at exactly 100 ")


def test_a_table_with_an_emptied_tail_is_found(look: Looking) -> None:
    frame = clean().with_row_index("i")
    late = pl.col("i") >= 360
    frame = frame.with_columns(
        pl.when(late).then(None).otherwise(pl.col(name)).alias(name) for name in ("shop", "price")
    ).drop("i")
    _, kinds = look(frame)
    assert [finding.says.split(" of the table")[0] for finding in kinds["cut table"]] == [
        "'shop' is empty in the last 40 rows",
        "'price' is empty in the last 40 rows",
    ]


def ending_in(frame: pl.DataFrame, path: Path, cut: Callable[[str], str]) -> Path:
    path.write_text(cut(frame.write_csv()), encoding="utf-8")
    return path


def test_a_last_line_that_breaks_off_in_a_word_is_found(look: Looking, tmp_path: Path) -> None:
    frame = clean()
    path = ending_in(frame, tmp_path / "cut.csv", lambda text: text.rstrip("\n")[:-2])
    word, whole = frame["label"][-1][:-2], frame["label"][-1]
    _, kinds = look(path, data={"rare_classes": "drop"})
    (cut,) = kinds["cut table"]
    assert cut.says == (
        f"The file {path} ends with {word!r} in 'label', the beginning of {whole!r}, and no line "
        "break: its end is cut off. Copy or export it again."
    )


def test_a_file_that_ends_inside_quotes_is_found(look: Looking, tmp_path: Path) -> None:
    frame = clean().select("id", "shop", "price", "label", "text")
    row = '00400,east,20.00,red,"and then they'
    path = ending_in(frame, tmp_path / "cut.csv", lambda text: text + row)
    _, kinds = look(path)
    assert [finding.says for finding in kinds["cut table"]] == [
        f"The file {path} ends inside a quoted cell: the quotes of its last row are never closed: "
        "its end is cut off. Copy or export it again."
    ]


def test_a_missing_last_line_break_alone_is_no_finding(look: Looking, tmp_path: Path) -> None:
    path = ending_in(clean(), tmp_path / "whole.csv", lambda text: text.rstrip("\n"))
    assert look(path)[1] == {}


def test_near_duplicates_that_disagree_are_found(look: Looking) -> None:
    frame = clean()
    twins = frame[:20].with_columns(
        (pl.col("text") + " again").alias("text"),
        pl.col("label").replace({"red": "green", "green": "blue", "blue": "red"}),
    )
    found, kinds = look(pl.concat([frame, twins]))
    (disagreement,) = kinds["disagreement"]
    assert disagreement.level == "warning"
    assert disagreement.says.startswith(
        "20 of 20 groups of near-duplicates disagree on 'label' (0 of them identical texts); 20 "
        "rows differ"
    )
    assert sorted(found.twins.examples[0].answers.values()) == [1, 1]


def test_near_duplicates_that_agree_are_no_disagreement(look: Looking) -> None:
    frame = clean()
    twins = frame[:20].with_columns((pl.col("text") + " again").alias("text"))
    _, kinds = look(pl.concat([frame, twins]), folds={"duplicates": "identical"})
    assert set(kinds) == {"duplicates"}
    (change,) = kinds["duplicates"][0].changes
    assert change.config == {"folds": {"duplicates": "near"}}


def test_empty_cells_that_go_with_the_class_are_found(look: Looking) -> None:
    frame = clean().with_columns(
        pl.when(pl.col("label") == "red").then(None).otherwise("shop").alias("shop")
    )
    found, kinds = look(frame)
    assert kinds["empty cells"][0].says.startswith(
        "Whether 'shop' is empty tells the target: Cramér's V 1.00, "
    )
    assert found.missing[0].by_class == {"red": 1.0, "green": 0.0, "blue": 0.0}


def test_empty_cells_at_random_are_no_finding(look: Looking) -> None:
    rng = np.random.default_rng(2)
    hole = pl.Series(rng.random(400) < 0.2)
    frame = clean().with_columns(pl.when(hole).then(None).otherwise("price").alias("price"))
    assert look(frame)[1] == {}


def test_rare_classes_are_counted_in_groups(look: Looking) -> None:
    frame = clean()
    text = frame["text"][0]
    rare = pl.concat([frame[:1]] * 4).with_columns(pl.lit("grey").alias("label"))
    rare = rare.with_columns(pl.lit("fresh " + text).alias("text"))
    found, kinds = look(pl.concat([frame[1:], rare]))
    assert [(entry.label, entry.rows, entry.groups) for entry in found.target.rare] == [
        ("grey", 4, 1)
    ]
    assert kinds["rare classes"][0].says == (
        "One class has fewer distinct groups of rows than there are folds (3) and would stop the "
        "run: 'grey' (1)."
    )
    assert found.target.ratio == max(entry.rows for entry in found.target.classes) / 4


def test_a_column_of_one_value_and_one_that_names_rows_are_found(look: Looking) -> None:
    frame = clean().with_columns(pl.lit("always").alias("shop"))
    _, kinds = look(frame, data={"categorical": ["shop", "id"]})
    assert [finding.says for finding in kinds["column"]] == [
        "'id' is listed as categorical, but 400 of its 400 values are different: it names rows.",
        "'shop' has one value only ('always'): nothing to learn.",
    ]


def test_a_customer_that_comes_back_is_found(look: Looking) -> None:
    rng = np.random.default_rng(3)
    frame = clean().with_columns(
        pl.Series("customer_id", [f"c{i}" for i in rng.integers(100, size=400)])
    )
    _, kinds = look(frame)
    (group,) = kinds["group"]
    assert group.changes[0].config == {"folds": {"group": "customer_id"}}
    assert look(frame, folds={"group": "customer_id"})[1] == {}


def test_longer_inputs_than_max_length_are_found(look: Looking) -> None:
    found, kinds = look(clean(), text={"max_length": 24})
    share = float((found.tokens.lengths > 24).mean())
    (length,) = kinds["length"]
    assert length.says == (
        f"{share:.1%} of the inputs are longer than text.max_length (24 tokens) and lose their end."
    )
    assert length.changes[0].config == {"text": {"max_length": 64}}


def test_columns_that_cannot_be_read_only_stand_aside(look: Looking, tmp_path: Path) -> None:
    frame = clean().with_columns(pl.lit(b"bytes").alias("blob"))
    frame.write_parquet(tmp_path / "table.parquet")
    found, kinds = look(tmp_path / "table.parquet")
    assert "blob" not in found.rows.columns
    assert kinds["column"][0].says == (
        "'blob', which the config doesn't use, was left out: "
        f"{tmp_path / 'table.parquet'}: column 'blob' holds Binary: convert it to strings"
    )
