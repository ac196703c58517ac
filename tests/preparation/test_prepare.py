"""Prepare: which rows go where, from the table and the config, the same when a run goes on."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from foldwise.config.schema import Config
from foldwise.encoding.batches import TextRows
from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import Prepared, encode_rows, prepare
from foldwise.preparation.resolve import resolve
from foldwise.preparation.rows import row_groups
from foldwise.report.terminal import facts
from foldwise.run.files import write_parquet
from foldwise.run.folder import RunFolder
from foldwise.table.duplicates import find_duplicates
from foldwise.tasks.task import Task
from foldwise.workflow import cross_validate

Make = Callable[..., Config]
pytestmark = pytest.mark.filterwarnings("ignore:The groups parameter is ignored")


def prepared(config: Config) -> Prepared:
    code = UserCode(config.code)
    run = RunFolder(Path(config.run.dir) / config.run.name)
    return prepare(resolve(config), code, run, build_task(config, code))


def continued(first: Prepared) -> Prepared:
    first.run.create()
    write_parquet(first.run.folds, first.assignment.frame)
    return prepared(first.config)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write columns as a CSV file and return its path."""

    def write(name: str = "t.csv", **columns: list[Any]) -> str:
        pl.DataFrame(columns).write_csv(tmp_path / name)
        return str(tmp_path / name)

    return write


def words(rows: int, first: int = 0) -> list[str]:
    """Texts that share no word."""
    return [f"alpha{i} beta{i} gamma{i} delta{i} epsilon{i}" for i in range(first, first + rows)]


class Plain:
    """A task whose rows have no lengths."""

    def dataset(self, frame: pl.DataFrame) -> list[int]:
        return [0] * frame.height


def test_batches_filled_by_tokens_are_refused_for_rows_without_lengths(make_config: Make) -> None:
    config = make_config(training={"batch_size": None, "tokens_per_batch": 64})
    found = replace(prepared(config), task=cast(Task, Plain()))
    with pytest.raises(FoldwiseError) as caught:
        encode_rows(found)
    assert str(caught.value) == (
        "training.tokens_per_batch: the rows of task multiclass have no `lengths` to count "
        "tokens by; give batch_size, and set tokens_per_batch to null"
    )


def test_rows_labels_and_ids_line_up(make_config: Make, table_path: Path) -> None:
    found = encode_rows(prepared(make_config()))
    table = pl.read_csv(table_path)
    assert found.frame["row"].to_list() == list(range(90))
    assert found.frame["label"].to_list() == table["label"].to_list()
    assert isinstance(found.dataset, TextRows)
    _, target = found.dataset[4]
    assert ["card", "debt", "loan"][target or 0] == table["label"][4]
    assert found.counts["rows_read"] == 90
    assert found.holdout is None


def test_positions_find_rows_in_a_frame_with_gaps(make_config: Make, write: Any) -> None:
    texts: list[str | None] = [*words(30)]
    texts[3] = texts[11] = None
    path = write(text=texts, label=["a", "b", "c"] * 10)
    found = prepared(make_config(data={"path": path}))
    assert found.frame.height == 28
    assert found.counts["dropped:text"] == 2
    rows = found.assignment.scored(1)
    assert found.part(rows)["row"].to_list() == rows.tolist()
    assert not {3, 11} & set(found.assignment.kept())


def test_folds_do_not_depend_on_columns_that_they_do_not_use(make_config: Make) -> None:
    alone = prepared(make_config(holdout={"fraction": 0.1}))
    more = prepared(
        make_config(
            holdout={"fraction": 0.1}, data={"categorical": ["kind"], "numeric": ["amount"]}
        )
    )
    assert more.assignment.frame.equals(alone.assignment.frame)


def test_a_continued_run_keeps_its_rows_and_folds(make_config: Make) -> None:
    first = prepared(make_config(holdout={"fraction": 0.1}, data={"sample": 60}))
    again = continued(first)
    assert again.assignment.frame.equals(first.assignment.frame)
    assert again.frame.equals(first.frame)
    assert first.holdout is not None
    assert again.holdout is not None
    assert again.holdout.equals(first.holdout)
    assert first.frame.height + first.holdout.height == 60


