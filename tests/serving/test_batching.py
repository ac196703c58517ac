"""Requests that wait are labelled together, in one thread, and each gets its own rows back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest

from foldwise.serving.batching import Asked, Batcher
from foldwise.serving.limits import Limits, Refused
from foldwise.serving.meters import Meters


class Model:
    """Labels rows by their number, and stops before each batch until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.explaining = threading.Event()
        self.on = threading.Semaphore(0)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        self.batches.append(rows["n"].to_list())
        self.began.release()
        assert self.go.acquire(timeout=10)
        if -1 in self.batches[-1]:
            raise ValueError("a row that can't be labelled")
        if -2 in self.batches[-1]:
            raise BaseException("a panic")
        return rows.select(prediction=pl.col("n") * 10)

    def explain(self, row: pl.DataFrame, between: Callable[[], object]) -> dict[str, Any]:
        """Do so in three pieces, and say which batches were labelled before each."""
        before = []
        self.explaining.set()
        assert self.on.acquire(timeout=10)
        for _ in range(3):
            between()
            before.append(len(self.batches))
        return {"row": row["n"][0], "before": before}


def rows(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"n": numbers}, schema={"n": pl.Int64})


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Iterator[Batcher]:
    """A batcher that is at work on row 0 while the test asks for more."""
    batcher = Batcher(model, model.explain, Limits(batch_rows=4, queued_rows=6, wait_s=0), Meters())
    batcher.start()
    batcher.ask(rows(0))
    assert model.began.acquire(timeout=10)
    yield batcher
    model.go.release(100)
    batcher.close()


def labels(asked: Asked[pl.DataFrame]) -> list[int]:
    return asked.future.result(timeout=10)["prediction"].to_list()


def test_requests_that_wait_are_one_batch_and_each_gets_its_own_rows(
    batcher: Batcher, model: Model
) -> None:
    asked = [batcher.ask(rows(1, 2)), batcher.ask(rows(3)), batcher.ask(rows(4, 5))]
    model.go.release(3)
    assert [labels(each) for each in asked] == [[10, 20], [30], [40, 50]]
    assert model.batches == [[0], [1, 2, 3], [4, 5]]  # a batch has four rows at most


def test_a_request_with_more_rows_than_a_batch_is_one_of_its_own(
    batcher: Batcher, model: Model
) -> None:
    asked = [batcher.ask(rows(1, 2, 3, 4, 5)), batcher.ask(rows(6))]
    model.go.release(3)
    assert [len(labels(each)) for each in asked] == [5, 1]
    assert model.batches[1:] == [[1, 2, 3, 4, 5], [6]]


def test_one_bad_request_does_not_fail_those_beside_it(batcher: Batcher, model: Model) -> None:
    good, bad, other, panic = (batcher.ask(rows(n)) for n in (1, -1, 2, -2))
    model.go.release(10)
    assert labels(good) == [10]
    assert labels(other) == [20]
    with pytest.raises(ValueError, match="can't be labelled"):
        labels(bad)
    with pytest.raises(RuntimeError, match="a panic"):
        labels(panic)
    assert batcher.ready


def test_a_full_queue_says_when_to_come_back(batcher: Batcher, model: Model) -> None:
    asked = batcher.ask(rows(*range(1, 7)))
    with pytest.raises(Refused, match=r"^6 rows wait already; come back in 1 s$") as caught:
        batcher.ask(rows(7))
    assert caught.value.status == 429
    assert caught.value.headers == {"Retry-After": "1"}
    model.go.release(2)
    assert len(labels(asked)) == 6


def test_what_nobody_waits_for_is_not_labelled_and_leaves_room(
    batcher: Batcher, model: Model
) -> None:
    gone = batcher.ask(rows(*range(1, 7)))
    batcher.drop(gone, "left")
    asked = batcher.ask(rows(8))
    model.go.release(2)
    assert labels(asked) == [80]
    assert model.batches == [[0], [8]]


