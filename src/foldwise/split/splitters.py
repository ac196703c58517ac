"""The ways to split rows: dealing groups evenly, by a column, by time, by someone's splitter.

In: class codes and groups, one number a row. Out: a fold a row. Rows of one group always get the
same fold. scikit-learn's StratifiedGroupKFold was tried first: it is greedy over every single row's
group (minutes on a million rows) and leaves classes of lone rows less even than they can be.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from foldwise.errors import FoldwiseError


def deal(codes: np.ndarray, groups: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Deal groups to `n` folds so that every class is spread as evenly as groups allow.

    Groups of several rows go first, largest first, each to the fold that has least of its classes;
    lone rows then level the classes. Without groups, each class differs by at most one row between
    any two folds.

    Args:
        codes: class of each row, int64 (rows,); all zero deals by size alone. Or which labels each
            row has, bool (rows, labels): dealt by `deal_labels`.
        groups: group of each row, int64 (rows,).
        n: number of folds.
        rng: draws the order.

    Returns:
        The fold of each row from 0 to n - 1, int64 (rows,).
    """
    if codes.ndim == 2:
        return deal_labels(codes, groups, np.full(n, 1 / n), rng)
    classes = int(codes.max()) + 1
    class_sizes = np.bincount(codes, minlength=classes)
    counts = np.zeros((n, classes), dtype=np.int64)
    fold = np.full(len(codes), -1, dtype=np.int64)
    members, lone = _by_group(groups, rng)
    for positions in sorted(members, key=len, reverse=True):
        held, held_counts = np.unique(codes[positions], return_counts=True)
        crowd = (counts[:, held] * held_counts / class_sizes[held]).sum(axis=1)
        crowd += 0.01 * len(positions) * counts.sum(axis=1) / len(codes)
        chosen = int(crowd.argmin())
        fold[positions] = chosen
        counts[chosen, held] += held_counts
    for code in rng.permutation(classes):
        rows = lone[codes[lone] == code]
        share = _level(counts[:, code], len(rows), counts.sum(axis=1))
        fold[rows] = np.repeat(np.arange(n), share)
        counts[:, code] += share
    return fold


