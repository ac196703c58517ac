"""Chunks: a document's windows hold all of it in order, none is too long, none is lost unsaid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.encoding.batches import TextRows
from foldwise.encoding.chunks import ChunkRows, narrowest_window, pad_chunks
from foldwise.encoding.text import Frame, TokenStore
from foldwise.training.batching import Sampler, ordered_batches

BERT = Frame(before=(101,), after=(102,), separator=(103,), pad=0, padding_side="right")
LEFT = Frame(before=(), after=(), separator=(103, 104), pad=9, padding_side="left")
SHORT, TEXT = 1_000, 10_000  # ids of a short column and of a text count up from here


def store(lengths: list[int], first: int) -> TokenStore:
    ids = np.concatenate([np.arange(first, first + n) for n in lengths]).astype(np.int32)
    return TokenStore(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def chunk_rows(
    texts: list[int],
    shorts: list[int] | None = None,
    *,
    frame: Frame = BERT,
    max_length: int = 8,
    stride: int = 0,
    max_chunks: int | None = None,
) -> ChunkRows:
    short = None if shorts is None else store(shorts, SHORT)
    text = store(texts, TEXT)
    return ChunkRows(short, text, frame, max_length, stride, max_chunks, None)


def in_text(window: np.ndarray) -> list[int]:
    return [int(i) for i in window if i >= TEXT]


@st.composite
def cut_rows(draw: st.DrawFn, max_chunks: st.SearchStrategy[int | None]) -> ChunkRows:
    frame = draw(st.sampled_from([BERT, LEFT]))
    max_length = draw(st.integers(6, 40))
    shorts = draw(st.none() | st.lists(st.integers(0, 60), min_size=4, max_size=4))
    narrowest = narrowest_window(max_length, frame, short=shorts is not None)
    return chunk_rows(
        draw(st.lists(st.integers(0, 150), min_size=4, max_size=4)),
        shorts,
        frame=frame,
        max_length=max_length,
        stride=draw(st.integers(0, narrowest - 1)),
        max_chunks=draw(max_chunks),
    )


@settings(max_examples=150, deadline=None)
@given(rows=cut_rows(st.none()))
def test_the_windows_hold_the_whole_text_in_order(rows: ChunkRows) -> None:
    for position in range(len(rows)):
        windows, _ = rows[position]
        assert max(map(len, windows)) <= rows.max_length
        seen: list[int] = []
        for window in map(in_text, windows):
            # Each goes on where the one before ended, or earlier, by the stride at least.
            assert window == list(range(window[0], window[0] + len(window))) if window else True
            overlap = seen[-1] + 1 - window[0] if seen else 0
            assert overlap >= (rows.stride if seen else 0)
            seen += window[overlap:]
        assert seen == rows.text[position].tolist()


@settings(max_examples=150, deadline=None)
@given(rows=cut_rows(st.none() | st.integers(1, 5)))
def test_lengths_chunks_and_cut_are_those_of_the_windows(rows: ChunkRows) -> None:
    for position in range(len(rows)):
        windows, _ = rows[position]
        kept = len({*np.concatenate(windows)} - {*rows.frame.before, *rows.frame.after})
        separators = 0 if rows.short is None else len(rows.frame.separator)
        short = 0 if rows.short is None else len(rows.short[position])
        assert rows.lengths[position] == sum(map(len, windows))
        assert rows.chunks[position] == len(windows)
        assert rows.cut[position] == len(rows.text[position]) + short + separators - kept
        assert rows.tokens[position] == kept + rows.cut[position] + rows.frame.size
        if rows.max_chunks is not None:
            assert len(windows) <= rows.max_chunks


@settings(max_examples=100, deadline=None)
@given(
    text=st.integers(0, 40), short=st.integers(0, 40), stride=st.integers(0, 5), more=st.booleans()
)
def test_a_row_that_fits_is_what_truncation_makes_of_it(
    text: int, short: int, stride: int, more: bool
) -> None:
    joined = np.concatenate(
        [SHORT + np.arange(short), BERT.separator, TEXT + np.arange(text)]
    ).astype(np.int32)
    whole = TokenStore(joined, np.array([0, len(joined)]))
    max_length = len(joined) + BERT.size + 7 * more
    rows = chunk_rows([text], [short], max_length=max(max_length, 16), stride=stride)
    (window,), _ = rows[0]
    truncated = TextRows(whole, BERT, max(max_length, 16), "truncate", None)
    assert window.tolist() == truncated[0][0].tolist()
    assert rows.cut.tolist() == [0]


def test_a_row_that_fits_is_one_window_whatever_the_stride() -> None:
    rows = chunk_rows([3, 8, 0], [14, 9, 19], max_length=22, stride=9)
    assert rows.chunks.tolist() == [1, 1, 1]
    assert rows.cut.tolist() == [0, 0, 0]
    assert rows.lengths.tolist() == [20, 20, 22]


def test_short_columns_stand_in_front_of_every_window() -> None:
    windows, target = chunk_rows([9], [2], max_length=9, stride=1)[0]
    assert [w.tolist() for w in windows] == [
        [101, 1000, 1001, 103, 10000, 10001, 10002, 10003, 102],
        [101, 1000, 1001, 103, 10002, 10003, 10004, 10005, 102],
        [101, 1000, 1001, 103, 10005, 10006, 10007, 10008, 102],
    ]
    assert target is None


def test_short_columns_leave_half_of_the_window_to_a_text_that_needs_it() -> None:
    rows = chunk_rows([20, 1], [30, 30], max_length=14)
    first, second = rows[0][0], rows[1][0]
    assert [len(in_text(window)) for window in first] == [6, 6, 6, 6]
    assert second[0].tolist() == [101, *range(1000, 1010), 103, 10000, 102]
    assert rows.cut.tolist() == [25, 20]


def test_a_cap_cuts_the_end_and_says_how_much() -> None:
    rows = chunk_rows([30, 12], max_length=8, stride=2, max_chunks=3)
    windows, _ = rows[0]
    assert [in_text(w)[0] - TEXT for w in windows] == [0, 4, 8]
    assert rows.cut.tolist() == [30 - 14, 0]
    assert rows.chunks.tolist() == [3, 3]


def test_windows_of_a_row_are_of_one_width() -> None:
    rows = chunk_rows([21], max_length=12, stride=3)
    assert [len(window) for window in rows[0][0]] == [12, 12, 12]


@pytest.mark.parametrize(
    ("frame", "ids"),
    [
        (BERT, [[101, 10000, 10001, 102], [101, 10001, 10002, 102], [101, 10000, 102, 0]]),
        (LEFT, [[10000, 10001, 10002, 9], [9, 9, 9, 9]]),
    ],
)
def test_windows_are_padded_and_know_their_row(frame: Frame, ids: list[list[int]]) -> None:
    rows = chunk_rows([3, 1], frame=BERT, max_length=4, stride=1)
    items = [(windows, number) for number, (windows, _) in enumerate([rows[0], rows[1]])]
    if frame is LEFT:
        items = [([np.array([5, 6])], 1), ([np.array([7]), np.array([8, 8])], 0)]
        ids = [[5, 6], [9, 7], [8, 8]]
    batch = pad_chunks(items, frame)
    assert batch["input_ids"].tolist() == ids
    assert batch["attention_mask"].sum(1).tolist() == [len(w) for ws, _ in items for w in ws]
    assert batch["chunk_row"].tolist() == ([0, 1, 1] if frame is LEFT else [0, 0, 1])
    assert batch["target"].tolist() == [target for _, target in items]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_the_token_budget_counts_what_the_model_computes() -> None:
    rows = chunk_rows(list(range(0, 400, 3)), max_length=20, stride=4)
    sampler = Sampler(rows.lengths, len(rows), None, 200, 1, (0,), rows.chunks)
    windows = sampler.windows(0)
    computed, real = 0, 0
    for batch in [batch for window in windows for batch in window]:
        mask = pad_chunks([rows[i] for i in batch], BERT)["attention_mask"]
        assert mask.numel() <= 200 or len(batch) == 1
        computed, real = computed + mask.numel(), real + int(mask.sum())
    assert sampler.padding(windows) == (real, computed - real)
    assert computed < 1.05 * real  # rows of several windows need no padding


def test_inference_takes_no_more_windows_at_once_than_rows_otherwise() -> None:
    rows = chunk_rows([10, 300, 20, 5, 90], max_length=12)
    batches = ordered_batches(rows.lengths, len(rows), 11, rows.chunks)
    assert [batch.tolist() for batch in batches] == [[1], [4, 2], [0, 3]]
    assert rows.chunks.tolist() == [1, 30, 2, 1, 9]