def test_duplicates_and_equal_groups_are_joined_into_one_group(
    make_config: Make, write: Any
) -> None:
    texts = words(36)
    texts[1] = texts[0].upper()  # 0-1 by text
    texts[12] = texts[11]  # 11-12 by text
    who: list[str | None] = [f"w{i}" for i in range(36)]
    who[11] = who[1]  # joins both: 0-1-11-12
    who[20] = who[21] = None  # empty cells are no group
    path = write(text=texts, label=["a", "b", "c"] * 12, who=who)
    found = prepared(
        make_config(data={"path": path}, folds={"strategy": "stratified_group", "group": "who"})
    )
    group = found.assignment.groups(np.arange(36))
    assert {frozenset(np.flatnonzero(group == g).tolist()) for g in group} == {
        frozenset({0, 1, 11, 12}),
        *(frozenset({i}) for i in range(36) if i not in (0, 1, 11, 12)),
    }
    places = {k for k in (1, 2, 3) for row in (0, 1, 11, 12) if row in found.assignment.scored(k)}
    assert len(places) == 1


def test_duplicates_are_left_apart_on_request(make_config: Make, write: Any) -> None:
    path = write(text=["same words here"] * 36, label=["a", "b", "c"] * 12)
    found = prepared(make_config(data={"path": path}, folds={"duplicates": "ignore"}))
    assert len(set(found.assignment.groups(np.arange(36)))) == 36


def test_a_holdout_file_is_read_whole_and_its_near_duplicates_are_counted(
    make_config: Make, write: Any
) -> None:
    train = words(30)
    letter = " ".join(f"word{i}" for i in range(60))
    train[0], train[1] = letter, f"{letter} regards"
    path = write(text=train, label=["a", "b", "c"] * 10)
    out = write("out.csv", text=[f"dear {letter}", *words(4, 50)], label=["a", "b", "c", "a", "b"])
    found = prepared(
        make_config(data={"path": path}, holdout={"path": out}, folds={"duplicates": "near"})
    )
    assert found.holdout is not None
    assert found.holdout["row"].to_list() == list(range(5))
    assert found.counts["training_rows_with_a_near_duplicate_in_the_holdout"] == 2
    assert len(found.assignment.holdout()) == 0
    assert found.frame.height == 30


RARE = ["a", "b"] * 12 + ["c", "d", "d"]


def test_merged_labels_are_the_same_in_a_continued_run(make_config: Make, write: Any) -> None:
    path = write(text=words(27), label=RARE)
    first = prepared(make_config(data={"path": path, "rare_classes": "merge"}))
    again = continued(first)
    assert first.frame["label"].to_list() == ["a", "b"] * 12 + ["other"] * 3
    assert again.frame.equals(first.frame)
    assert first.task.state() == again.task.state()
    assert first.task.state()["target"]["merged"] == ["c", "d"]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("merge", "rare classes: 2 merged into 'other': 'c', 'd'"),
        ("drop", "rare classes: 3 rows dropped (data.rare_classes)"),
    ],
)
def test_a_run_says_what_becomes_of_rare_classes(
    make_config: Make, write: Any, policy: str, told: str
) -> None:
    path = write(text=words(27), label=RARE)
    first = prepared(make_config(data={"path": path, "rare_classes": policy}))
    for each in (first, continued(first)):
        assert [line for line in facts(each.counts) if line.startswith("rare")] == [told]


def test_a_holdout_of_the_table_merges_the_same_labels(make_config: Make, write: Any) -> None:
    labels = ["a", "b"] * 20 + [f"c{i // 2}" for i in range(20)]
    path = write(text=words(60), label=labels)
    first = prepared(
        make_config(data={"path": path, "rare_classes": "merge"}, holdout={"fraction": 0.3})
    )
    again = continued(first)
    assert first.holdout is not None
    assert again.holdout is not None
    assert set(first.holdout["label"]) == {"a", "b", "other"}
    assert again.holdout.equals(first.holdout)
    assert again.frame.equals(first.frame)