def set_aside(
    codes: np.ndarray, groups: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose whole groups that make up about `fraction` of each class.

    Never more than a class's rounded share is taken, so a class too small for a whole row, or a
    group too large for the share, stays where it was.

    Args:
        codes: class of each row, int64 (rows,), or which labels each row has, bool (rows, labels):
            dealt by `deal_labels`, so about the rounded share is taken.
        groups: group of each row, int64 (rows,).
        fraction: share to take, in (0, 1).
        rng: draws the order.

    Returns:
        Whether each row is taken, bool (rows,).
    """
    if codes.ndim == 2:
        out: np.ndarray = deal_labels(codes, groups, np.array([1 - fraction, fraction]), rng) == 1
        return out
    members, lone = _by_group(groups, rng)
    taken = np.zeros(len(codes), dtype=bool)
    sizes = np.bincount(codes)
    # Groups fill their own share of a class, lone rows the rest: either kind by itself would leave
    # training without it, and make what is set aside unlike what is scored.
    room = _share(sizes - np.bincount(codes[lone], minlength=len(sizes)), fraction)
    for positions in members:
        need = np.bincount(codes[positions], minlength=len(sizes))
        if (need <= room).all():
            taken[positions] = True
            room -= need
    room = _share(sizes, fraction) - np.bincount(codes[taken], minlength=len(sizes))
    for code in range(len(sizes)):
        taken[lone[codes[lone] == code][: room[code]]] = True
    return taken


def deal_labels(
    labels: np.ndarray, groups: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Deal groups of rows with several labels each, so that every label is spread by the shares.

    Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011): of the labels that are left, the
    rarest is dealt first, each of its rows to the part that lacks most of it, among those to the
    part that lacks most rows. Rows without labels come last. Groups of several rows are dealt
    whole, largest first among a label's.

    Args:
        labels: whether each row has each label, bool (rows, labels).
        groups: group of each row, int64 (rows,).
        shares: of each part, positive, their sum 1, float64 (parts,).
        rng: draws the order, and the part among those that lack the same.

    Returns:
        The part of each row from 0, int64 (rows,).
    """
    members, lone = _by_group(groups, rng)
    units = sorted(members, key=len, reverse=True) + [lone[i : i + 1] for i in range(len(lone))]
    unit_of = np.empty(len(groups), dtype=np.int64)
    unit_of[np.concatenate(units)] = np.repeat(np.arange(len(units)), [len(u) for u in units])
    held = np.zeros((len(units), labels.shape[1]), dtype=np.int64)
    np.add.at(held, unit_of, labels)
    sizes = np.bincount(unit_of)
    lacking = np.outer(shares, held.sum(axis=0))  # (parts, labels): what each part still wants
    lacking_rows = shares * len(groups)
    left = held.sum(axis=0)
    part = np.full(len(units), -1, dtype=np.int64)
    # By scarcity, not in rounds over all rows: a label's units are found once.
    by_label = [np.flatnonzero(held[:, label]) for label in range(labels.shape[1])]
    while True:
        if left.any():
            scarcest = int(np.where(left > 0, left, left.max() + 1).argmin())
            waiting, wanted = by_label[scarcest], lacking[:, scarcest]
        else:
            waiting, wanted = np.arange(len(units)), lacking_rows
        for unit in waiting[part[waiting] < 0]:
            best = np.flatnonzero(wanted >= wanted.max() - 1e-9)
            rows = lacking_rows[best]
            best = best[rows >= rows.max() - 1e-9]
            chosen = int(best[rng.integers(len(best))])
            part[unit] = chosen
            lacking[chosen] -= held[unit]
            lacking_rows[chosen] -= sizes[unit]
            left -= held[unit]
        if (part >= 0).all():
            parts: np.ndarray = part[unit_of]
            return parts


def quantile_bins(values: np.ndarray, n: int = 10) -> np.ndarray:
    """Cut numbers at their quantiles, to stratify by; equal numbers share a bin.

    Args:
        values: numbers, float64 (rows,).
        n: number of bins; there are fewer where values repeat.

    Returns:
        The bin of each row from 0, int64 (rows,).
    """
    edges = np.unique(np.quantile(values, np.arange(1, n) / n))
    bins: np.ndarray = np.searchsorted(edges, values, side="right")
    return bins.astype(np.int64)


def from_column(values: pl.Series, name: str, n: int) -> np.ndarray:
    """Return the fold that the table itself holds; an empty cell is never scored (-1).

    Raises:
        FoldwiseError: the column doesn't hold `n` different values.
    """
    present = sorted(values.drop_nulls().unique().to_list())
    numbers = pl.Series(present, dtype=pl.String).cast(pl.Float64, strict=False)
    order = present if numbers.null_count() else [present[i] for i in numbers.arg_sort()]
    if len(order) != n:
        raise FoldwiseError(
            f"column {name!r} holds {len(order)} different folds, but folds.n is {n}; "
            f"set folds.n: {len(order)}"
        )
    rank = {value: position for position, value in enumerate(order)}
    return np.array([-1 if value is None else rank[value] for value in values], dtype=np.int64)


def from_time(
    values: pl.Series, name: str, groups: np.ndarray, n: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Cut rows in time order into n + 1 stretches; the first is never scored.

    Fold k trains on all stretches before the one it scores. Equal times share a stretch, and a
    group goes to the stretch of its latest row, so that no fold has seen a twin of what it scores.

    Returns:
        The fold of each row (-1: first stretch), and for each fold the positions it may not use
        (its future).

    Raises:
        FoldwiseError: an empty time, or too few different times.
    """
    times = time_ranks(values, name)
    if times.max() < n:
        raise FoldwiseError(
            f"column {name!r} (folds.time) has {times.max() + 1} different times, too few for "
            f"{n} folds; lower folds.n"
        )
    before = np.searchsorted(np.sort(times), times)  # rows strictly earlier
    stretch = np.minimum(before * (n + 1) // len(times), n)
    latest = np.zeros(groups.max() + 1, dtype=np.int64)
    np.maximum.at(latest, groups, stretch)
    fold = latest[groups] - 1
    if len(np.unique(fold)) != n + 1:
        raise FoldwiseError(
            f"column {name!r} (folds.time): equal times or duplicate texts leave a fold empty; "
            "lower folds.n or set folds.duplicates: ignore"
        )
    return fold, [np.flatnonzero(fold > k) for k in range(n)]


def latest(
    values: pl.Series, name: str, groups: np.ndarray, fraction: float, key: str, instead: str
) -> np.ndarray:
    """Choose the latest rows, about `fraction` of all; rows of equal time go together.

    Of the times to begin at, the one is taken whose rows from there on come nearest to the
    fraction. A group goes where its latest row goes, so that nothing chosen has a twin in what is
    left.

    Args:
        values: the time of each row.
        name: of the column.
        groups: group of each row, int64 (rows,).
        fraction: share to take, in (0, 1); where that is less than a row, nothing is taken.
        key: of the config, that an error names.
        instead: what to do without such rows, that an error advises.

    Returns:
        Whether each row is taken, bool (rows,).

    Raises:
        FoldwiseError: all times are equal, or groups reach over all of them; or as `time_ranks`.
    """
    times = time_ranks(values, name)
    wanted = int(len(times) * fraction)
    if not wanted:
        return np.zeros(len(times), dtype=bool)
    alike = f"column {name!r} (folds.time) holds one time for all of them"
    rows_from = np.cumsum(np.bincount(times)[::-1])[:-1]  # from the last time on, the last two, ...
    if len(rows_from):
        first = times.max() - int(np.abs(rows_from - wanted).argmin())
        taken: np.ndarray = np.isin(groups, groups[times >= first])
        if not taken.all():
            return taken
        alike = f"duplicate texts reach over all times of column {name!r} (folds.time)"
    raise FoldwiseError(
        f"{key}: {len(times)} rows can't be divided by time: {alike}; give finer times, or "
        f"{instead}"
    )


def time_ranks(values: pl.Series, name: str) -> np.ndarray:
    """Return the rank of each row's time from 0, equal times alike, int64 (rows,).

    Raises:
        FoldwiseError: an empty cell, or times that are neither numbers nor ISO 8601 dates.
    """
    if values.null_count():
        raise FoldwiseError(f"column {name!r} (folds.time) has {values.null_count()} empty cells")
    numbers = values.cast(pl.Float64, strict=False)
    if not numbers.null_count() and numbers.is_finite().all():
        order = numbers.to_numpy()
    else:
        # Parsed, because as text 23:30+02:00 would come after 22:00+00:00, half an hour later.
        cells = values.cast(pl.String).to_list()
        moments = {cell: _moment(cell, name) for cell in dict.fromkeys(cells)}
        order = np.array([moments[cell] for cell in cells])
    ranks: np.ndarray = np.unique(order, return_inverse=True)[1]
    return ranks.astype(np.int64, copy=False)


def with_splitter(
    splitter: Any, label: np.ndarray | None, groups: np.ndarray, n: int, name: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Split with an object that has scikit-learn's `split(X, y, groups)`.

    Returns:
        The fold of each row (-1: never scored), and for each fold the positions it may not use.

    Raises:
        FoldwiseError: the splitter fails, yields another number of folds, names a row that isn't
            there, scores a row twice, or trains on a row it scores.
    """
    size = len(groups)
    fold = np.full(size, -1, dtype=np.int64)
    idle: list[np.ndarray] = []
    try:
        pairs = [
            (np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64))
            for train, test in splitter.split(np.zeros((size, 1)), label, groups)
        ]
    except Exception as error:  # whatever a user's class raises is the input's fault
        raise FoldwiseError(f"folds.strategy {name}: split() failed: {error}") from error
    if len(pairs) != n:
        raise FoldwiseError(f"folds.strategy {name} yields {len(pairs)} folds, but folds.n is {n}")
    for k, (train, test) in enumerate(pairs):
        if not len(train) or not len(test):
            raise FoldwiseError(f"folds.strategy {name}: fold {k + 1} is empty on one side")
        if min(train.min(), test.min()) < 0 or max(train.max(), test.max()) >= size:
            raise FoldwiseError(
                f"folds.strategy {name}: fold {k + 1} names a row that isn't there; positions go "
                f"from 0 to {size - 1}"
            )
        if (fold[test] >= 0).any() or len(np.unique(test)) != len(test):
            raise FoldwiseError(f"folds.strategy {name} scores a row in more than one fold")
        if np.isin(train, test).any():
            raise FoldwiseError(f"folds.strategy {name}: fold {k + 1} trains on rows it scores")
        fold[test] = k
        idle.append(np.setdiff1d(np.arange(size), np.concatenate([train, test])))
    return fold, idle


def _by_group(groups: np.ndarray, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    # Groups of several rows, and the rows that are alone in theirs; both in random order.
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    lone = order[starts[sizes == 1]]
    several = [
        order[start : start + size]
        for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True)
    ]
    return [several[i] for i in rng.permutation(len(several))], rng.permutation(lone)


def _share(sizes: np.ndarray, fraction: float) -> np.ndarray:
    share: np.ndarray = np.floor(sizes * fraction + 0.5)
    return share.astype(np.int64)


def _moment(cell: str, name: str) -> int:
    # Microseconds since 1970; a time without an offset counts as UTC.
    try:
        if not re.match(r"\d{4}-\d{2}-\d{2}", cell):
            raise ValueError(cell)
        time = datetime.fromisoformat(cell)
    except ValueError:
        raise FoldwiseError(
            f"column {name!r} (folds.time) holds {cell!r}; times are numbers or ISO 8601 dates "
            "such as 2024-01-31"
        ) from None
    time = time.replace(tzinfo=time.tzinfo or UTC)
    return (time - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def _level(base: np.ndarray, extra: int, totals: np.ndarray) -> np.ndarray:
    # Pour `extra` rows onto `base` so that the lowest rise first; odd ones go to small folds.
    low, high = int(base.min()), int(base.min()) + extra
    while low < high:
        middle = (low + high + 1) // 2
        if np.maximum(middle - base, 0).sum() <= extra:
            low = middle
        else:
            high = middle - 1
    share: np.ndarray = np.maximum(low - base, 0)
    rest = extra - int(share.sum())
    at_level = np.flatnonzero(base + share == low)
    share[at_level[np.argsort((totals + share)[at_level], kind="stable")][:rest]] += 1
    return share
