"""Embeddings of categories and numbers against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from foldwise.encoding.tabular import FIRST_SLOT, UNSEEN_SLOT
from foldwise.models.inputs import (
    CategoryEmbeddings,
    LinearNumbers,
    NumberColumns,
    PeriodicNumbers,
    PiecewiseLinearNumbers,
    TabularFeatures,
    TabularTokens,
    embedding_size,
)


@pytest.mark.parametrize(("slots", "size"), [(3, 3), (10, 6), (100, 21), (20_000, 64)])
def test_embeddings_grow_with_the_number_of_slots(slots: int, size: int) -> None:
    assert embedding_size(slots, 64) == size


def test_slots_that_no_training_row_shows_start_at_zero() -> None:
    embeddings = CategoryEmbeddings([5, 4], 64, dropout=0.0)
    first, second = embeddings(torch.tensor([[0, 1], [2, 3]]))
    assert first[0].tolist() == [0.0] * first.shape[1]
    assert second[0].tolist() == [0.0] * second.shape[1]
    assert first[1].abs().min() > 0
    assert embeddings.widths == [first.shape[1], second.shape[1]]


def test_values_are_shown_as_unseen_in_training_only() -> None:
    embeddings = CategoryEmbeddings([50], 4, dropout=0.25)
    with torch.no_grad():
        embeddings.tables[0].weight[UNSEEN_SLOT] = 9.0
    cells = torch.randint(FIRST_SLOT, 50, (4000, 1))
    torch.manual_seed(0)
    hidden = (embeddings(cells)[0] == 9.0).all(dim=1)
    assert 0.22 < hidden.float().mean() < 0.28
    assert not (embeddings.eval()(cells)[0] == 9.0).any()


def by_hand(x: float, edges: list[float], bins: int) -> list[float]:
    """Equation 1 of Gorishniy et al. 2022, bin by bin."""
    encoded = [0.0] * bins
    last = len(edges) - 1
    for t in range(1, len(edges)):
        below, above = edges[t - 1], edges[t]
        if x < below and t > 1:
            encoded[t - 1] = 0.0
        elif x >= above and t < last:
            encoded[t - 1] = 1.0
        else:
            encoded[t - 1] = (x - below) / (above - below)
    return encoded


def test_piecewise_linear_encoding_is_the_papers() -> None:
    edges = [[-1.0, 0.0, 0.5, 2.0], [0.0, 1.0]]
    embedding = PiecewiseLinearNumbers(edges, size=2)
    for x in (-3.0, -1.0, -0.25, 0.0, 0.3, 0.5, 1.9, 2.0, 7.0):
        encoded = embedding.encode(torch.tensor([[x, x]]))[0]
        assert encoded[0].tolist() == pytest.approx(by_hand(x, edges[0], 3), abs=1e-6)
        assert encoded[1].tolist() == pytest.approx(by_hand(x, edges[1], 3), abs=1e-6)


def test_periodic_encoding_is_the_papers() -> None:
    torch.manual_seed(0)
    embedding = PeriodicNumbers(2, frequencies=3, sigma=0.5, size=4)
    numbers = torch.randn(5, 2)
    encoded = embedding.encode(numbers)
    assert encoded.shape == (5, 2, 6)
    for row in range(5):
        for column in range(2):
            angles = [
                2 * math.pi * c * numbers[row, column].item()
                for c in embedding.frequencies[column].tolist()
            ]
            expected = [*map(math.sin, angles), *map(math.cos, angles)]
            assert encoded[row, column].tolist() == pytest.approx(expected, abs=1e-5)
    assert embedding(numbers).shape == (5, 2, 4)
    assert embedding(numbers).min() >= 0


def test_each_column_has_a_linear_layer_of_its_own() -> None:
    embedding = LinearNumbers(3, size=2)
    weight, bias = embedding.linear.weight, embedding.linear.bias
    numbers = torch.randn(4, 3)
    vectors = embedding(numbers)
    for column in range(3):
        expected = numbers[:, column, None] * weight[column, 0] + bias[column]
        torch.testing.assert_close(vectors[:, column], expected)


def test_a_missing_number_is_its_stand_in_and_a_vector_that_says_so() -> None:
    columns = NumberColumns(LinearNumbers(2, size=3), fill=[0.5, -1.0], size=3)
    with torch.no_grad():
        columns.missing.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    gap, known = columns(torch.tensor([[math.nan, 2.0]])), columns(torch.tensor([[0.5, 2.0]]))
    torch.testing.assert_close(gap[0], known[0] + columns.missing[0])
    torch.testing.assert_close(gap[1], known[1])


def test_features_and_tokens_hold_the_same_columns() -> None:
    features = TabularFeatures(
        CategoryEmbeddings([4, 30], 8, dropout=0.0),
        NumberColumns(LinearNumbers(1, size=5), fill=[0.0], size=5),
    )
    categorical, numeric = torch.tensor([[2, 3], [3, 20]]), torch.tensor([[0.1], [math.nan]])
    assert features.widths == [3, 8, 5]
    joined = features(categorical, numeric)
    assert joined.shape == (2, 16)
    tokens = TabularTokens(features, hidden_size=6, initializer_range=0.02)
    found = tokens(categorical, numeric)
    assert found.shape == (2, 3, 6)
    torch.testing.assert_close(found[:, 1], tokens.project[1](joined[:, 3:11]))