def test_a_holdout_file_merges_the_same_labels(make_config: Make, write: Any) -> None:
    path = write(text=words(27), label=RARE)
    out = write("out.csv", text=words(4, 50), label=["a", "c", "d", "never seen"])
    first = prepared(
        make_config(data={"path": path, "rare_classes": "merge"}, holdout={"path": out})
    )
    for found in (first, continued(first)):
        assert found.holdout is not None
        assert found.holdout["label"].to_list() == ["a", "other", "other", "never seen"]


def test_a_holdout_file_may_lack_the_column_that_groups_rows(make_config: Make, write: Any) -> None:
    who = [f"w{i % 9}" for i in range(30)]
    path = write(text=words(30), label=["a", "b", "c"] * 10, who=who)
    twice = [*words(2, 50), *words(2, 50)]
    for columns, groups in (({}, [0, 1, 0, 1]), ({"who": ["x", "x", "y", "z"]}, [0, 0, 0, 0])):
        out = write("out.csv", text=twice, label=["a", "b", "a", "b"], **columns)
        found = prepared(
            make_config(
                data={"path": path},
                folds={"group": "who"},
                holdout={"path": out},
                selection={"rows": "last"},
            )
        )
        assert found.holdout is not None
        assert row_groups(found.holdout, found.config).tolist() == groups


@pytest.mark.parametrize("strategy", ["time", "column"])
def test_strategies_that_take_rare_classes_as_they_are_never_merge_them(
    make_config: Make, write: Any, strategy: str
) -> None:
    when = [f"2024-01-{1 + i:02}" for i in range(27)] if strategy == "time" else list("xyz") * 9
    path = write(text=words(27), label=RARE, when=when)
    first = prepared(
        make_config(
            data={"path": path, "rare_classes": "merge"},
            folds={"strategy": strategy, strategy: "when"},
            selection={"rows": "last"},
        )
    )
    assert first.frame["label"].to_list() == RARE
    assert continued(first).frame["label"].to_list() == RARE


def test_dropped_classes_are_gone_and_train_only_ones_are_classes(
    make_config: Make, write: Any
) -> None:
    path = write(text=words(27), label=RARE)
    dropped = prepared(make_config(data={"path": path, "rare_classes": "drop"}))
    assert dropped.task.state()["target"]["classes"] == ["a", "b"]
    assert dropped.frame.height == 24
    kept = prepared(make_config(data={"path": path, "rare_classes": "train_only"}))
    assert kept.task.state()["target"]["classes"] == ["a", "b", "c", "d"]
    scored = np.concatenate([kept.assignment.scored(k) for k in (1, 2, 3)])
    assert np.sort(scored).tolist() == list(range(24))


def test_group_kfold_of_scikit_learn_keeps_groups_whole(make_config: Make, write: Any) -> None:
    who = [f"w{i % 9}" for i in range(36)]
    path = write(text=words(36), label=["a", "b", "c", "a"] * 9, who=who)
    strategy = "sklearn.model_selection.GroupKFold"
    folds = {"strategy": strategy, "group": "who"}
    found = prepared(make_config(data={"path": path}, folds=folds, selection={"rows": "last"}))
    scored = [{who[row] for row in found.assignment.scored(k)} for k in (1, 2, 3)]
    assert sorted(set.union(*scored)) == sorted(set(who))
    assert sum(map(len, scored)) == 9


def test_kfold_of_scikit_learn_shuffles_by_the_folds_seed(make_config: Make) -> None:
    def first_fold(seed: int) -> list[int]:
        strategy = {"name": "sklearn.model_selection.KFold", "shuffle": True}
        folds = {"strategy": strategy, "seed": seed}
        found: list[int] = prepared(make_config(folds=folds)).assignment.scored(1).tolist()
        return found

    assert first_fold(1) == first_fold(1)
    assert first_fold(1) != first_fold(2)


SPLITTERS = '''
import numpy as np

class Odd:
    """Scores the odd rows, the even ones, and nothing else."""
    def __init__(self, n_splits, first=1):
        self.first = first
    def split(self, X, y=None, groups=None):
        rows = np.arange(len(X))
        for part in (rows % 3 == self.first, rows % 3 == 0, rows % 3 == 2):
            yield rows[~part], rows[part]

class Overlapping(Odd):
    def split(self, X, y=None, groups=None):
        for pair in super().split(X):
            yield np.arange(1, len(X)), [0]

class Failing(Odd):
    def split(self, X, y=None, groups=None):
        raise RuntimeError("no luck")

class Unsplittable:
    pass
'''


