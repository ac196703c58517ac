"""Work over a table's rows in stretches, on all cores at once.

In: rows, and what is to be done with some of them. Out: what came of each stretch, in their order,
no more of them at once than there are cores, so that a table of any size takes the memory of a few
stretches. Threads suffice: numpy, polars and tokenizers let go of Python's lock while they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
import polars as pl

STRETCH_ROWS = 1 << 12
STRETCH_BYTES = 1 << 23

_Done = TypeVar("_Done")


def stretches(rows: pl.DataFrame) -> Iterator[slice]:
    """Part rows into stretches of STRETCH_ROWS or STRETCH_BYTES of text, whichever comes first."""
    sizes = np.zeros(rows.height, dtype=np.int64)
    for column in rows.select(pl.col(pl.String)):
        sizes += column.str.len_bytes().fill_null(0).to_numpy()
    before = np.concatenate([[0], np.cumsum(sizes)])
    start = 0
    while start < rows.height:
        full = int(np.searchsorted(before, before[start] + STRETCH_BYTES, side="right")) - 1
        stop = min(max(start + 1, full), start + STRETCH_ROWS, rows.height)
        yield slice(start, stop)
        start = stop


def side_by_side(
    work: Callable[[slice], _Done], parts: Iterable[slice]
) -> Iterator[tuple[slice, _Done]]:
    """Do the work on each part, on as many threads as polars has.

    Args:
        work: takes a part; it may not hang on the parts before.
        parts: of the rows.

    Yields:
        Each part and what came of it, in their order.
    """
    threads, left = pl.thread_pool_size(), iter(parts)
    with ThreadPoolExecutor(threads) as pool:
        ahead: list[tuple[slice, Future[_Done]]] = [
            (part, pool.submit(work, part)) for part in islice(left, threads + 1)
        ]
        while ahead:
            part, future = ahead.pop(0)
            yield part, future.result()
            ahead += [(part, pool.submit(work, part)) for part in islice(left, 1)]
