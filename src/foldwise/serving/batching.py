"""Requests that come at the same time are labelled together: frames in, labelled frames out.

One thread owns the models. While they are at work requests queue up, and the next batch is what
waits by then; a request that finds them idle waits a moment for company. So a batch grows with the
load and nobody waits for one to be full. What nobody waits for any more isn't labelled.

A row is explained by the same thread, one at a time, as that takes seconds: between two pieces of
it the batch that waits by then is labelled, and it ends there when nobody waits for it any more.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import polars as pl

from foldwise.serving.explaining import Explain
from foldwise.serving.limits import Limits, Refused
from foldwise.serving.meters import Meters

Answer = TypeVar("Answer")


@dataclass(eq=False)
class Asked(Generic[Answer]):
    """Rows that wait for their labels, or for why they have them.

    Attributes:
        rows: of one request.
        future: the answer.
        came_s: when, by the monotonic clock.
        dropped: nobody waits for it any more.
    """

    rows: pl.DataFrame
    future: Future[Answer] = field(default_factory=Future)
    came_s: float = field(default_factory=time.monotonic)
    dropped: bool = False


class _NobodyWaits(Exception):
    """Ends an explanation."""


class Batcher:
    """The queue, and the thread that works it off.

    Args:
        label: rows -> their labels, in order; called in one thread only.
        explain: a row -> why it is labelled so; called in that thread; None where nothing can.
        limits: queued_rows, timeout_s, batch_rows and wait_s are read.
        meters: told of batches and of what was dropped.
    """

    def __init__(
        self,
        label: Callable[[pl.DataFrame], pl.DataFrame],
        explain: Explain | None,
        limits: Limits,
        meters: Meters,
    ) -> None:
        self._label = label
        self._explain = explain
        self._limits = limits
        self._meters = meters
        self._queue: deque[Asked[pl.DataFrame]] = deque()
        self._why: Asked[dict[str, Any]] | None = None  # a row that waits or is being explained
        self._rows = 0  # that wait
        self._row_s = 0.01  # to label one: of late
        self._why_s = 1.0  # to explain one
        self._closed = False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="labelling", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    @property
    def ready(self) -> bool:
        """Whether rows are taken in."""
        return self._worker.is_alive() and not self._closed

    def ask(self, rows: pl.DataFrame) -> Asked[pl.DataFrame]:
        """Queue rows.

        Raises:
            Refused: 429 where the queue is full, with the seconds after which it should have room;
                503 where it is closed.
        """
        with self._changed:
            self._check_ready()
            if self._rows and self._rows + rows.height > self._limits.queued_rows:
                wait = max(1, math.ceil(self._rows * self._row_s))
                raise Refused(
                    429,
                    f"{self._rows} rows wait already; come back in {wait} s",
                    headers={"Retry-After": str(wait)},
                )
            asked: Asked[pl.DataFrame] = Asked(rows)
            self._queue.append(asked)
            self._count(rows.height)
            self._changed.notify()
        return asked

    def ask_why(self, row: pl.DataFrame) -> Asked[dict[str, Any]]:
        """Have a row explained.

        Raises:
            Refused: 429 while another is, with the seconds after which it should be done; 503 where
                it is closed.
        """
        with self._changed:
            self._check_ready()
            if self._why is not None:
                wait = 1
                if not self._why.dropped:
                    left_s = self._why.came_s + self._why_s - time.monotonic()
                    wait = max(1, math.ceil(left_s))
                raise Refused(
                    429,
                    f"another row is being explained; come back in {wait} s",
                    headers={"Retry-After": str(wait)},
                )
            self._why = Asked(row)
            self._changed.notify()
            return self._why

    def drop(self, asked: Asked[Any], why: str) -> None:
        """Take rows out of the queue that nobody waits for any more, or end their explanation."""
        asked.dropped = True
        with self._changed:
            if asked in self._queue:
                self._queue.remove(asked)
                self._count(-asked.rows.height)
        asked.future.cancel()
        self._meters.dropped.labels(why).inc()

    def close(self) -> None:
        """Take nothing in any more, label what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.join()

    def _check_ready(self) -> None:
        if not self.ready:
            raise Refused(503, "the server is stopping", headers={"Retry-After": "5"})

    def _work(self) -> None:
        while self._waited():
            self._label_next()
            self._explain_next()

    def _waited(self) -> bool:
        """Wait for requests; False where it is over."""
        with self._changed:
            while not self._queue and self._why is None and not self._closed:
                self._changed.wait()
            if self._queue:
                self._wait_for_company()
            return bool(self._queue) or self._why is not None or not self._closed

    def _label_next(self) -> None:
        """Label a batch of what waits, if anything does."""
        batch = self._next()
        if not batch:
            return
        began = time.perf_counter()
        height = sum(asked.rows.height for asked in batch)
        self._answer(batch)
        took_s = time.perf_counter() - began
        self._row_s += 0.2 * (took_s / height - self._row_s)
        self._meters.batch_rows.observe(height)
        self._meters.batch_s.observe(took_s)
        self._meters.rows.inc(height)

    def _next(self) -> list[Asked[pl.DataFrame]]:
        taken: list[Asked[pl.DataFrame]] = []
        height = 0
        with self._changed:
            while self._queue:
                more = self._queue[0].rows.height
                if height and height + more > self._limits.batch_rows:
                    break
                asked = self._queue.popleft()
                self._count(-more)
                if asked.future.set_running_or_notify_cancel():
                    taken.append(asked)
                    height += more
        return taken

    def _explain_next(self) -> None:
        """Explain the row that waits, if one does, and label batches in between."""
        asked = self._why
        if asked is None:
            return

        def between() -> None:
            if asked.dropped:
                raise _NobodyWaits
            self._label_next()

        answer: dict[str, Any] | None = None
        failed: BaseException = _NobodyWaits()
        waited_for = asked.future.set_running_or_notify_cancel()
        if waited_for:
            assert self._explain is not None
            try:
                answer = self._explain(asked.rows, between)
                self._why_s += 0.5 * (time.monotonic() - asked.came_s - self._why_s)
            except BaseException as error:  # the thread has to live
                failed = error
        with self._changed:  # before it is told: who hears of it may ask for the next
            self._why = None
        if answer is not None:
            asked.future.set_result(answer)
        elif waited_for:
            asked.future.set_exception(_told(failed))

    def _wait_for_company(self) -> None:
        until = self._queue[0].came_s + self._limits.wait_s
        while self._queue and self._rows < self._limits.batch_rows and not self._closed:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)

    def _answer(self, batch: Sequence[Asked[pl.DataFrame]]) -> None:
        try:
            labelled = self._label(pl.concat([asked.rows for asked in batch]))
        except BaseException as error:  # the thread has to live; a panic in polars is no Exception
            if len(batch) == 1:
                batch[0].future.set_exception(_told(error))
                return
            for asked in batch:  # the others have no part in what is wrong with one
                self._answer([asked])
            return
        at = 0
        for asked in batch:
            asked.future.set_result(labelled.slice(at, asked.rows.height))
            at += asked.rows.height

    def _count(self, rows: int) -> None:
        self._rows += rows
        self._meters.queued.set(self._rows)


def _told(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
