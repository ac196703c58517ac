import numpy as np
import polars as pl
import pytest

from foldwise.evaluation.baselines import baseline_names, baseline_predictions, lookup_column

TEXT, CATEGORICAL, NUMERIC = ["story"], ["channel", "postcode"], ["amount"]


def _table(rows: int, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Three classes told apart by a word of the story, and mostly by the channel."""
    random = np.random.default_rng(seed)
    target = random.integers(0, 3, rows)
    told = np.array(["card", "loan", "mortgage"])[target]
    noise = random.choice(["please", "help", "me", "now", "thanks"], (rows, 4))
    channel = np.where(random.random(rows) < 0.8, target, random.integers(0, 3, rows))
    frame = pl.DataFrame(
        {
            "story": [" ".join([*words, word]) for words, word in zip(noise, told, strict=True)],
            "channel": np.array(["web", "phone", "mail"])[channel],
            "postcode": [f"p{i}" for i in range(rows)],  # a new value in every row
            "amount": random.normal(size=rows) + target,
        }
    )
    return frame, target


def _predict(name: str, train: pl.DataFrame, score: pl.DataFrame, target: np.ndarray, **changed):
    arguments = {
        "n_classes": 3,
        "text": TEXT,
        "categorical": CATEGORICAL,
        "numeric": NUMERIC,
        "numeric_fill": "mean",
        "seed": 0,
    } | changed
    return baseline_predictions(name, train, score, target, **arguments)


@pytest.mark.parametrize(
    ("text", "categorical", "numeric", "names"),
    [
        (TEXT, CATEGORICAL, NUMERIC, ("majority", "lookup", "tfidf")),
        (TEXT, [], [], ("majority", "tfidf")),
        ([], [], NUMERIC, ("majority", "tfidf")),
        ([], [], [], ("majority",)),
    ],
)
def test_only_baselines_with_columns_to_learn_from_are_named(
    text: list[str], categorical: list[str], numeric: list[str], names: tuple[str, ...]
) -> None:
    assert baseline_names(text, categorical, numeric) == names


@pytest.mark.parametrize("name", ["majority", "lookup", "tfidf"])
def test_probabilities_sum_to_one_and_are_zero_for_classes_absent_from_training(name: str) -> None:
    train, target = _table(60)
    score, _ = _table(20, seed=1)
    # Ids 0, 2 and 4 of 5 occur.
    probabilities = _predict(name, train, score, target * 2, n_classes=5)
    assert probabilities.shape == (20, 5)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities[:, [1, 3]] == 0).all()
    assert (probabilities[:, [0, 2, 4]].sum(axis=0) > 0).all()


def test_majority_gives_every_row_the_class_frequencies() -> None:
    score, _ = _table(2)
    train, _ = _table(4)
    probabilities = _predict("majority", train, score, np.array([0, 0, 2, 0]))
    np.testing.assert_array_equal(probabilities, [[0.75, 0, 0.25]] * 2)


def test_lookup_gives_the_frequencies_of_the_rows_value_and_of_all_rows_for_a_new_one() -> None:
    train = pl.DataFrame({"channel": ["web", "web", "mail", None]})
    score = pl.DataFrame({"channel": ["web", "pigeon", None, "mail"]})
    probabilities = _predict(
        "lookup", train, score, np.array([0, 1, 1, 2]), categorical=["channel"], text=[], numeric=[]
    )
    expected = [[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0, 1], [0, 1, 0]]
    np.testing.assert_array_equal(probabilities, expected)


def test_lookup_chooses_its_column_on_held_out_training_rows() -> None:
    train, target = _table(90)
    # Within the training rows a unique postcode is always right; on rows held out, never.
    assert lookup_column(train, target, 3, ["postcode", "channel"], seed=0) == "channel"
    score, truth = _table(60, seed=1)
    probabilities = _predict("lookup", train, score, target)
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.7


def test_the_rows_to_score_change_nothing_that_is_fitted() -> None:
    train, target = _table(60)
    score, _ = _table(20, seed=1)
    for name in ("majority", "lookup", "tfidf"):
        alone = np.vstack([_predict(name, train, score[i : i + 1], target) for i in range(20)])
        np.testing.assert_allclose(_predict(name, train, score, target), alone, atol=1e-12)


def test_tfidf_learns_from_each_kind_of_column() -> None:
    train, target = _table(150)
    score, truth = _table(150, seed=1)
    nothing = {"text": [], "categorical": [], "numeric": []}

    def accuracy(**columns: list[str]) -> float:
        probabilities = _predict("tfidf", train, score, target, **(nothing | columns))
        return (probabilities.argmax(axis=1) == truth).mean()

    assert accuracy(text=TEXT) == 1.0
    assert accuracy(categorical=["channel"]) > 0.75
    assert accuracy(numeric=NUMERIC) > 0.5


def test_tfidf_reads_the_words_inside_categories() -> None:
    train = pl.DataFrame({"issue": ["late fee card", "late fee loan", "lost card"] * 5})
    target = np.array([0, 1, 0] * 5)
    score = pl.DataFrame({"issue": ["stolen card", "stolen loan"]})  # as values, never seen
    probabilities = _predict(
        "tfidf", train, score, target, n_classes=2, text=[], categorical=["issue"], numeric=[]
    )
    assert probabilities.argmax(axis=1).tolist() == [0, 1]


@pytest.mark.filterwarnings("error")
def test_tfidf_takes_nulls_new_categories_and_integers() -> None:
    train, target = _table(60)
    blank = pl.when(pl.int_range(60) % 3 == 0).then(None)
    train = train.with_columns(blank.otherwise(pl.col(c)).alias(c) for c in train.columns)
    train = train.with_columns(pl.col("amount").round().cast(pl.Int64))
    score = pl.DataFrame(
        {
            "story": [None, "a mortgage"],
            "channel": [None, "pigeon"],
            "postcode": [None, "x"],
            "amount": [None, 1],
        }
    )
    for fill in ("mean", "median", "zero", "drop"):
        probabilities = _predict("tfidf", train, score, target, numeric_fill=fill)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert probabilities[1].argmax() == 2


@pytest.mark.parametrize(
    ("fill", "filled"), [("mean", 3.0), ("median", 2.0), ("zero", 0.0)], ids=["mean", "median", "0"]
)
def test_null_numbers_are_filled_from_the_training_rows(fill: str, filled: float) -> None:
    train = pl.DataFrame({"amount": [0.0, 1.0, 2.0, 3.0, 9.0, None]})
    score = pl.DataFrame({"amount": [None, filled, 100.0]})
    probabilities = _predict(
        "tfidf",
        train,
        score,
        np.array([0, 0, 1, 1, 1, 0]),
        n_classes=2,
        text=[],
        categorical=[],
        numeric=["amount"],
        numeric_fill=fill,
    )
    np.testing.assert_allclose(probabilities[0], probabilities[1])


@pytest.mark.filterwarnings("error")
def test_tfidf_without_a_shared_word_or_a_second_class_gives_the_class_frequencies() -> None:
    train = pl.DataFrame({"story": ["", "alpha", "beta", None]})
    score = pl.DataFrame({"story": ["alpha"]})
    columns = {"n_classes": 2, "categorical": [], "numeric": []}
    no_word = _predict("tfidf", train, score, np.array([0, 0, 0, 1]), **columns)
    np.testing.assert_array_equal(no_word, [[0.75, 0.25]])
    one_class = _predict("tfidf", train, score, np.array([1, 1, 1, 1]), **columns)
    np.testing.assert_array_equal(one_class, [[0, 1]])


def test_same_arguments_same_bytes() -> None:
    train, target = _table(60)
    score, _ = _table(20, seed=1)
    for name in ("lookup", "tfidf"):
        first, again = (_predict(name, train, score, target) for _ in range(2))
        assert first.tobytes() == again.tobytes()
