"""A served run under load: answers that equal predict's, latency, malformed requests, memory.

Starts `foldwise serve RUN` on a free port of this machine, asks it and stops it. Needs a finished
run and rows; nothing but 127.0.0.1 is asked.

    python benchmarks/serving.py runs/tickets --rows new.csv
    python benchmarks/serving.py runs/tickets --rows new.csv --clients 200 --every 10 --seconds 30

One table is printed: single-row requests of one client one after the other (unloaded), then of all
clients, each of which asks once in `every` seconds on average, at random moments (Poisson), and
waits for its answer. Clients that ask as fast as they can would only measure how many there are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

JSON = {"Content-Type": "application/json"}
ALONE = 200  # requests of the one client


@contextmanager
def served(run: str, *options: str) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "foldwise", "serve", run, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"(http://127\.0\.0\.1:\d+)", process.stdout.readline())
        assert found is not None
        for _ in range(200):
            try:
                httpx.get(f"{found[1]}/health")
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        yield found[1], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


async def ask(client: httpx.AsyncClient, row: dict[str, Any]) -> tuple[int, float, Any]:
    began = time.perf_counter()
    answer = await client.post("/predict", json={"rows": [row]})
    return answer.status_code, time.perf_counter() - began, answer.json()


async def alone(address: str, rows: Sequence[dict[str, Any]]) -> list[float]:
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        for row in rows[:10]:
            await ask(client, row)
        return [(await ask(client, rows[i % len(rows)]))[1] for i in range(ALONE)]


async def together(
    address: str, rows: Sequence[dict[str, Any]], clients: int, every_s: float, seconds: float
) -> list[tuple[int, int, float, Any]]:
    """Return row, status, seconds and answer of every request."""
    found: list[tuple[int, int, float, Any]] = []
    many = [httpx.AsyncClient(base_url=address, timeout=60, verify=False) for _ in range(clients)]
    ends = time.perf_counter() + seconds

    async def one(client: httpx.AsyncClient, seed: int) -> None:
        draw = random.Random(seed)
        while True:
            wait_s = draw.expovariate(1 / every_s) if every_s else 0
            if time.perf_counter() + wait_s >= ends:
                return
            await asyncio.sleep(wait_s)
            row = draw.randrange(len(rows))
            found.append((row, *await ask(client, rows[row])))

    await asyncio.gather(*(one(client, seed) for seed, client in enumerate(many)))
    for client in many:
        await client.aclose()
    return found


def malformed(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Yield bodies that can't be answered, of every kind, again and again."""
    draw, good = random.Random(0), json.dumps({"rows": [rows[0]]}).encode()
    name = json.dumps(next(iter(rows[0]))).encode()
    kinds = [
        b"",
        b"{",
        b"[" * 50_000,
        b'{"a":' * 20_000,
        b"\xef\xbb\xbf" + good,
        good.decode().encode("utf-16"),
        b'{"rows": [{' + name + b': "\xff"}]}',
        b'{"rows": [{' + name + b': "\\ud800"}]}',
        b'{"rows": [{' + name + b": NaN}]}",
        b'{"rows": [{' + name + b": " + b"9" * 5000 + b"}]}",
        b'{"rows": [{' + name + b": 1, " + name + b": 2}]}",
        b'{"rows": ' + b"1" * 100_000 + b"}",
        b'{"rows": [' + b"{}," * 20_000 + b"{}]}",
        json.dumps({"rows": [{"x": 1}] * 50}).encode(),
    ]
    while True:
        if draw.random() < 0.01:
            yield b'{"rows": "' + b"x" * 10_000_000 + b'"}', JSON
        elif draw.random() < 0.3:
            cut = bytearray(good)
            for _ in range(draw.randint(1, 5)):
                cut[draw.randrange(len(cut))] = draw.randrange(256)
            yield bytes(cut[: draw.randrange(len(cut))]), JSON
        elif draw.random() < 0.1:
            odd = draw.choice(["text/plain", "application/json; charset=utf-16", ""])
            yield good, {"Content-Type": odd}
        elif draw.random() < 0.1:
            yield good, JSON | draw.choice([{"Host": "evil.example"}, {"Origin": "null"}])
        else:
            yield draw.choice(kinds), JSON


