"""What a constant, a lookup and the linear model say: by hand-made tables with known answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from sklearn.metrics import r2_score, roc_auc_score

from foldwise.config.grammar import Part
from foldwise.config.schema import Config
from foldwise.members.constant import Constant, Median
from foldwise.members.linear import Linear
from foldwise.members.lookup import Lookup
from foldwise.members.member import Columns
from foldwise.members.regression import LinearModel
from foldwise.members.roster import build_member
from foldwise.parts.usercode import UserCode
from foldwise.preparation.resolve import resolve
from members.test_members import COLUMNS, MADE, table


def predicted(member: Any, train: pl.DataFrame, target: np.ndarray, new: pl.DataFrame) -> Any:
    member.fit(train, target, np.zeros(len(target), dtype=bool))
    return member.predict(new)


def linear(holds: Any, n_outputs: int, **columns: Any) -> Linear:
    return Linear(
        holds, n_outputs, Columns(**{"text": (), "categorical": (), "numeric": ()} | columns), 0
    )


def values(rows: int = 60) -> tuple[pl.DataFrame, np.ndarray]:
    random = np.random.default_rng(0)
    place = random.integers(0, 3, rows)
    frame = pl.DataFrame(
        {
            "story": np.array(["small cheap hut", "nice old flat", "huge dear house"])[place],
            "kind": np.array(["a", "b", "c"])[place],
            "postcode": [f"p{i}" for i in range(rows)],
            "size": random.normal(size=rows),
        }
    )
    return frame, place * 100.0 + random.normal(size=rows)


def test_a_constant_gives_every_row_the_class_frequencies() -> None:
    rows, _ = table(4)
    made = predicted(Constant(3), rows, np.array([0, 0, 2, 0]), rows[:2])
    np.testing.assert_array_equal(made, [[0.75, 0, 0.25]] * 2)


def test_constants_of_numbers_are_mean_and_median_and_of_labels_their_shares() -> None:
    rows, _ = table(4)
    target = np.array([[1.0], [2.0], [6.0], [11.0]])
    assert predicted(Constant(1), rows, target, rows[:1]).tolist() == [[5.0]]
    assert predicted(Median(1), rows, target, rows[:1]).tolist() == [[4.0]]
    labels = np.array([[1.0, 0], [1, 0], [1, 0], [0, 0]])
    assert predicted(Constant(2), rows, labels, rows[:1]).tolist() == [[0.75, 0.0]]


def test_a_lookup_of_the_right_column_predicts_new_rows() -> None:
    train, target = table(90)
    new, truth = table(60, seed=1)
    made = predicted(Lookup(3, COLUMNS, seed=0), train, target, new)
    assert (made.argmax(axis=1) == truth).mean() > 0.7


def test_a_lookup_of_numbers_gives_the_mean_of_the_category() -> None:
    frame, numbers = values()
    member = Lookup(1, Columns((), ("postcode", "kind"), ()), seed=0)
    made = predicted(member, frame[:30], numbers[:30, None], frame[30:])[:, 0]
    assert member.column == "kind"
    kinds = frame["kind"].to_numpy()
    expected = [numbers[:30][kinds[:30] == kind].mean() for kind in kinds[30:]]
    np.testing.assert_allclose(made, expected)


def test_a_value_that_training_lacks_gets_the_mean_of_all() -> None:
    frame = pl.DataFrame({"kind": ["a", "a", None, "b", None]})
    member = Lookup(1, Columns((), ("kind",), ()), seed=0)
    made = predicted(member, frame[:3], np.array([[1.0], [3.0], [8.0]]), frame[3:])
    assert made[:, 0].tolist() == [4.0, 8.0]


def test_the_linear_model_learns_from_each_kind_of_column() -> None:
    train, target = table(150)
    new, truth = table(150, seed=1)

    def accuracy(**columns: Any) -> float:
        made = predicted(linear("label", 3, **columns), train, target, new)
        return float((made.argmax(axis=1) == truth).mean())

    assert accuracy(text=("story",)) == 1.0
    assert accuracy(categorical=("channel",)) > 0.75
    assert accuracy(numeric=("amount",)) > 0.5


def test_the_linear_model_reads_the_words_inside_categories() -> None:
    train = pl.DataFrame({"issue": ["late fee card", "late fee loan", "lost card"] * 5})
    new = pl.DataFrame({"issue": ["stolen card", "stolen loan"]})  # as values, never seen
    made = predicted(
        linear("label", 2, categorical=("issue",)), train, np.array([0, 1, 0] * 5), new
    )
    assert made.argmax(axis=1).tolist() == [0, 1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fill", ["mean", "median", "zero", "drop"])
def test_the_linear_model_takes_nulls_new_categories_and_integers(fill: str) -> None:
    train, target = table(60)
    blank = pl.when(pl.int_range(60) % 3 == 0).then(None)
    told = ("story", "channel", "postcode", "amount")
    train = train.with_columns(blank.otherwise(pl.col(c)).alias(c) for c in told)
    train = train.with_columns(pl.col("amount").round().cast(pl.Int64))
    new = pl.DataFrame(
        {
            "story": [None, "a mortgage"],
            "channel": [None, "pigeon"],
            "postcode": [None, "x"],
            "amount": [None, 1],
        }
    )
    member = Linear("label", 3, Columns(("story",), ("channel", "postcode"), ("amount",), fill), 0)
    made = predicted(member, train, target, new)
    np.testing.assert_allclose(made.sum(axis=1), 1)
    assert made[1].argmax() == 2


@pytest.mark.parametrize(
    ("fill", "filled"), [("mean", 3.0), ("median", 2.0), ("zero", 0.0)], ids=["mean", "median", "0"]
)
def test_null_numbers_are_filled_from_the_training_rows(fill: str, filled: float) -> None:
    train = pl.DataFrame({"amount": [0.0, 1.0, 2.0, 3.0, 9.0, None]})
    new = pl.DataFrame({"amount": [None, filled, 100.0]})
    member = linear("label", 2, numeric=("amount",), fill=fill)
    made = predicted(member, train, np.array([0, 0, 1, 1, 1, 0]), new)
    np.testing.assert_allclose(made[0], made[1])
    assert made[2, 1] != pytest.approx(made[1, 1])


@pytest.mark.filterwarnings("error")
def test_without_a_shared_word_or_a_second_class_there_are_the_class_frequencies() -> None:
    train = pl.DataFrame({"story": ["", "alpha", "beta", None]})
    new = pl.DataFrame({"story": ["alpha"]})
    member = linear("label", 2, text=("story",))
    np.testing.assert_array_equal(
        predicted(member, train, np.array([0, 0, 0, 1]), new), [[0.75, 0.25]]
    )
    np.testing.assert_array_equal(predicted(member, train, np.ones(4, dtype=int), new), [[0, 1]])


def test_the_linear_model_without_columns_says_what_a_constant_says() -> None:
    train, target = table(20)
    for holds, given in (("label", target), ("number", target[:, None] * 1.0)):
        n_outputs = 3 if holds == "label" else 1
        made = predicted(linear(holds, n_outputs), train, given, train)
        np.testing.assert_array_equal(made, predicted(Constant(n_outputs), train, given, train))


def test_words_predict_numbers_and_labels() -> None:
    frame, numbers = values()
    columns = {"text": ("story",), "categorical": ("kind", "postcode"), "numeric": ("size",)}
    member = linear("number", 1, **columns)
    made = predicted(member, frame[:30], numbers[:30, None], frame[30:])[:, 0]
    assert r2_score(numbers[30:], made) > 0.9
    labels = np.stack([numbers > 50, numbers < 50, numbers > -1000], axis=1).astype(float)
    made = predicted(linear("labels", 3, **columns), frame[:30], labels[:30], frame[30:])
    assert ((made >= 0) & (made <= 1)).all()
    assert roc_auc_score(labels[30:, 0], made[:, 0]) == 1
    assert (made[:, 2] == 1).all()  # what every training row has


def log_loss(made: Any, target: np.ndarray) -> float:
    return float(-np.log(made[np.arange(len(target)), target]).mean())


@pytest.mark.parametrize("signal", [0.0, 30.0])
def test_the_penalty_of_classes_suits_the_rows(signal: float) -> None:
    # Where nothing is to be learnt a weak penalty learns the noise; where all is, a strong one
    # learns too little.
    random = np.random.default_rng(0)
    features = random.normal(size=(600, 200)) / 200**0.5
    features[:, 0] = random.normal(size=600)
    target = (random.random(600) < expit(signal * features[:, 0])).astype(np.int64)
    losses = {}
    for strength in (None, 0.1, 30.0):
        model = LinearModel("label", 2, seed=0, strength=strength)
        model.fit(features[:300], target[:300])
        losses[strength] = log_loss(model.predict(features[300:]), target[300:])
    wrong, right = (0.1, 30.0) if signal else (30.0, 0.1)
    assert losses[None] < losses[wrong] - 0.02
    assert losses[None] < losses[right] + 0.02


@pytest.mark.parametrize(("weights", "expected"), [("none", 0.9), ("sqrt", 0.5), ("auto", 0.5)])
def test_classes_weigh_the_same_unless_the_config_weighs_none(
    make_config: Callable[..., Config], weights: str, expected: float
) -> None:
    config = resolve(make_config(loss={"class_weights": weights}))
    member = build_member(Part(name="linear"), config, UserCode(), "label", 2)
    rows = pl.DataFrame({"text": ["the same words"] * 100})
    made = predicted(member, rows, np.array([0] * 90 + [1] * 10), rows[:1])
    assert made[0, 0] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", list(MADE))
def test_same_arguments_same_bytes(name: str) -> None:
    train, target = table(90)
    new, _ = table(20, seed=1)
    first, again = (predicted(MADE[name]("label", 3), train, target, new) for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_members_say_which_categories_they_have_learnt_from() -> None:
    rows = pl.DataFrame(
        {"kind": ["a", "a", "b", None, None], "text": ["w"] * 5, "amount": [1.0] * 5}
    )
    columns = Columns(("text",), ("kind",), ("amount",))
    target, inner = np.array([0, 1, 0, 1, 0]), np.zeros(5, dtype=bool)
    linear, lookup = Linear("label", 2, columns, 0), Lookup(2, columns, 0)
    for member in (linear, lookup):
        member.fit(rows, target, inner)
    assert linear.categories_known() == {"kind": ["a", "missing"]}  # once is too rarely
    assert lookup.categories_known() == {"kind": ["a", "b", None]}
