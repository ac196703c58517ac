"""What a job that no machine here can run would take: a simulation of its folds on many GPUs.

    python benchmarks/scale.py [--gpus 64] [--rows 100000000] [--configs 1000] [--seeds 20]
    python benchmarks/scale.py --measure

A run is first prepared by one process (read, deduplicated, split, tokenized; a sweep's runs find
near-duplicates and tokens of the first, as any run does with `--ahead`), some runs at once; then
its folds are tasks that each take some GPUs, begun as soon as these are free, and each reads the
table and checks the tokens first; at last its scores get their intervals (1,000 resamples of all
rows, of more than a million fewer, by one process, for one member). Simulated: a fold takes longer
than planned by a lognormal factor (`--spread`), a GPU fails at a rate (`--mtbf`), its fold loses
what it did since the last checkpoint (`--every`) and waits for `--restart` seconds, and each
checkpoint stops the fold for as long as its bytes take to write. Every rate is an option and a
default says in its help where it comes from: measured here by `--measure` or growth.py, or assumed.
Nothing here was run on GPUs.
"""

from __future__ import annotations

import argparse
import heapq
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldwise.evaluation.bootstrap import resamples_of

HOUR = 3600.0


@dataclass(frozen=True)
class Job:
    """Some runs of equal size on some GPUs; times in seconds."""

    gpus: int
    runs: int
    folds: int
    gpus_a_fold: int
    prepare_s: float
    fold_s: float
    summary_s: float
    every_s: float
    checkpoint_s: float
    restart_s: float
    mtbf_s: float
    spread: float
    at_once: int


@dataclass(frozen=True)
class Outcome:
    """What a simulated job came to: seconds of all, GPU seconds computed, lost, idle."""

    whole_s: float
    trained_s: float
    lost_s: float
    failures: int
    idle: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--measure", action="store_true", help="measure the CPU's rates on this machine instead")
    add("--gpus", type=int, default=64)
    add("--rows", type=float, default=1e8)
    add("--sweep-rows", type=float, default=1e6, help="rows of the sweep's table")
    add("--configs", type=int, default=1000)
    add("--folds", type=int, default=5)
    add("--epochs", type=float, default=1.0, help="of the big run; a sweep's has three")
    add("--tokens", type=float, default=140.0, help="a row; growth.py: 143 of MiniLM's")
    add(
        "--flop",
        type=float,
        default=7.7e7,
        help="a token, forward and backward: 6 times MiniLM's "
        "10.6 million weights beside the embeddings, and attention at 128 tokens",
    )
    add("--peak", type=float, default=989e12, help="FLOP/s: H100 SXM, bf16, dense (NVIDIA's sheet)")
    add("--share", type=float, default=0.15, help="of the peak; assumed, small layers are slow")
    add("--loading", type=float, default=7.2e-6, help="CPU seconds a row: --measure")
    add("--cores", type=int, default=8, help="that load for a GPU; assumed")
    add("--prepare", type=float, default=0.13e-3, help="CPU seconds a row: growth.py")
    add(
        "--again",
        type=float,
        default=0.021e-3,
        help="CPU seconds a row where near-duplicates and tokens are there already: growth.py",
    )
    add("--ahead", action="store_true", help="foldwise prepare came before the GPUs were held")
    add("--prepare-cores", type=int, default=16, help="of the machine that prepares; assumed")
    add("--at-once", type=int, default=8, help="runs prepared at once: one a node of 8 GPUs")
    add("--parallel", type=float, default=0.6, help="of preparing that gains by cores; assumed")
    add("--begin", type=float, default=20.0, help="seconds of a fold's process to begin; assumed")
    add("--read", type=float, default=10e-6, help="CPU seconds a row that it reads: growth.py")
    add("--hash", type=float, default=1e9, help="bytes/s of the tokens that it checks; assumed")
    add("--draw", type=float, default=49e-9, help="CPU seconds a row and resample: --measure")
    add("--scaling", type=float, default=0.85, help="of 12 GPUs on one fold; assumed")
    add(
        "--mtbf",
        type=float,
        default=50_700.0,
        help="GPU hours between failures: 419 in 54 days "
        "on 16,384 H100 (Llama 3, Dubey et al. 2024, 3.3.4)",
    )
    add("--restart", type=float, default=300.0, help="seconds to begin again; assumed")
    add("--every", type=float, default=900.0, help="seconds between checkpoints")
    add("--disk", type=float, default=500e6, help="bytes/s of a checkpoint; assumed")
    add("--weights", type=float, default=22.6e6, help="of the model: MiniLM")
    add("--spread", type=float, default=0.15, help="of a fold's time, as a lognormal's; assumed")
    add("--price", type=float, default=3.0, help="of a GPU hour, in dollars; assumed")
    add("--seeds", type=int, default=20)
    options = parser.parse_args()
    if options.measure:
        measure()
        return
    many = options.gpus // options.folds
    print("one process prepares, the folds follow; mean of the seeds, with the worst")
    for rows in (options.rows / 100, options.rows / 10, options.rows):
        for gpus_a_fold in (1, many):
            show(options, job_of(options, rows, 1, gpus_a_fold, options.epochs), rows)
    for rows in (options.sweep_rows / 10, options.sweep_rows):
        show(options, job_of(options, rows, options.configs, 1, 3.0), rows)