def break_it(
    address: str, pid: int, rows: Sequence[dict[str, Any]], count: int
) -> tuple[Counter[int], float]:
    """Send malformed requests; return their statuses and the memory that the server grew by, MB."""
    codes: Counter[int] = Counter()
    before = 0.0
    with httpx.Client(base_url=address, timeout=60) as client:
        for number, (body, headers) in zip(range(count), malformed(rows), strict=False):
            if number == count // 20:  # what is loaded once is loaded by then
                before = memory_mb(pid)
            codes[client.post("/predict", content=body, headers=headers).status_code] += 1
        assert client.get("/health").status_code == 200
    return codes, memory_mb(pid) - before


def distance(
    labels: Sequence[dict[str, Any]], found: Sequence[tuple[int, int, float, Any]]
) -> tuple[float, int]:
    """Return how far answers are from predict's at most, and how many labels are others."""
    names = [name for name in labels[0] if name.startswith("prob_")]
    far, other = 0.0, 0
    for row, _, _, answer in found:
        got = answer["rows"][0]
        other += got["prediction"] != labels[row]["prediction"]
        shares = [got["probabilities"][name.removeprefix("prob_")] for name in names]
        far = max(far, max(abs(a - labels[row][b]) for a, b in zip(shares, names, strict=True)))
    return far, other


def line(name: str, seconds: Sequence[float], rate: float | None = None) -> None:
    p50, p95, p99 = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    told = "" if rate is None else f"{rate:.1f}"
    print(f"| {name} | {len(seconds)} | {told} | {p50:.1f} | {p95:.1f} | {p99:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--rows", required=True, help="a table with the run's columns")
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--model", default="all")
    parser.add_argument("--member")
    parser.add_argument("--onnx", help="what foldwise export made of the model")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two of a client")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--malformed", type=int, default=10_000)
    given = parser.parse_args()
    member = ["--member", given.member] if given.member else []
    onnx = ["--onnx", given.onnx] if given.onnx else []
    chosen = ["--model", given.model, *member, *onnx]
    with served(given.run, *chosen) as (address, pid):
        columns = httpx.get(f"{address}/metadata").json()["columns"]
        table = pl.read_csv(given.rows, infer_schema=False)
        table = table.sample(min(given.sample, table.height), seed=0, shuffle=True)
        numbers = [c["name"] for c in columns if c["role"] == "numeric"]
        table = table.select(c["name"] for c in columns)
        rows = table.with_columns(pl.col(numbers).cast(pl.Float64)).to_dicts()
        quiet = asyncio.run(alone(address, rows))
        loaded = asyncio.run(together(address, rows, given.clients, given.every, given.seconds))
        codes = Counter(status for _, status, _, _ in loaded)
        print(
            "| load | requests | a second | p50 ms | p95 ms | p99 ms |\n|---|--:|--:|--:|--:|--:|"
        )
        line("1 client, one request after the other", quiet)
        said = f"{given.clients} clients, each every {given.every:g} s"
        busy = [seconds for _, _, seconds, _ in loaded]
        line(said, busy, len(loaded) / given.seconds)
        times = np.percentile(busy, 99) / np.percentile(quiet, 99)
        print(f"p99 is {times:.2f} times the unloaded; answers: {dict(codes)}")
        metrics = httpx.get(f"{address}/metrics").text
        found = dict(re.findall(r"^foldwise_batch_rows_(sum|count) (\S+)", metrics, re.M))
        print(f"rows a batch: {float(found['sum']) / float(found['count']):.2f}")
        statuses, grown = break_it(address, pid, rows, given.malformed)
        print(f"{given.malformed} malformed requests: {dict(sorted(statuses.items()))}")
        print(f"memory grew by {grown:.1f} MB, to {memory_mb(pid):.0f} MB")
    from foldwise import Predictor  # only now: it takes memory and time of its own

    labels = Predictor(given.run, model=given.model, member=given.member).predict(rows)
    far, other = distance(labels, [each for each in loaded if each[1] == 200])
    print(f"farthest from predict: {far:.1e}; other labels: {other}")


if __name__ == "__main__":
    main()
