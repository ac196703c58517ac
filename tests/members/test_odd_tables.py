"""Members on tables that are odd, tiny, huge or hostile: they fit, predict, and come back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foldwise.members.boosting import Boosting
from foldwise.members.embedding import Embedding
from foldwise.members.linear import Linear
from foldwise.members.lookup import Lookup
from foldwise.members.member import EMBEDDING, Columns
from foldwise.members.store import restore, save_state
from members.test_members import MADE

STRANGE = (
    "",
    "missing",
    "a\x00b",
    '"quoted"',
    "line\nbreak",
    "\u202e",
    "💣",
    "None",
    "nan",
    "=1+1",
)
NAMES = list(MADE)


def rows_of(n: int, **changed: Any) -> pl.DataFrame:
    """A table of every kind of column, with one of them changed."""
    random = np.random.default_rng(n)
    columns: dict[str, Any] = {
        "story": [f"word{i % 7} other{i % 3} same" for i in range(n)],
        "channel": [("web", "mail")[i % 2] for i in range(n)],
        "postcode": [f"p{i}" for i in range(n)],
        "amount": random.normal(size=n),
        EMBEDDING: random.normal(size=(n, 6)).astype(np.float32),
    }
    return pl.DataFrame({name: changed.get(name, column) for name, column in columns.items()})


def check(
    name: str, holds: str, train: pl.DataFrame, target: np.ndarray, folder: Path, **given: Any
) -> np.ndarray:
    """Fit, predict, save, restore without a warning; return predictions of the training rows."""
    n_outputs = given.get("n_outputs") or (int(target.max()) + 1 if target.ndim == 1 else 0)
    n_outputs = n_outputs or target.shape[1]
    inner = given.get("inner", np.arange(len(target)) % 5 == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        member = MADE[name](holds, n_outputs)
        member.fit(train, target, inner)
        made = member.predict(train)
        save_state(folder / name, member.state())
        again = MADE[name](holds, n_outputs)
        restore(again, folder / name)
        assert again.predict(train).tobytes() == made.tobytes()
    assert made.shape == (len(target), n_outputs)
    assert np.isfinite(made).all()
    if holds == "label":
        np.testing.assert_allclose(made.sum(axis=1), 1)
    if holds != "number":
        assert ((made >= 0) & (made <= 1)).all()
    return made


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("holds", ["label", "labels", "number"])
@pytest.mark.parametrize("name", NAMES)
def test_a_few_rows_are_enough(name: str, holds: str, rows: int, tmp_path: Path) -> None:
    ids = np.arange(rows) % 2
    target = ids if holds == "label" else np.stack([ids], axis=1).astype(np.float64)
    check(name, holds, rows_of(rows), target, tmp_path, n_outputs=2 if holds == "label" else 1)


@pytest.mark.parametrize(
    "column",
    [
        {"story": pl.Series([None] * 60, dtype=pl.String)},
        {"story": [""] * 60},
        {"story": ["x" * 1_000_000, "word " * 200_000] + ["word"] * 58},
        {"channel": pl.Series([None] * 60, dtype=pl.String)},
        {"channel": ["one"] * 60},
        {"channel": [STRANGE[i % len(STRANGE)] for i in range(60)]},
        {"channel": [i % 3 for i in range(60)]},
        {"amount": pl.Series([None] * 60, dtype=pl.Float64)},
        {"amount": [0.1] * 60},
        {"amount": [1e300 * (i % 3) for i in range(60)]},
        {"amount": [(-1.7e308, 1.7e308)[i % 2] for i in range(60)]},
        {"amount": [5e-324 * (i % 3) for i in range(60)]},
        {"amount": [float("nan"), float("inf"), -float("inf"), 1.0, 2.0] * 12},
        {"amount": [i % 2 == 0 for i in range(60)]},
        {EMBEDDING: np.full((60, 6), 0.1, dtype=np.float32)},
        {EMBEDDING: np.zeros((60, 6), dtype=np.float32)},
    ],
    ids=lambda column: f"{next(iter(column))}-{str(next(iter(column.values())))[:24]!r}",
)
@pytest.mark.parametrize("name", ["lookup", "linear", "embedding", "network", "boosting"])
def test_a_column_may_be_anything(name: str, column: dict[str, Any], tmp_path: Path) -> None:
    rows, ids = rows_of(60, **column), np.arange(60) % 3
    check(name, "label", rows, ids, tmp_path)
    check(name, "number", rows, ids[:, None].astype(np.float64), tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inner", ["none", "all", "a whole class", "all of two classes"])
def test_inner_rows_may_be_any(name: str, inner: str, tmp_path: Path) -> None:
    ids = np.arange(90) % 3
    chosen = {
        "none": ids < 0,
        "all": ids >= 0,
        "a whole class": ids == 1,
        "all of two classes": ids >= 1,
    }[inner]
    made = check(name, "label", rows_of(90), ids, tmp_path, inner=chosen)
    assert (made.mean(axis=0) > 0.01).all()  # a class of the training rows, inner or not, is one


@pytest.mark.parametrize("name", NAMES)
def test_labels_without_a_positive_or_a_negative_stay_so(name: str, tmp_path: Path) -> None:
    target = np.stack([np.zeros(60), np.ones(60), np.arange(60) % 2], axis=1)
    made = check(name, "labels", rows_of(60), target, tmp_path)
    np.testing.assert_allclose(made[:, :2], [[0, 1]] * 60, atol=1e-6 if name == "median" else 0)


@pytest.mark.parametrize("size", [1e300, 1e-300])
@pytest.mark.parametrize(
    "name", ["constant", "lookup", "linear", "embedding", "network", "boosting"]
)
def test_numbers_of_any_size_are_learned_alike(name: str, size: float, tmp_path: Path) -> None:
    ids = np.arange(60) % 2
    rows = rows_of(60)
    plain = check(name, "number", rows, ids[:, None].astype(np.float64), tmp_path)
    made = check(name, "number", rows, ids[:, None] * size, tmp_path)
    # Trees split where rounding says: what they learn is alike, not to the digit on every machine.
    np.testing.assert_allclose(made / size, plain, atol=1e-2)


def test_a_new_number_far_off_stays_finite() -> None:
    train, ids = rows_of(60), np.arange(60) % 3
    for name in NAMES:
        member = MADE[name]("label", 3)
        member.fit(train, ids, ids == 5)
        made = member.predict(train.with_columns(pl.lit(-1.7e308).alias("amount")))
        np.testing.assert_allclose(made.sum(axis=1), 1)


def test_a_lookup_of_many_values_and_classes_takes_no_room_for_their_product(
    tmp_path: Path,
) -> None:
    n = 100_000
    columns = Columns((), ("id",), ())
    rows = pl.DataFrame({"id": [f"v{i}" for i in range(n)]})
    member = Lookup(300, columns, seed=0)
    member.fit(rows, np.arange(n) % 300, np.zeros(n, dtype=bool))
    assert member.means.data.nbytes < 1_000_000  # 240 MB as a table
    save_state(tmp_path, member.state())
    again = Lookup(300, columns, seed=0)
    restore(again, tmp_path)
    part = rows[5:400]
    assert again.predict(part).tobytes() == member.predict(part).tobytes()
    assert (again.predict(part).argmax(axis=1) == np.arange(5, 400) % 300).all()


@pytest.mark.parametrize("made", [Linear, Embedding, Boosting])
def test_300_classes_of_two_rows_each(made: Any, tmp_path: Path) -> None:
    columns = Columns(("story",), ("channel",), ("amount",))
    member = made("label", 300, columns, 0)
    member.fit(rows_of(600), np.arange(600) % 300, np.arange(600) < 60)
    found = member.predict(rows_of(600))
    np.testing.assert_allclose(found.sum(axis=1), 1)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cells=st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            st.none() | st.sampled_from(STRANGE),
            st.none() | st.floats(),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=50,
    ),
    holds=st.sampled_from(["label", "labels", "number"]),
)
@pytest.mark.parametrize("name", ["lookup", "linear", "boosting"])
def test_any_table_is_fitted_predicted_and_restored(
    name: str, cells: list[Any], holds: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    story, channel, amount, ids = map(list, zip(*cells, strict=True))
    rows = rows_of(
        len(cells),
        story=pl.Series(story, dtype=pl.String),
        channel=pl.Series(channel, dtype=pl.String),
        amount=pl.Series(amount, dtype=pl.Float64),
    )
    known = np.array(ids)
    target = {
        "label": known,
        "labels": np.stack([known == 0, known >= 2], axis=1).astype(np.float64),
        "number": known[:, None] * 1e6,
    }[holds]
    check(name, holds, rows, target, tmp_path_factory.mktemp("odd"), n_outputs=0 or None)
