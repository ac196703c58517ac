"""Split rows into cross-validation folds.

In: the kept rows, their labels and their groups (near-duplicates, or a column's equal values).
Out: an `Assignment` that says of every row and fold whether it trains, picks the epoch, is scored,
or is kept out. It follows from (rows, labels, groups, folds.seed) alone, is written to the run
folder once and read back ever after. A group never lies on both sides of a fold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.rows import LABEL_OTHER
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.split.assignment import SCHEMA, Assignment
from foldwise.split.splitters import (
    deal,
    from_column,
    from_time,
    latest,
    set_aside,
    with_splitter,
)


@dataclass(frozen=True)
class Labelled:
    """Rows ready to be split.

    Attributes:
        row: positions in the table as read, ascending, int64 (n,).
        label: labels to stratify by, object (n,); or bool (n, labels), where a row can have
            several; or None for nothing to stratify by.
        group: int64 (n,); rows with equal numbers stay together.
        target: what the table holds, (n,), where `label` isn't that but made of it (bins of
            numbers, labels in columns); `data.rare_classes` doesn't apply then.
    """

    row: np.ndarray
    label: np.ndarray | None
    group: np.ndarray
    target: np.ndarray | None = None

    @property
    def one_class_each(self) -> bool:
        """Whether each row has one class, its label."""
        return self.label is not None and self.target is None


def assign_folds(
    rows: Labelled,
    config: Config,
    columns: pl.DataFrame,
    splitter: Any = None,
    dropped: Iterable[int] = (),
) -> tuple[Assignment, np.ndarray | None]:
    """Split rows into holdout, folds and inner rows.

    Args:
        rows: the kept rows with labels and groups.
        config: `folds`, `holdout`, `selection` and `data.rare_classes` are read.
        columns: the kept rows' columns named by folds.time and folds.column.
        splitter: an object with scikit-learn's `split`, where folds.strategy names a class.
        dropped: rows left out before (missing values, sampling); listed with role `dropped`.

    Returns:
        The assignment, and the labels after `rare_classes: merge` (or None).

    Raises:
        FoldwiseError: fewer rows or groups than folds, a class too rare, a single class.
    """
    n = config.folds.n
    seed = config.folds.seed
    size = len(rows.row)
    label = rows.label
    role = np.full(size, "cv", dtype=object)
    if size < n:
        raise FoldwiseError(f"folds.n is {n} but there are only {size} rows to split")
    if label is not None and rows.one_class_each and len(set(label)) < 2:
        raise FoldwiseError(
            f"column {config.data.target!r} holds a single class, {label[0]!r}: nothing to learn; "
            "check data.target, data.sample and data.missing"
        )
    if config.holdout is not None and config.holdout.fraction is not None:
        if config.folds.time is not None:
            out = latest(
                columns[config.folds.time],
                config.folds.time,
                rows.group,
                config.holdout.fraction,
                "holdout.fraction",
                "set holdout to null",
            )
        else:
            rng = np.random.default_rng([seed, 1])
            out = set_aside(_codes(label, size), rows.group, config.holdout.fraction, rng)
        role[out] = "holdout"
        if label is not None and rows.one_class_each and len(left := set(label[~out])) < 2:
            raise FoldwiseError(
                f"column {config.data.target!r} holds a single class, {left.pop()!r}, outside the "
                "holdout: nothing to learn; lower holdout.fraction"
            )
    groups = len(np.unique(rows.group[role == "cv"]))
    if groups < n:
        raise FoldwiseError(
            f"folds.n is {n} but the rows form only {groups} groups (rows that must stay together: "
            + (f"equal {config.folds.group!r}" if config.folds.group else "duplicate texts")
            + "); lower folds.n or relax folds.group / folds.duplicates"
        )
    if rows.one_class_each:
        label = _apply_rare_classes(label, rows.group, role, config)
    in_folds = np.flatnonzero(role == "cv")

    repeats = config.folds.repeats
    folds = np.zeros((repeats, size), dtype=np.int32)
    inner: list[tuple[np.ndarray, int]] = []  # positions, and the fold whose epoch they pick
    unused: list[tuple[np.ndarray, int]] = []
    for repeat in range(repeats):
        part = _Rows(
            _codes(None if label is None else label[in_folds], len(in_folds)),
            None if label is None else label[in_folds],
            rows.group[in_folds],
            columns[in_folds],
        )
        fold, idle = _split(part, config, splitter, np.random.default_rng([seed, 2, repeat]))
        folds[repeat, in_folds] = np.where(fold >= 0, fold + 1 + repeat * n, 0)
        for k in range(n):
            number = repeat * n + k + 1
            unused.append((in_folds[idle[k]], number))
            scored = folds[repeat] == number
            judging = scored | (role == "holdout")
            if config.selection.rows == "inner":
                may_train = (role == "cv") & ~scored
                may_train[in_folds[idle[k]]] = False
                rng = np.random.default_rng([seed, 3, repeat, k])
                chosen = _inner_rows(may_train, label, rows, columns, config, rng, number)
                inner.append((chosen, number))
                judging[chosen] = True
            # A rare class's row may be the twin of one that is scored: not trained on there.
            twins = (role == "train_only") & np.isin(rows.group, rows.group[judging])
            unused.append((np.flatnonzero(twins), number))
        again = np.where(folds[0] > 0, folds[0] + repeat * n, 0)
        if splitter is not None and repeat and np.array_equal(folds[repeat], again):
            raise FoldwiseError(
                f"folds.repeats is {repeats}, but folds.strategy {config.folds.strategy.name} "
                "gives the same folds each time; set folds.repeats: 1"
            )
    report = _report(rows, label, role, folds, config)
    frame = _frame(rows, role, folds, inner, unused, sorted(dropped), n)
    return Assignment(frame, n * repeats, report), label


@dataclass(frozen=True)
class _Rows:
    codes: np.ndarray
    label: np.ndarray | None
    group: np.ndarray
    columns: pl.DataFrame


def _split(
    rows: _Rows, config: Config, splitter: Any, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    # (n,) folds from 0, -1 for never scored; and for each fold the positions it may not use.
    folds = config.folds
    nothing = [np.empty(0, dtype=np.int64) for _ in range(folds.n)]
    if splitter is not None:
        return with_splitter(splitter, rows.label, rows.group, folds.n, folds.strategy.name)
    if folds.column is not None:
        return from_column(rows.columns[folds.column], folds.column, folds.n), nothing
    if folds.time is not None:
        return from_time(rows.columns[folds.time], folds.time, rows.group, folds.n)
    stratified = folds.strategy.name in ("stratified", "stratified_group")
    codes = rows.codes if stratified else np.zeros(len(rows.codes), dtype=np.int64)
    return deal(codes, rows.group, folds.n, rng), nothing


def _inner_rows(
    may_train: np.ndarray,
    label: np.ndarray | None,
    rows: Labelled,
    columns: pl.DataFrame,
    config: Config,
    rng: np.random.Generator,
    fold: int,
) -> np.ndarray:
    positions = np.flatnonzero(may_train)
    group = rows.group[positions]
    fraction = config.selection.fraction
    if config.folds.time is not None:
        chosen = latest(
            columns[config.folds.time][positions],
            config.folds.time,
            group,
            fraction,
            f"selection.rows: inner, fold {fold}",
            "set selection.rows to last",
        )
    else:
        codes = _codes(None if label is None else label[positions], len(positions))
        chosen = set_aside(codes, group, fraction, rng)
    if not chosen.any():
        raise FoldwiseError(
            f"selection.rows: inner finds no row to set aside in fold {fold} ({len(positions)} "
            "training rows); use selection.rows: last, or more rows"
        )
    picked: np.ndarray = positions[chosen]
    return picked


def _apply_rare_classes(
    label: np.ndarray | None, group: np.ndarray, role: np.ndarray, config: Config
) -> np.ndarray | None:
    # Changes `role` in place and returns the labels, merged where the config says so.
    strategy = config.folds.strategy.name
    if label is None or strategy in ("column", "time"):
        return label
    rare = _rare(label, group, role, config.folds.n)
    if not rare:
        return label
    sizes = ", ".join(f"{name!r} ({count})" for name, count in sorted(rare.items()))
    policy = config.data.rare_classes
    unit = f"values of {config.folds.group!r}" if config.folds.group else "distinct texts"
    if policy == "error":
        raise FoldwiseError(
            f"column {config.data.target!r}: fewer {unit} than folds.n = {config.folds.n} "
            f"in class {sizes}; set data.rare_classes to merge (into {LABEL_OTHER!r}), drop or "
            "train_only, or lower folds.n"
        )
    chosen = np.isin(label, list(rare))
    if policy == "drop":
        role[chosen] = "dropped"
    elif policy == "train_only":
        role[chosen] = "train_only"
    else:
        label = label.copy()
        label[chosen] = LABEL_OTHER
        if still := _rare(label, group, role, config.folds.n):
            raise FoldwiseError(
                f"column {config.data.target!r}: the rare classes {sizes} merged into "
                f"{LABEL_OTHER!r} are still only {still[LABEL_OTHER]} {unit} for folds.n = "
                f"{config.folds.n}; set data.rare_classes to drop or train_only"
            )
    if len(set(label[role == "cv"])) < 2:
        raise FoldwiseError(
            f"column {config.data.target!r}: a single class is left once {sizes} went by "
            f"data.rare_classes: {policy}; lower folds.n"
        )
    return label


def _rare(label: np.ndarray, group: np.ndarray, role: np.ndarray, n: int) -> dict[str, int]:
    counts = (
        pl.DataFrame({"label": label.astype(str), "group": group})
        .filter(pl.Series(role == "cv"))
        .group_by("label")
        .agg(pl.col("group").n_unique())
    )
    return {name: count for name, count in counts.iter_rows() if count < n}


def _codes(label: np.ndarray | None, size: int) -> np.ndarray:
    if label is None:
        return np.zeros(size, dtype=np.int64)
    if label.ndim == 2:
        return label
    return np.unique(label.astype(str), return_inverse=True)[1].astype(np.int64)


def _report(
    rows: Labelled, label: np.ndarray | None, role: np.ndarray, folds: np.ndarray, config: Config
) -> dict[str, Any]:
    scored = folds[0] > 0
    sizes = np.bincount(np.unique(rows.group, return_inverse=True)[1])
    fold_sizes = np.bincount(folds[0][scored])[1:]
    split_groups = (
        pl.DataFrame({"group": rows.group[scored], "fold": folds[0][scored]})
        .group_by("group")
        .agg(pl.col("fold").n_unique())
        .filter(pl.col("fold") > 1)
        .height
    )
    report: dict[str, Any] = {
        "rows": {name: int((role == name).sum()) for name in ("cv", "holdout", "train_only")},
        "fold_sizes": fold_sizes.tolist(),
        "groups": int((sizes > 1).sum()),
        "rows_in_groups": int(sizes[sizes > 1].sum()),
        "largest_group": int(sizes.max()),
        "groups_across_folds": split_groups,
        "group_larger_than_a_fold": bool(sizes.max() > fold_sizes.max()),
    }
    labels = label if rows.one_class_each else rows.target
    if labels is not None:
        report["groups_that_disagree_on_the_label"] = (
            pl.DataFrame({"group": rows.group, "label": labels.astype(str)})
            .group_by("group")
            .agg(pl.col("label").n_unique())
            .filter(pl.col("label") > 1)
            .height
        )
    if label is not None and rows.one_class_each:
        kept = pl.Series(label[role != "dropped"].astype(str))
        counts = kept.value_counts(sort=True)
        report["classes"] = dict(counts.iter_rows())
    return report


def _frame(
    rows: Labelled,
    role: np.ndarray,
    folds: np.ndarray,
    inner: list[tuple[np.ndarray, int]],
    unused: list[tuple[np.ndarray, int]],
    dropped: list[int],
    n: int,
) -> pl.DataFrame:
    repeats, size = folds.shape
    kept = pl.DataFrame(
        {
            "row": np.tile(rows.row, repeats),
            "repeat": np.repeat(np.arange(1, repeats + 1, dtype=np.int32), size),
            "fold": folds.ravel(),
            "role": np.tile(role.astype(str), repeats),
            "group": np.tile(rows.group, repeats),
        }
    ).with_columns(pl.col("fold").replace(0, None))
    out = pl.DataFrame({"row": pl.Series(dropped, dtype=pl.Int64), "role": "dropped"}).join(
        pl.DataFrame({"repeat": np.arange(1, repeats + 1, dtype=np.int32)}), how="cross"
    )
    frame = pl.concat([kept, out], how="diagonal")
    for name, pairs in (("inner_of", inner), ("unused_in", unused)):
        listed = _listed(rows.row, pairs, n, name)
        frame = frame.join(listed, on=["row", "repeat"], how="left")
        frame = frame.with_columns(pl.col(name).fill_null([]))
    return frame.select(*SCHEMA).cast(SCHEMA).sort("repeat", "row")  # type: ignore[arg-type]


def _listed(
    row: np.ndarray, pairs: list[tuple[np.ndarray, int]], n: int, name: str
) -> pl.DataFrame:
    # (row, repeat) -> the folds it is paired with, ascending.
    numbers = np.repeat([number for _, number in pairs], [len(rows) for rows, _ in pairs])
    positions = np.concatenate([np.empty(0, dtype=np.int64), *(rows for rows, _ in pairs)])
    return (
        pl.DataFrame({"row": row[positions], name: numbers.astype(np.int32)})
        .with_columns(((pl.col(name) - 1) // n + 1).cast(pl.Int32).alias("repeat"))
        .group_by("row", "repeat")
        .agg(pl.col(name).sort())
    )