@pytest.fixture
def splitters(tmp_path: Path) -> str:
    path = tmp_path / "my_splitters.py"
    path.write_text(SPLITTERS)
    return str(path)


def test_a_splitter_of_the_users_is_used_with_its_arguments(
    make_config: Make, splitters: str
) -> None:
    found = prepared(make_config(code=[splitters], folds={"strategy": "my_splitters.Odd"}))
    assert found.assignment.scored(1).tolist() == list(range(1, 90, 3))
    strategy = {"name": "my_splitters.Odd", "first": 2}
    with pytest.raises(FoldwiseError, match="scores a row in more than one fold"):
        prepared(make_config(code=[splitters], folds={"strategy": strategy}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Overlapping", "folds.strategy my_splitters.Overlapping scores a row in more than one"),
        ("Failing", "folds.strategy my_splitters.Failing: split() failed: no luck"),
        ("Unsplittable", "folds.strategy my_splitters.Unsplittable has no split(X, y, groups)"),
        ("Absent", "folds.strategy: "),
    ],
)
def test_a_splitter_that_does_not_work_is_refused(
    make_config: Make, splitters: str, name: str, message: str
) -> None:
    with pytest.raises(FoldwiseError) as caught:
        prepared(make_config(code=[splitters], folds={"strategy": f"my_splitters.{name}"}))
    assert str(caught.value).startswith(message)


def test_a_splitter_with_another_number_of_folds_is_refused(make_config: Make) -> None:
    strategy = {"name": "sklearn.model_selection.KFold", "n_splits": 4}
    with pytest.raises(FoldwiseError, match=r"KFold yields 4 folds, but folds\.n is 3"):
        prepared(make_config(folds={"strategy": strategy}))


def test_a_fold_beyond_the_last_is_refused(make_config: Make) -> None:
    with pytest.raises(FoldwiseError, match=r"folds\.run names fold 4, but there are 3"):
        prepared(make_config(folds={"run": [1, 4]}))


def test_nothing_is_written_by_preparing(make_config: Make) -> None:
    config = make_config()
    prepared(config)
    assert not Path(config.run.dir).exists()


def test_runs_over_the_same_texts_look_for_near_duplicates_once(
    make_config: Make, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []

    def counted(texts: pl.DataFrame, *given: Any) -> Any:
        searched.append(texts.height)
        return find_duplicates(texts, *given)

    monkeypatch.setattr("foldwise.table.groups.find_duplicates", counted)
    out = write("out.csv", text=words(4, 50), label=["a", "b", "c", "a"])
    given: dict[str, Any] = {
        "data": {"path": write(text=words(26) + words(1), label=["a", "b", "c"] * 9)},
        "holdout": {"path": out},
    }
    first = encode_rows(prepared(make_config(**given)))
    assert searched == [27, 31]
    other = prepared(make_config(run={"name": "other", "seed": 8}, **given))
    assert other.assignment.frame.equals(first.assignment.frame)
    assert other.counts.items() <= first.counts.items()
    continued(first)
    assert searched == [27, 31]
    prepared(make_config(run={"name": "third"}, folds={"duplicates": "near"}, **given))
    assert searched == [27, 31, 27, 31]


def test_a_run_resolves_its_config_and_reads_deals_and_encodes_its_rows_once(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    steps = (
        "preparation.ownership.resolve",
        "preparation.rows.read_table",
        "table.groups.find_duplicates",
        "preparation.rows.assign_folds",
        "tasks.text_classification.encode",
    )
    for step in steps:
        room, _, name = f"foldwise.{step}".rpartition(".")
        original = getattr(importlib.import_module(room), name)

        def counted(*args: Any, step: str = step, original: Any = original, **named: Any) -> Any:
            calls[step] += 1
            return original(*args, **named)

        monkeypatch.setattr(f"foldwise.{step}", counted)
    cross_validate(make_config(training={"epochs": 1}))
    assert calls == dict.fromkeys(steps, 1)
