"""Requests that come at the same time are labelled together: frames in, labelled frames out.

One thread owns the models. While they are at work requests queue up, and the next batch is what
waits by then; a request that finds them idle waits a moment for company. So a batch grows with the
load and nobody waits for one to be full. What nobody waits for any more isn't labelled.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import polars as pl

from foldwise.serving.limits import Limits, Refused
from foldwise.serving.meters import Meters


@dataclass(eq=False)
class Asked:
    """Rows that wait for their labels.

    Attributes:
        rows: of one request.
        future: their labels.
        came_s: when, by the monotonic clock.
    """

    rows: pl.DataFrame
    future: Future[pl.DataFrame] = field(default_factory=Future)
    came_s: float = field(default_factory=time.monotonic)


class Batcher:
    """The queue, and the thread that works it off.

    Args:
        label: rows -> their labels, in order; called in one thread only.
        limits: queued_rows, timeout_s, batch_rows and wait_s are read.
        meters: told of batches and of what was dropped.
    """

    def __init__(
        self, label: Callable[[pl.DataFrame], pl.DataFrame], limits: Limits, meters: Meters
    ) -> None:
        self._label = label
        self._limits = limits
        self._meters = meters
        self._queue: deque[Asked] = deque()
        self._rows = 0  # that wait
        self._row_s = 0.01  # to label one: of late
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

    def ask(self, rows: pl.DataFrame) -> Asked:
        """Queue rows.

        Raises:
            Refused: 429 where the queue is full, with the seconds after which it should have room;
                503 where it is closed.
        """
        with self._changed:
            if not self.ready:
                raise Refused(503, "the server is stopping", headers={"Retry-After": "5"})
            if self._rows and self._rows + rows.height > self._limits.queued_rows:
                wait = max(1, math.ceil(self._rows * self._row_s))
                raise Refused(
                    429,
                    f"{self._rows} rows wait already; come back in {wait} s",
                    headers={"Retry-After": str(wait)},
                )
            asked = Asked(rows)
            self._queue.append(asked)
            self._count(rows.height)
            self._changed.notify()
        return asked

    def drop(self, asked: Asked, why: str) -> None:
        """Take rows out of the queue that nobody waits for any more."""
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

    def _work(self) -> None:
        while batch := self._next():
            began = time.perf_counter()
            height = sum(asked.rows.height for asked in batch)
            self._answer(batch)
            took_s = time.perf_counter() - began
            self._row_s += 0.2 * (took_s / height - self._row_s)
            self._meters.batch_rows.observe(height)
            self._meters.batch_s.observe(took_s)
            self._meters.rows.inc(height)

    def _next(self) -> list[Asked]:
        """Wait for requests, and return those of a batch; none where it is over."""
        taken: list[Asked] = []
        with self._changed:
            while not taken:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if not self._queue:
                    return []
                self._wait_for_company()
                height = 0
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

    def _wait_for_company(self) -> None:
        until = self._queue[0].came_s + self._limits.wait_s
        while self._queue and self._rows < self._limits.batch_rows and not self._closed:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)

    def _answer(self, batch: Sequence[Asked]) -> None:
        try:
            labelled = self._label(pl.concat([asked.rows for asked in batch]))
        except BaseException as error:  # the thread has to live; a panic in polars is no Exception
            if len(batch) == 1:
                told = error if isinstance(error, Exception) else RuntimeError(repr(error))
                batch[0].future.set_exception(told)
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