def test_closing_labels_what_waits_and_takes_in_nothing(batcher: Batcher, model: Model) -> None:
    asked = batcher.ask(rows(1))
    model.go.release(10)
    batcher.close()
    assert labels(asked) == [10]
    assert not batcher.ready
    with pytest.raises(Refused, match="stopping") as caught:
        batcher.ask(rows(2))
    assert caught.value.status == 503


def test_a_request_waits_a_moment_for_company(model: Model) -> None:
    batcher = Batcher(model, None, Limits(batch_rows=2, wait_s=5), Meters())
    model.go.release(10)
    first = batcher.ask(rows(1)) if batcher.ready else None
    assert first is None  # nothing is taken in before it has started
    batcher.start()
    asked = [batcher.ask(rows(1)), batcher.ask(rows(2))]
    assert [labels(each) for each in asked] == [[10], [20]]
    assert model.batches == [[1, 2]]
    batcher.close()


def test_rows_of_others_are_labelled_between_the_pieces_of_an_explanation(
    batcher: Batcher, model: Model
) -> None:
    why = batcher.ask_why(rows(7))
    model.go.release(100)
    assert model.explaining.wait(10)
    asked = [batcher.ask(rows(n, n, n)) for n in (1, 2)]
    model.on.release()
    assert why.future.result(10) == {"row": 7, "before": [2, 3, 3]}
    assert [labels(each) for each in asked] == [[10, 10, 10], [20, 20, 20]]


def test_one_row_is_explained_at_a_time_and_another_is_told_to_come_back(
    batcher: Batcher, model: Model
) -> None:
    why = batcher.ask_why(rows(7))
    with pytest.raises(Refused, match="another row is being explained; come back in 1 s") as full:
        batcher.ask_why(rows(8))
    assert (full.value.status, full.value.headers) == (429, {"Retry-After": "1"})
    again: list[int] = []  # who is told at once asks at once, and finds it free
    why.future.add_done_callback(lambda _: again.append(batcher.ask_why(rows(8)).rows["n"][0]))
    model.go.release(100)
    model.on.release(100)
    assert why.future.result(10)["row"] == 7
    for _ in range(500):
        if again:
            break
        time.sleep(0.01)
    assert again == [8]


def test_an_explanation_that_nobody_waits_for_ends_at_its_next_piece(
    batcher: Batcher, model: Model
) -> None:
    waits = batcher.ask_why(rows(6))  # before it begins
    batcher.drop(waits, "left")
    model.go.release(100)
    assert waits.future.cancelled()
    model.on.release()
    assert why_of(batcher, 7) == 7
    model.explaining.clear()
    works = batcher.ask_why(rows(8))  # while it goes on
    assert model.explaining.wait(10)
    batcher.drop(works, "left")
    model.on.release()
    assert works.future.exception(10) is not None
    model.on.release()
    assert why_of(batcher, 9) == 9


def why_of(batcher: Batcher, number: int) -> int:
    """Ask until the one before has ended."""
    for _ in range(500):
        try:
            return int(batcher.ask_why(rows(number)).future.result(10)["row"])
        except Refused:
            time.sleep(0.01)
    raise AssertionError("it never ended")


def test_an_explanation_that_fails_is_told_and_one_under_way_is_finished_at_the_end() -> None:
    def fail(row: pl.DataFrame, between: Callable[[], object]) -> dict[str, Any]:
        if row["n"][0]:
            raise BaseException("a panic")
        return {"row": 0}

    batcher = Batcher(lambda given: given, fail, Limits(wait_s=0), Meters())
    batcher.start()
    error = batcher.ask_why(rows(1)).future.exception(10)
    assert repr(error) == "RuntimeError(\"BaseException('a panic')\")"
    last = batcher.ask_why(rows(0))
    batcher.close()
    assert last.future.result(0) == {"row": 0}
    with pytest.raises(Refused, match="stopping"):
        batcher.ask_why(rows(0))
