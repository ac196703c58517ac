"""Batches: every row once an epoch, the same order for the same seed, little padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.encoding.batches import TextRows, pad_batch
from foldwise.encoding.text import Frame, TokenStore
from foldwise.training.batching import Sampler, Window, ordered_batches

BERT = Frame(before=(101,), after=(102,), separator=(102,), pad=0, padding_side="right")
BARE = Frame(before=(), after=(), separator=(), pad=9, padding_side="right")

some_lengths = st.lists(st.integers(0, 300), min_size=1, max_size=200).map(np.array)


def sampler(lengths: np.ndarray, seed: Sequence[int] = (0,), **rule: Any) -> Sampler:
    chosen = {"batch_size": None, "tokens_per_batch": None, "accumulate": 1} | rule
    return Sampler(lengths=lengths, rows=len(lengths), seed=seed, **chosen)


def batches(windows: list[Window]) -> list[np.ndarray]:
    return [batch for window in windows for batch in window]


def skewed(rows: int = 4000) -> np.ndarray:
    return np.clip(np.random.default_rng(0).lognormal(4, 0.9, rows), 3, 256).astype(np.int64)


def text_rows(*lengths: int, frame: Frame = BERT, max_length: int = 8, long: str) -> TextRows:
    # Row i holds the ids 10, 11, 12, ... of its length.
    ids = np.concatenate([np.arange(10, 10 + n) for n in lengths]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TextRows(TokenStore(ids, offsets), frame, max_length, long, None)


@settings(max_examples=80, deadline=None)
@given(
    lengths=some_lengths,
    rule=st.one_of(
        st.integers(1, 40).map(lambda n: {"batch_size": n}),
        st.integers(8, 2000).map(lambda n: {"tokens_per_batch": n}),
    ),
    accumulate=st.integers(1, 5),
    epoch=st.integers(0, 5),
)
def test_every_row_comes_exactly_once_an_epoch(
    lengths: np.ndarray, rule: dict[str, int], accumulate: int, epoch: int
) -> None:
    windows = sampler(lengths, **rule, accumulate=accumulate).windows(epoch)
    rows = np.concatenate(batches(windows))
    assert np.sort(rows).tolist() == list(range(len(lengths)))
    assert all(len(batch) for batch in batches(windows))
    assert [len(window) for window in windows[:-1]] == [accumulate] * (len(windows) - 1)
    assert 1 <= len(windows[-1]) <= accumulate


@settings(max_examples=80, deadline=None)
@given(lengths=some_lengths, budget=st.integers(8, 2000), bucketing=st.booleans())
def test_the_token_budget_holds_but_for_a_row_that_exceeds_it_alone(
    lengths: np.ndarray, budget: int, bucketing: bool
) -> None:
    chosen = sampler(lengths, tokens_per_batch=budget, bucketing=bucketing)
    for batch in batches(chosen.windows(0)):
        assert len(batch) * lengths[batch].max() <= budget or len(batch) == 1


def test_the_token_budget_is_filled_in_random_order_without_bucketing() -> None:
    # 32 rows a batch, as many as 512 tokens long, were 16,384 padded tokens at this budget.
    lengths = np.clip(skewed() * 2, 3, 512)
    chosen = sampler(lengths, tokens_per_batch=1024, bucketing=False)
    found = batches(chosen.windows(0))
    assert max(len(batch) * lengths[batch].max() for batch in found) <= 1024
    # Rows come in the order drawn, and a batch ends only where the next row doesn't fit.
    order = np.random.default_rng([0, 0]).permutation(len(lengths)).tolist()
    place = {row: i for i, row in enumerate(order)}
    for batch in found:
        first = place[int(batch[0])]
        assert batch.tolist() == order[first : first + len(batch)]
        after = order[first : first + len(batch) + 1]
        if len(after) > len(batch):
            assert len(after) * lengths[after].max() > 1024


@settings(max_examples=80, deadline=None)
@given(
    lengths=some_lengths,
    budget=st.integers(8, 2000),
    accumulate=st.integers(1, 5),
    bucketing=st.booleans(),
)
def test_every_row_weighs_the_same_in_an_epoch_of_token_budgets(
    lengths: np.ndarray, budget: int, accumulate: int, bucketing: bool
) -> None:
    rule = {"tokens_per_batch": budget, "accumulate": accumulate, "bucketing": bucketing}
    chosen = sampler(lengths, **rule)
    windows = chosen.windows(0)
    weight = np.zeros(len(lengths))
    for window, divisor in zip(windows, chosen.divisors(windows), strict=True):
        weight[np.concatenate(window)] = 1 / divisor
    assert np.ptp(weight) == 0
    # Together they weigh as much as with windows of equal size: one for each step.
    assert weight.sum() == pytest.approx(len(windows))


def test_fixed_batches_are_divided_by_their_own_rows_also_where_the_last_does_not_fill() -> None:
    chosen = sampler(np.arange(1, 23), batch_size=4, accumulate=2)
    windows = chosen.windows(0)
    rows = [sum(map(len, window)) for window in windows]
    assert sorted(rows) == [6, 8, 8]
    assert chosen.divisors(windows) == rows


@settings(max_examples=40, deadline=None)
@given(lengths=some_lengths, size=st.integers(1, 40))
def test_all_batches_but_one_are_full(lengths: np.ndarray, size: int) -> None:
    sizes = [len(batch) for batch in batches(sampler(lengths, batch_size=size).windows(1))]
    full, rest = divmod(len(lengths), size)
    assert sorted(sizes, reverse=True) == [size] * full + ([rest] if rest else [])


def same(one: list[Window], other: list[Window]) -> bool:
    return [b.tolist() for b in batches(one)] == [b.tolist() for b in batches(other)]


@pytest.mark.parametrize("rule", [{"batch_size": 8}, {"tokens_per_batch": 500}])
def test_the_order_follows_from_seed_and_epoch_alone(rule: dict[str, int]) -> None:
    lengths = skewed(300)
    one, other = sampler(lengths, (7, 2), **rule), sampler(lengths, (7, 2), **rule)
    first = one.windows(0)
    one.windows(3)  # asking for another epoch in between changes nothing
    assert same(one.windows(0), first)
    assert same(other.windows(3), one.windows(3))
    assert not same(one.windows(1), first)
    assert not same(sampler(lengths, (7, 3), **rule).windows(0), first)


def test_rows_without_lengths_are_shuffled() -> None:
    plain = Sampler(None, 50, 8, None, 1, (0,))
    rows = np.concatenate(batches(plain.windows(0)))
    assert np.sort(rows).tolist() == list(range(50))
    assert rows.tolist() != list(range(50))
    assert plain.padding(plain.windows(0)) == (0, 0)


def test_batches_come_in_random_order_of_length() -> None:
    lengths = skewed(800)  # one stretch of batches sorted together
    means = [lengths[batch].mean() for batch in batches(sampler(lengths, batch_size=16).windows(0))]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4


def test_no_length_makes_a_row_likelier_to_be_in_the_short_batch() -> None:
    lengths = np.arange(1, 101)
    chosen = sampler(lengths, batch_size=32)  # 3 full batches and one of 4 rows
    times = np.zeros(100)
    for epoch in range(2000):
        (short,) = [batch for batch in batches(chosen.windows(epoch)) if len(batch) == 4]
        times[short] += 1
    # Each row is in it with p = 0.04: 80 times, standard deviation 8.8; 1.9 for a fifth's mean.
    assert np.abs(times - 80).max() < 4.5 * 8.8
    assert np.abs(times.reshape(5, 20).mean(axis=1) - 80).max() < 4 * 1.9


@pytest.mark.parametrize(
    ("rule", "share"), [({"batch_size": 32}, 4), ({"tokens_per_batch": 4096}, 4)]
)
def test_like_lengths_save_most_of_the_padding(rule: dict[str, int], share: float) -> None:
    lengths = skewed()
    bucketed = sampler(lengths, **rule)
    shuffled = Sampler(None, len(lengths), 32, None, 1, (0,))
    tokens, padding = bucketed.padding(bucketed.windows(0))
    assert tokens == lengths.sum()
    _, random_padding = bucketed.padding(shuffled.windows(0))
    assert padding < random_padding / share


def test_padding_counts_what_pad_batch_adds() -> None:
    rows = text_rows(3, 1, 2, 5, long="truncate")
    chosen = sampler(rows.lengths, batch_size=2)
    windows = chosen.windows(0)
    masks = [
        pad_batch([rows[i] for i in batch], BERT)["attention_mask"] for batch in batches(windows)
    ]
    tokens = sum(int(mask.sum()) for mask in masks)
    assert chosen.padding(windows) == (tokens, sum(mask.numel() for mask in masks) - tokens)


@settings(max_examples=40, deadline=None)
@given(lengths=some_lengths, size=st.integers(1, 40))
def test_inference_takes_every_row_once_longest_first(lengths: np.ndarray, size: int) -> None:
    found = ordered_batches(lengths, len(lengths), size)
    order = np.concatenate(found)
    assert np.sort(order).tolist() == list(range(len(lengths)))
    assert lengths[order].tolist() == sorted(lengths, reverse=True)
    assert [len(batch) for batch in found[:-1]] == [size] * (len(found) - 1)


def test_inference_without_lengths_keeps_the_order() -> None:
    assert [batch.tolist() for batch in ordered_batches(None, 5, 2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("long", "frame", "expected"),
    [
        ("truncate", BERT, [101, 10, 11, 12, 13, 14, 15, 102]),
        ("head_tail", BERT, [101, 10, 11, 12, 27, 28, 29, 102]),
        ("truncate", BARE, [10, 11, 12, 13, 14, 15, 16, 17]),
        ("head_tail", BARE, [10, 11, 12, 13, 26, 27, 28, 29]),
    ],
)
def test_long_texts_are_cut_and_framed(long: str, frame: Frame, expected: list[int]) -> None:
    rows = text_rows(20, 3, long=long, frame=frame)
    assert rows[0][0].tolist() == expected
    assert rows[1][0].tolist() == [*frame.before, 10, 11, 12, *frame.after]
    assert rows.lengths.tolist() == [8, 3 + frame.size]
    assert rows.cut.tolist() == [12 + frame.size, 0]


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(0, 30),
    max_length=st.integers(4, 20),
    long=st.sampled_from(["truncate", "head_tail"]),
    frame=st.sampled_from([BERT, BARE]),
)
def test_lengths_are_those_of_the_rows(
    length: int, max_length: int, long: str, frame: Frame
) -> None:
    rows = text_rows(length, frame=frame, max_length=max_length, long=long)
    ids, target = rows[0]
    assert len(ids) == rows.lengths[0] <= max_length
    assert ids.dtype == np.int64
    assert target is None
    assert rows.cut[0] == length + frame.size - len(ids)


def test_head_tail_gives_an_odd_token_to_the_head() -> None:
    rows = text_rows(20, max_length=7, long="head_tail")
    assert rows[0][0].tolist() == [101, 10, 11, 12, 28, 29, 102]


@pytest.mark.parametrize(
    ("side", "ids", "mask"),
    [
        ("right", [[5, 6, 7], [8, 9, 9]], [[1, 1, 1], [1, 0, 0]]),
        ("left", [[5, 6, 7], [9, 9, 8]], [[1, 1, 1], [0, 0, 1]]),
    ],
)
def test_rows_are_padded_to_the_longest_on_the_frames_side(
    side: str, ids: list[list[int]], mask: list[list[int]]
) -> None:
    frame = Frame((), (), (), pad=9, padding_side=side)
    batch = pad_batch([(np.array([5, 6, 7]), 1), (np.array([8]), 0)], frame)
    assert batch["input_ids"].tolist() == ids
    assert batch["attention_mask"].tolist() == mask
    assert batch["target"].tolist() == [1, 0]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_rows_without_labels_make_a_batch_without_target() -> None:
    batch = pad_batch([(np.array([5]), None), (np.array([6]), None)], BERT)
    assert sorted(batch) == ["attention_mask", "input_ids"]


def test_rows_without_any_token_make_a_batch_of_padding() -> None:
    batch = pad_batch([(np.empty(0, dtype=np.int64), 0)] * 2, BARE)
    assert batch["input_ids"].tolist() == [[9], [9]]
    assert batch["attention_mask"].tolist() == [[0], [0]]