def job_of(options: Any, rows: float, runs: int, gpus_a_fold: int, epochs: float) -> Job:
    """Return the job that some runs on tables of so many rows are."""
    trained = rows * (1 - 1 / options.folds) * epochs
    computing = options.tokens * options.flop / (options.peak * options.share)
    row_s = max(computing, options.loading / options.cores)  # whichever is slower sets the pace
    scored = rows / options.folds * row_s / 3  # forward alone
    begin = options.begin + rows * (options.read + 4 * options.tokens / options.hash)
    gain = gpus_a_fold * (options.scaling if gpus_a_fold > 1 else 1.0)
    spread = 1 - options.parallel + options.parallel / options.prepare_cores
    # The first run of a sweep fills the stores that the others find.
    known = options.ahead or runs > 1
    prepare = options.again if known else options.prepare * spread
    return Job(
        gpus=options.gpus,
        runs=runs,
        folds=options.folds,
        gpus_a_fold=gpus_a_fold,
        prepare_s=rows * prepare,
        fold_s=begin + (trained * row_s + scored) / gain,
        summary_s=rows * options.draw * resamples_of(int(rows)),
        every_s=options.every,
        checkpoint_s=12 * options.weights / options.disk,
        restart_s=options.restart,
        mtbf_s=options.mtbf * HOUR,
        spread=options.spread,
        at_once=options.at_once,
    )


def simulate(job: Job, seed: int) -> Outcome:
    """Play the job's events: a fold begins, fails or ends; a run begins and is summed up."""
    rng = np.random.default_rng(seed)
    free, slots = job.gpus, []  # slots: (time at which GPUs are free again, how many)
    # Runs are prepared in their order, and so are their folds begun.
    waiting = [
        (job.prepare_s * (run // job.at_once + 1), run)
        for run in range(job.runs)
        for _ in range(job.folds)
    ]
    ends = np.zeros(job.runs)
    trained = lost = busy = 0.0
    failures = 0
    for ready, run in waiting:
        while free < job.gpus_a_fold:
            at, gpus = heapq.heappop(slots)
            ready, free = max(ready, at), free + gpus
        planned = job.fold_s * float(rng.lognormal(0, job.spread))
        planned += planned // job.every_s * job.checkpoint_s
        took, done = 0.0, 0.0
        while True:
            failing = float(rng.exponential(job.mtbf_s / job.gpus_a_fold))
            if failing >= planned - done:
                took += planned - done
                break
            failures += 1
            kept = (done + failing) // job.every_s * job.every_s
            lost += (done + failing - kept + job.restart_s) * job.gpus_a_fold
            took, done = took + failing + job.restart_s, kept
        free -= job.gpus_a_fold
        heapq.heappush(slots, (ready + took, job.gpus_a_fold))
        trained += planned * job.gpus_a_fold
        busy += took * job.gpus_a_fold
        ends[run] = max(ends[run], ready + took)
    # The summary of a run holds no GPU; the last one's comes behind its last fold.
    whole = float(ends.max()) + job.summary_s
    return Outcome(whole, trained, lost, failures, 1 - busy / (whole * job.gpus))


def show(options: Any, job: Job, rows: float) -> None:
    """Print a job and what it comes to."""
    played = [simulate(job, seed) for seed in range(options.seeds)]
    mean = {
        name: float(np.mean([getattr(outcome, name) for outcome in played]))
        for name in ("whole_s", "trained_s", "lost_s", "failures", "idle")
    }
    used = (mean["trained_s"] + mean["lost_s"]) / HOUR
    worst = max(outcome.whole_s for outcome in played)
    print(
        f"{job.runs:>5} x {rows:>11,.0f} rows, {job.gpus_a_fold:>2} GPUs a fold: "
        f"prepare {job.prepare_s / HOUR:.2f} h a run ({job.at_once} at once), "
        f"fold {job.fold_s / HOUR:.2f} h, intervals {job.summary_s / HOUR:.2f} h; "
        f"all {mean['whole_s'] / HOUR:.1f} h (worst {worst / HOUR:.1f}), "
        f"{used:,.0f} GPU h used (${used * options.price:,.0f}), "
        f"{mean['lost_s'] / HOUR:.2f} lost to {mean['failures']:.2f} failures, "
        f"idle {mean['idle']:.0%} of {mean['whole_s'] * job.gpus / HOUR:,.0f} GPU h held"
    )


def measure() -> None:
    """Measure what a row costs a CPU while a fold trains and when a run is summed up."""
    from foldwise.encoding.batches import TextRows, pad_batch
    from foldwise.encoding.text import Frame, TokenStore
    from foldwise.evaluation.bootstrap import drawn_rows
    from foldwise.training.batching import Sampler

    rng = np.random.default_rng(0)
    rows = 200_000
    offsets = np.concatenate([[0], np.cumsum(rng.integers(60, 220, rows))])
    store = TokenStore(rng.integers(0, 30_000, offsets[-1]).astype(np.int32), offsets)
    frame = Frame((101,), (102,), (102,), 0, "right")
    data = TextRows(store, frame, 128, "truncate", rng.integers(0, 8, rows))
    started = time.process_time()
    windows = Sampler(data.lengths, rows, 32, None, 1, [0]).windows(0)
    print(f"sampler {(time.process_time() - started) / rows * 1e6:.2f} us a row")
    started = time.process_time()
    for window in windows[:500]:
        pad_batch([data[int(at)] for at in window[0]], frame)
    print(f"loading {(time.process_time() - started) / 16_000 * 1e6:.1f} us a row")
    target, prediction = rng.integers(0, 8, (2, rows))
    started = time.process_time()
    for drawn in drawn_rows(np.arange(rows), 0, 10):
        np.bincount(target[drawn] * 8 + prediction[drawn], minlength=64)
    print(f"resample {(time.process_time() - started) / rows / 10 * 1e9:.0f} ns a row and draw")


if __name__ == "__main__":
    main()
