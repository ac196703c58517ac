"""Folds: every row has one part in each fold, groups stay whole, rare classes go by the config."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run.files import write_parquet
from foldwise.split.assignment import SCHEMA, Assignment, read_assignment
from foldwise.split.folds import Labelled, assign_folds

pytestmark = pytest.mark.filterwarnings("ignore:The groups parameter is ignored")


def config(
    rare: str = "error", holdout: float | None = None, selection: str = "inner", **folds: Any
) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "test"},
            "data": {"path": "t.csv", "target": "label", "text": ["text"], "rare_classes": rare},
            "folds": {"n": 3, **folds},
            "holdout": None if holdout is None else {"fraction": holdout},
            "selection": {"rows": selection},
        }
    )


def labelled(labels: list[str], groups: list[int] | None = None) -> Labelled:
    size = len(labels)
    group = np.arange(size) if groups is None else np.array(groups)
    return Labelled(np.arange(size), np.array(labels, dtype=object), group)


def split(
    rows: Labelled, config: Config, splitter: Any = None, **columns: list[str | None]
) -> Assignment:
    frame = pl.DataFrame({"row": rows.row, **columns})
    return assign_folds(rows, config, frame, splitter)[0]


def message_of(rows: Labelled, config: Config, splitter: Any = None, **columns: Any) -> str:
    with pytest.raises(FoldwiseError) as caught:
        split(rows, config, splitter, **columns)
    return str(caught.value)


def unused(assignment: Assignment, fold: int) -> np.ndarray:
    return assignment.frame.filter(pl.col("unused_in").list.contains(fold))["row"].to_numpy()


def check_parts(assignment: Assignment, rows: Labelled) -> None:
    # Each kept row has exactly one part in each fold, and so has its group.
    kept = assignment.kept()
    for fold in range(1, assignment.n_folds + 1):
        parts = [
            assignment.training(fold),
            assignment.inner(fold),
            assignment.scored(fold),
            assignment.holdout(),
        ]
        assert np.sort(np.concatenate([*parts, unused(assignment, fold)])).tolist() == kept.tolist()
        assert all(len(part) for part in parts[:3:2])
        held = [set(rows.group[part]) for part in parts]
        assert sum(map(len, held)) == len(set.union(*held))


@st.composite
def tables(draw: st.DrawFn) -> Labelled:
    """2 to 4 classes of 12 lone rows each, and up to 20 rows of any class in 6 groups."""
    classes = draw(st.integers(2, 4))
    extra = draw(st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, 5)), max_size=20))
    labels = [f"c{i % classes}" for i in range(12 * classes)]
    groups = list(range(10, 10 + len(labels)))
    order = draw(st.permutations(range(len(labels) + len(extra))))
    labels += [f"c{code}" for code, _ in extra]
    groups += [group for _, group in extra]
    return labelled([labels[i] for i in order], [groups[i] for i in order])


@settings(max_examples=60, deadline=None)
@given(
    rows=tables(),
    n=st.integers(2, 4),
    repeats=st.integers(1, 2),
    strategy=st.sampled_from(["stratified", "kfold", "group", "stratified_group"]),
    holdout=st.sampled_from([None, 0.1, 0.2]),
    selection=st.sampled_from(["inner", "last"]),
    seed=st.integers(0, 99),
)
def test_each_row_and_group_has_one_part_in_each_fold(
    rows: Labelled,
    n: int,
    repeats: int,
    strategy: str,
    holdout: float | None,
    selection: str,
    seed: int,
) -> None:
    chosen = {"n": n, "repeats": repeats, "strategy": {"name": strategy}, "seed": seed}
    chosen |= {"group": "g"} if "group" in strategy else {}
    assignment = split(rows, config(holdout=holdout, selection=selection, **chosen))
    check_parts(assignment, rows)
    assert assignment.n_folds == n * repeats
    expected = np.setdiff1d(rows.row, assignment.holdout()).tolist()
    for repeat in range(repeats):
        scored = [assignment.scored(repeat * n + k + 1) for k in range(n)]
        assert np.sort(np.concatenate(scored)).tolist() == expected
    # Neither holdout nor inner rows exceed a class's share.
    label = rows.label
    assert label is not None
    for name in set(label):
        size = (label == name).sum()
        assert (label[assignment.holdout()] == name).sum() <= size * (holdout or 0) + 0.5
        for fold in range(1, n * repeats + 1):
            train = np.concatenate([assignment.training(fold), assignment.inner(fold)])
            inner = (label[assignment.inner(fold)] == name).sum()
            assert inner <= (label[train] == name).sum() * 0.1 + 0.5


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.sampled_from("abc"), min_size=20, max_size=80), seed=st.integers(0, 99))
def test_stratified_folds_differ_by_one_row_of_each_class_and_in_all(
    labels: list[str], seed: int
) -> None:
    rows = labelled([*labels, *"aaabbb"])
    assignment = split(rows, config("drop", selection="last", seed=seed))
    folds = [rows.label[assignment.scored(k)].tolist() for k in (1, 2, 3)]  # type: ignore[index]
    for name in "abc":
        counts = [fold.count(name) for fold in folds]
        assert max(counts) - min(counts) <= 1
    assert max(map(len, folds)) - min(map(len, folds)) <= 1


def test_kfold_does_not_look_at_the_labels() -> None:
    one = split(labelled(["a", "b"] * 30), config(strategy={"name": "kfold"}, selection="last"))
    other = split(
        labelled(["a"] * 30 + ["b"] * 30), config(strategy={"name": "kfold"}, selection="last")
    )
    assert one.frame.equals(other.frame)


def test_the_same_seed_gives_the_same_folds_and_another_seed_others() -> None:
    rows = labelled(["a", "b", "c"] * 20)
    first, again = split(rows, config(holdout=0.1)), split(rows, config(holdout=0.1))
    other = split(rows, config(holdout=0.1, seed=43))
    assert first.frame.equals(again.frame)
    assert first.scored(1).tolist() != other.scored(1).tolist()
    assert first.holdout().tolist() != other.holdout().tolist()


def test_inner_rows_are_drawn_by_the_seed_where_the_folds_are_given() -> None:
    rows = labelled(["a", "b"] * 30)
    chosen: dict[str, Any] = {"strategy": {"name": "column"}, "column": "part"}
    cells: list[str | None] = [*"xyz"] * 20
    first, other = (split(rows, config(seed=s, **chosen), part=cells) for s in (1, 2))
    assert first.scored(1).tolist() == other.scored(1).tolist()
    assert first.inner(1).tolist() != other.inner(1).tolist()


def test_labels_names_do_not_matter_where_their_order_is_kept() -> None:
    one = split(labelled(["a", "b", "c"] * 20), config(holdout=0.1))
    other = split(labelled(["x1", "x2", "x3"] * 20), config(holdout=0.1))
    assert one.frame.equals(other.frame)


def test_columns_that_no_strategy_names_do_not_matter() -> None:
    rows = labelled(["a", "b", "c"] * 20)
    assert split(rows, config()).frame.equals(split(rows, config(), noise=["x"] * 60).frame)


def test_repeats_draw_the_split_anew() -> None:
    assignment = split(labelled(["a", "b"] * 30), config(repeats=2))
    assert [assignment.repeat(fold) for fold in range(1, 7)] == [1, 1, 1, 2, 2, 2]
    assert assignment.scored(1).tolist() != assignment.scored(4).tolist()
    first = split(labelled(["a", "b"] * 30), config())
    assert [assignment.scored(k).tolist() for k in (1, 2, 3)] == [
        first.scored(k).tolist() for k in (1, 2, 3)
    ]


def test_a_splitter_that_repeats_itself_is_refused_with_repeats() -> None:
    strategy = {"name": "sklearn.model_selection.KFold"}
    message = message_of(labelled(["a", "b"] * 30), config(repeats=2, strategy=strategy), KFold(3))
    assert message == (
        "folds.repeats is 2, but folds.strategy sklearn.model_selection.KFold gives the same folds "
        "each time; set folds.repeats: 1"
    )


def test_a_splitters_folds_are_the_runs() -> None:
    strategy = {"name": "sklearn.model_selection.KFold"}
    rows = labelled(["a", "b"] * 30)
    assignment = split(rows, config(strategy=strategy), KFold(3))
    check_parts(assignment, rows)
    for k, (_, test) in enumerate(KFold(3).split(np.zeros(60))):
        assert assignment.scored(k + 1).tolist() == test.tolist()


@settings(max_examples=40, deadline=None)
@given(
    rows=tables(),
    holdout=st.sampled_from([None, 0.1, 0.2]),
    seed=st.integers(0, 99),
    n=st.integers(2, 3),
    share=st.sampled_from([1, 2, 5, 11, 30]),  # rows that have the same time
)
def test_time_folds_train_on_the_past_and_hold_out_the_latest(
    rows: Labelled, holdout: float | None, seed: int, n: int, share: int
) -> None:
    when = np.random.default_rng(seed).permutation(len(rows.row)) // share
    chosen = config(holdout=holdout, n=n, strategy={"name": "time"}, time="when")
    try:
        assignment = split(rows, chosen, when=[str(value) for value in when])
    except FoldwiseError as error:
        refusals = ("leave a fold empty", "finds no row", "too few for", "can't be divided")
        if any(words in str(error) for words in refusals):
            return
        raise
    check_parts(assignment, rows)
    latest = np.array([when[rows.group == group].max() for group in rows.group])
    out = assignment.holdout()
    for fold in range(1, n + 1):
        past = np.concatenate([assignment.training(fold), assignment.inner(fold)])
        assert when[past].max() < latest[assignment.scored(fold)].min()
        inner = assignment.inner(fold)
        assert latest[assignment.training(fold)].max() < latest[inner].min()
    if holdout is not None:
        assert latest[np.setdiff1d(rows.row, out)].max() < latest[out].min()
        assert len(out) >= int(len(when) * holdout) - share // 2


TIME: dict[str, Any] = {"strategy": {"name": "time"}, "time": "when"}


def test_rows_of_one_time_are_held_out_together_or_not_at_all() -> None:
    # Days of 5 rows: a tenth of 40 rows ends within the last day, whose rows straddled.
    rows = labelled(["a", "b"] * 20)
    days = [f"2024-01-{1 + i // 5:02}" for i in range(40)]
    assignment = split(rows, config(holdout=0.1, **TIME), when=days)
    check_parts(assignment, rows)
    assert assignment.holdout().tolist() == list(range(35, 40))
    # Of the 7 days before, 2 at least train first; a tenth of 10 and of 20 rows is a day too.
    assert [assignment.inner(fold).tolist() for fold in (1, 2)] == [
        list(range(5, 10)),
        list(range(15, 20)),
    ]


def test_a_holdout_is_refused_where_all_times_are_equal() -> None:
    rows = labelled(["a", "b"] * 20)
    assert message_of(rows, config(holdout=0.1, **TIME), when=["2024-01-01"] * 40) == (
        "holdout.fraction: 40 rows can't be divided by time: column 'when' (folds.time) holds one "
        "time for all of them; give finer times, or set holdout to null"
    )


def test_inner_rows_are_refused_where_a_fold_has_one_time_to_train_on() -> None:
    rows = labelled(["a", "b"] * 20)
    days = ["1"] * 10 + [str(i) for i in range(10, 40)]
    assert message_of(rows, config(**TIME), when=days) == (
        "selection.rows: inner, fold 1: 10 rows can't be divided by time: column 'when' "
        "(folds.time) holds one time for all of them; give finer times, or set selection.rows to "
        "last"
    )


def test_the_first_stretch_of_time_trains_and_is_never_scored() -> None:
    rows = labelled(["a", "b"] * 20)
    assignment = split(
        rows,
        config(strategy={"name": "time"}, time="when", selection="last"),
        when=[str(i) for i in range(40)],
    )
    assert [assignment.scored(k).tolist() for k in (1, 2, 3)] == [
        list(range(10, 20)),
        list(range(20, 30)),
        list(range(30, 40)),
    ]
    assert [len(assignment.training(k)) for k in (1, 2, 3)] == [10, 20, 30]


def test_column_folds_stand_and_empty_cells_always_train() -> None:
    rows = labelled(["a", "b"] * 12)
    cells = ["10", "9", "11", None] * 6
    assignment = split(rows, config(strategy={"name": "column"}, column="part"), part=cells)
    check_parts(assignment, rows)
    assert [assignment.scored(k).tolist() for k in (1, 2, 3)] == [
        [i for i in range(24) if cells[i] == cell] for cell in ("9", "10", "11")
    ]
    never = set(range(3, 24, 4))
    for fold in (1, 2, 3):
        assert never <= {*assignment.training(fold), *assignment.inner(fold)}


RARE = ["a", "b"] * 12 + ["c", "d"]
SIZES = "'c' (1), 'd' (1)"


def test_a_rare_class_is_an_error_that_says_what_to_set() -> None:
    assert message_of(labelled(RARE), config()) == (
        f"column 'label': fewer distinct texts than folds.n = 3 in class {SIZES}; set "
        "data.rare_classes to merge (into 'other'), drop or train_only, or lower folds.n"
    )


def test_a_class_of_many_rows_is_rare_where_its_texts_are_the_same() -> None:
    groups = [*range(24), 24, 24, 24, 25, 25]
    rows = labelled(["a", "b"] * 12 + ["c"] * 5, groups)
    assert "in class 'c' (2)" in message_of(rows, config())


def test_rare_classes_are_dropped() -> None:
    assignment = split(labelled(RARE), config("drop"))
    assert assignment.kept().tolist() == list(range(24))
    assert assignment.frame.filter(pl.col("role") == "dropped")["row"].to_list() == [24, 25]


def test_rare_classes_are_trained_on_and_never_scored() -> None:
    rows = labelled(RARE)
    assignment = split(rows, config("train_only"))
    check_parts(assignment, rows)
    for fold in (1, 2, 3):
        assert {24, 25} <= set(assignment.training(fold))


def test_a_rare_row_does_not_train_the_fold_that_scores_or_picks_by_its_twin() -> None:
    groups = [*range(24), 0, 1]
    rows = labelled(RARE, groups)
    for seed in range(5):
        assignment = split(rows, config("train_only", seed=seed))
        check_parts(assignment, rows)
        trains = [24 in assignment.training(fold) for fold in (1, 2, 3)]
        assert 1 <= sum(trains) <= 2


def test_a_rare_row_that_shares_its_text_with_the_holdout_trains_nowhere() -> None:
    # c fills a holdout row and is rare in what is left: all its rows are train_only.
    groups = [*range(24), 0, 2, 4, 6]
    rows = labelled(["a", "b"] * 12 + ["c"] * 4, groups)
    for seed in range(20):
        assignment = split(rows, config("train_only", holdout=0.25, n=4, seed=seed))
        check_parts(assignment, rows)


def test_rare_classes_are_merged_into_other() -> None:
    rows = labelled([*RARE, "e"])
    assignment, labels = assign_folds(rows, config("merge"), pl.DataFrame({"row": rows.row}))
    assert labels is not None
    assert labels.tolist() == ["a", "b"] * 12 + ["other"] * 3
    assert [len(set(assignment.scored(k)) & {24, 25, 26}) for k in (1, 2, 3)] == [1, 1, 1]
    assert assignment.report["classes"] == {"a": 12, "b": 12, "other": 3}


def test_rare_classes_that_stay_rare_once_merged_are_an_error() -> None:
    assert message_of(labelled(RARE), config("merge")) == (
        f"column 'label': the rare classes {SIZES} merged into 'other' are still only 2 distinct "
        "texts for folds.n = 3; set data.rare_classes to drop or train_only"
    )


@pytest.mark.parametrize("rare", ["drop", "train_only"])
def test_a_single_class_left_by_the_rare_ones_is_an_error(rare: str) -> None:
    assert message_of(labelled(["a"] * 12 + ["b"]), config(rare)) == (
        "column 'label': a single class is left once 'b' (1) went by "
        f"data.rare_classes: {rare}; lower folds.n"
    )


def test_a_single_class_is_an_error() -> None:
    assert message_of(labelled(["a"] * 12), config()) == (
        "column 'label' holds a single class, 'a': nothing to learn; check data.target, "
        "data.sample and data.missing"
    )


def test_a_class_that_the_holdout_takes_whole_is_an_error_where_one_is_left() -> None:
    message = message_of(labelled(["a"] * 12 + ["b"]), config(holdout=0.6))
    assert message == (
        "column 'label' holds a single class, 'a', outside the holdout: nothing to learn; lower "
        "holdout.fraction"
    )


def test_fewer_rows_than_folds_are_an_error() -> None:
    message = message_of(labelled(["a", "b"]), config())
    assert message == "folds.n is 3 but there are only 2 rows to split"


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({}, "duplicate texts"),
        ({"strategy": {"name": "group"}, "group": "who"}, "equal 'who'"),
    ],
)
def test_fewer_groups_than_folds_are_an_error(chosen: dict[str, Any], why: str) -> None:
    rows = Labelled(np.arange(12), None, np.array([0, 1] * 6))
    assert message_of(rows, config(**chosen)) == (
        "folds.n is 3 but the rows form only 2 groups (rows that must stay together: "
        f"{why}); lower folds.n or relax folds.group / folds.duplicates"
    )


def test_too_few_rows_to_pick_the_epoch_by_are_an_error() -> None:
    assert message_of(labelled(["a", "b"] * 3), config()) == (
        "selection.rows: inner finds no row to set aside in fold 1 (4 training rows); use "
        "selection.rows: last, or more rows"
    )


def test_rows_without_labels_are_split_by_size() -> None:
    rows = Labelled(np.arange(31), None, np.arange(31))
    assignment = split(rows, config(holdout=0.1))
    check_parts(assignment, rows)
    assert len(assignment.holdout()) == 3
    assert sorted(len(assignment.scored(k)) for k in (1, 2, 3)) == [9, 9, 10]


def test_row_numbers_are_the_tables_and_dropped_rows_are_listed() -> None:
    rows = Labelled(
        np.arange(1, 61, 2), np.array(["a", "b", "c"] * 10, dtype=object), np.arange(30)
    )
    columns = pl.DataFrame({"row": rows.row})
    assignment, _ = assign_folds(rows, config(), columns, dropped=range(0, 60, 2))
    assert assignment.frame["row"].to_list() == list(range(60))
    assert assignment.kept().tolist() == list(range(1, 61, 2))
    dropped = assignment.frame.filter(pl.col("role") == "dropped")
    assert dropped["row"].to_list() == list(range(0, 60, 2))
    assert dropped["group"].null_count() == 30
    assert assignment.groups(np.array([1, 5, 59])).tolist() == [0, 2, 29]


def test_folds_parquet_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = split(labelled(["a", "b", "c"] * 20), config(holdout=0.1, repeats=2))
    write_parquet(tmp_path / "folds.parquet", written.frame)
    read = read_assignment(pl.read_parquet(tmp_path / "folds.parquet"))
    assert dict(read.frame.schema) == {
        name: kind if isinstance(kind, pl.DataType) else kind() for name, kind in SCHEMA.items()
    }
    assert read.frame.equals(written.frame)
    assert read.n_folds == written.n_folds == 6
    for fold in range(1, 7):
        assert read.training(fold).tolist() == written.training(fold).tolist()


def test_the_report_counts_groups_and_disagreements() -> None:
    groups = [0, 0, *range(2, 24)]
    report = split(labelled(["a", "b"] * 12, groups), config()).report
    assert report["groups"] == 1
    assert report["rows_in_groups"] == report["largest_group"] == 2
    assert report["groups_that_disagree_on_the_label"] == 1
    assert report["groups_across_folds"] == 0
    assert report["rows"] == {"cv": 24, "holdout": 0, "train_only": 0}


def test_20_000_rows_are_assigned_in_two_seconds_of_computing() -> None:
    rng = np.random.default_rng(0)
    names = np.array([f"class {i}" for i in range(20)], dtype=object)
    label = names[rng.integers(20, size=20_000)]
    # A fifth of the rows in groups of four, as in a table of complaints.
    group = np.where(rng.random(20_000) < 0.2, rng.integers(1_000, size=20_000), 0)
    group = np.where(group > 0, group, np.arange(1_000, 21_000))
    rows = Labelled(np.arange(20_000), label, group)
    start = time.process_time()
    assignment = split(rows, config(n=5, holdout=0.1))
    assert time.process_time() - start < 2
    assert len(assignment.kept()) == 20_000
