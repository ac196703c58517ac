"""What a served run withstands: whatever its schema allows and forbids, many clients, garbage."""

from __future__ import annotations

import asyncio
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from conftest import ROUNDING, make_table
from foldwise.predictor import Predictor

pytestmark = pytest.mark.slow
BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "serving.py"))


def codes_of(address: str) -> Counter[int]:
    """What a server has answered, by status."""
    found: Counter[int] = Counter()
    text = httpx.get(f"{address}/metrics").text
    for code, count in re.findall(r'^foldwise_requests_total\{code="(\d+)",.*\} (\S+)', text, re.M):
        found[int(code)] += int(float(count))
    return found


def rows_of(count: int) -> list[dict[str, Any]]:
    table = make_table(count, seed=5).with_columns(pl.col("amount").cast(pl.Float64))
    return table.drop("label").to_dicts()


def test_schemathesis_finds_no_server_error_in_2000_requests(
    trained: Predictor, tmp_path: Path
) -> None:
    # Of short texts: their longest is what takes time to make up.
    with BENCHMARK["served"](str(trained.run.path), "--max-chars", "300") as (address, _):
        command = [Path(sys.executable).with_name("schemathesis"), "run"]
        command += [f"{address}/openapi.json", "--max-examples", "1500", "--seed", "1"]
        command += ["--phases", "examples,coverage,fuzzing"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        codes = codes_of(address)
    assert done.returncode == 0, done.stdout[-2000:]
    assert codes.total() >= 2000
    assert max(codes) < 500
    assert codes[200] > 200


def test_many_clients_lose_nothing_and_get_what_predict_gives(trained: Predictor) -> None:
    rows = rows_of(100)
    with BENCHMARK["served"](str(trained.run.path)) as (address, _):
        found = asyncio.run(BENCHMARK["together"](address, rows, 200, 5, 30))
    assert {status for _, status, _, _ in found} == {200}
    assert len(found) > 600
    far, other = BENCHMARK["distance"](trained.predict(rows), found)
    assert (far <= ROUNDING, other) == (True, 0)


def test_garbage_is_refused_and_leaves_no_memory_behind(trained: Predictor) -> None:
    with BENCHMARK["served"](str(trained.run.path)) as (address, pid):
        codes, grown = BENCHMARK["break_it"](address, pid, rows_of(1), 10_000)
    assert codes.total() == 10_000
    assert max(codes) < 500
    assert grown < 50
