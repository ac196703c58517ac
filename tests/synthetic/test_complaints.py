import hashlib
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from foldwise.errors import FoldwiseError
from foldwise.synthetic.complaints import COLUMNS, MIN_ROWS, complaints

TEXT = "Consumer complaint narrative"


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return complaints(2000)


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return set(zip(words, words[1:], words[2:], strict=False))


def alike(a: str, b: str) -> bool:
    first, second = shingles(a), shingles(b)
    return a == b or len(first & second) >= 0.8 * len(first | second) > 0


def test_golden_bytes_of_500_rows():
    csv_bytes = complaints(500).write_csv().encode()
    assert (
        hashlib.sha256(csv_bytes).hexdigest()
        == "bea9fbcb4e70ac0b324239fb1ed920f42dba61b057a14d8aca9df800b0b13b9a"
    )


def test_same_seed_same_table_other_seed_other_table():
    assert complaints(300, seed=7).equals(complaints(300, seed=7))
    assert not complaints(300, seed=7).equals(complaints(300, seed=8))


@pytest.mark.parametrize("rows", [MIN_ROWS, 121, 400, 2000])
def test_gives_the_rows_asked_for_in_18_products_as_strings(rows):
    table = complaints(rows)
    assert table.height == rows
    assert table.schema == dict.fromkeys(COLUMNS, pl.String)
    assert table["Product"].n_unique() == 18
    assert table["Complaint ID"].n_unique() == rows


@pytest.mark.parametrize("rows", [MIN_ROWS - 1, 0, -5])
def test_too_few_rows_are_refused_with_the_minimum(rows):
    with pytest.raises(FoldwiseError) as caught:
        complaints(rows)
    assert str(caught.value) == (
        "the synthetic sample has 18 products with enough letters of each for 3 folds, which takes "
        f"120 rows, not {rows}: ask for 120 or more"
    )


@pytest.mark.parametrize(("rows", "seed"), [(MIN_ROWS, 0), (400, 42), (400, 1), (2000, 42)])
def test_every_product_has_six_letters_that_are_not_copies_of_each_other(rows, seed):
    letters = defaultdict(list)
    for product, text in complaints(rows, seed).select("Product", TEXT).drop_nulls().iter_rows():
        if len(letters[product]) < 6 and not any(alike(text, seen) for seen in letters[product]):
            letters[product].append(text)
    assert {product: len(texts) for product, texts in letters.items()} == dict.fromkeys(letters, 6)


def test_sizes_fall_from_a_seventh_to_a_hundredth(table):
    sizes = sorted(Counter(table["Product"]).values(), reverse=True)
    assert 0.13 < sizes[0] / 2000 < 0.17
    assert 20 <= sizes[-1] <= 40


def test_missing_cells_are_where_and_as_many_as_described(table):
    missing = {c: n for c, n in table.null_count().row(0, named=True).items() if n}
    assert set(missing) == {"Sub-issue", "ZIP code", TEXT}
    assert 160 < missing["Sub-issue"] < 240
    assert 40 < missing["ZIP code"] < 85
    assert missing[TEXT] == 8
    assert not (table.drop_nulls() == "").select(pl.any_horizontal(pl.all().any())).item()


def test_zip_codes_have_leading_zeros_and_masks(table):
    codes = table["ZIP code"].drop_nulls()
    assert codes.str.contains(r"^(\d{5}|\d{3}XX)$").all()
    assert 0.5 < codes.str.ends_with("XX").mean() < 0.7
    assert codes.str.starts_with("0").sum() > 50


def test_lengths_are_skewed_from_ten_to_250_words(table):
    words = table[TEXT].drop_nulls().str.split(" ").list.len()
    low, median, high = (float(words.quantile(q)) for q in (0.01, 0.5, 0.99))
    assert low < 16
    assert 40 < median < 80
    assert high > 190
    assert words.mean() > 1.2 * median


def test_one_row_in_twenty_copies_a_template_letter_and_few_copies_change_label(table):
    # Long letters open the same blocks: the first 8 words after a copy's signature.
    rows = table.select(TEXT, "Product").drop_nulls().rows()
    blocks = defaultdict(list)
    for text, product in rows:
        blocks[" ".join(text.split()[-8:-2])].append((text, product))
    copies = relabelled = exact = 0
    for block in blocks.values():
        for i, (text, product) in enumerate(block):
            earlier = [(t, p) for t, p in block[:i] if alike(text, t)]
            copies += bool(earlier)
            exact += any(text == t for t, _ in earlier)
            relabelled += bool(earlier) and all(product != p for _, p in earlier)
    assert 60 <= copies <= 130
    assert 5 <= exact <= 25
    assert 2 <= relabelled <= 25


def test_complaint_ids_rise_with_the_date(table):
    by_id = table.sort(pl.col("Complaint ID").cast(int))
    assert by_id["Date received"].is_sorted()


def test_text_beats_sub_issue_beats_majority(table):
    table = table.drop_nulls(TEXT)
    products = table["Product"].to_numpy()
    folds = StratifiedKFold(3, shuffle=True, random_state=0)

    def f1_macro(model, features) -> float:
        predicted = cross_val_predict(model, features, products, cv=folds)
        return float(f1_score(products, predicted, average="macro", zero_division=0))

    tfidf = make_pipeline(
        TfidfVectorizer(sublinear_tf=True),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )
    sub_issues = table["Sub-issue"].fill_null("missing").to_numpy()
    looked_up = np.empty(len(products), dtype=object)
    for train, test in folds.split(sub_issues, products):
        seen = defaultdict(Counter)
        for sub_issue, product in zip(sub_issues[train], products[train], strict=True):
            seen[sub_issue][product] += 1
        # A Sub-issue that no training row has tells nothing: the largest product.
        fallback = Counter(products[train]).most_common(1)
        looked_up[test] = [(seen[s].most_common(1) or fallback)[0][0] for s in sub_issues[test]]
    lookup = f1_score(products, looked_up, average="macro", zero_division=0)

    text = f1_macro(tfidf, table[TEXT].to_numpy())
    majority = f1_macro(DummyClassifier(), np.zeros((len(products), 1)))
    assert 0.70 < text < 0.88
    assert 0.40 < lookup < 0.60
    assert majority < 0.05


def test_letters_of_two_events_tell_the_product_by_order_only():
    table = complaints(6000).drop_nulls(TEXT)
    frame = r"I first believed that (.+), but what happened is that (.+?)\."
    pairs = table.select("Product", pl.col(TEXT).str.extract_groups(frame).alias("g")).unnest("g")
    pairs = pairs.drop_nulls()
    # Denied or affirmed, an event stands in the same words; its product is the affirmed one's.
    owners = defaultdict(Counter)
    for product, _, event in pairs.iter_rows():
        owners[event][product] += 1
    right = [owners[yes].most_common(1)[0][0] == product for product, _, yes in pairs.iter_rows()]
    wrong = [
        owners[no].most_common(1)[0][0] == product
        for product, no, _ in pairs.iter_rows()
        if no in owners
    ]
    assert len(right) > 100
    assert np.mean(right) > 0.9
    assert np.mean(wrong) < 0.1
