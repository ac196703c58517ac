"""Does a change to the fine-tuned model make a run's answer better, or the model alone?

    python benchmarks/levers.py [--tables ramen,banking] [--levers base,offset] [--dir runs-levers]
                                [--training-rows 600] [--device auto] [--backbone DIR]
                                [--parallel N] [--tokens N] [--epochs N] [--shared DIR]

Real tables, three folds, 600 training rows a fold (drawn from its thousand or so) and every other
row scored: 6 epochs of 19 steps, batches of 32, all-MiniLM-L6-v2, the last weights. The members
`linear`, `embedding`, `network`, `boosting` and `lookup` see the same rows. Each lever trains on
the same rows in the same order; `lever_list.py` says what each is, and `reinit2+pretrain` is both.
With --levers none only the members are fitted: without a GPU, say, for a machine that has one.

Predictions that are there already are kept. `lever_scores.py` reads them and prints the lines of
docs/experiments.md.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from foldwise.commands.quiet import quiet_libraries
from foldwise.config.training import Average
from foldwise.hardware.device import build_accelerator
from foldwise.members.member import Floats
from foldwise.preparation.prepare import Prepared
from foldwise.training.adversarial import learn as add_gradients
from foldwise.training.averaging import WeightAverage, newest_share
from foldwise.training.batching import Sampler
from foldwise.training.inference import infer
from foldwise.training.loading import reseed, to_device
from foldwise.training.optimizers import build_optimizer
from foldwise.training.schedules import build_schedule
from foldwise.training.update import Update
from lever_list import LEVERS, Lever, found
from lever_parts import WIDE_RATE, Wide, offsets, pretrain, probe, reinitialise
from lever_tables import (
    FOLDS,
    TABLES,
    Bench,
    Setting,
    fit_members,
    grown,
    members_path,
    open_bench,
    shrunk,
    tensor,
    vectors_of,
)

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
USUAL = "base,ema,seed2,long,offset,probe"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--levers", default=USUAL, help=f"none, or of {', '.join(LEVERS)}")
    parser.add_argument("--dir", type=Path, default=Path("runs-levers"))
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    parser.add_argument("--backbone", default=MINILM)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--training-rows", type=int, default=600)
    parser.add_argument("--most-rows", type=int, default=4000, help="of a table's sample")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--parallel", type=int, default=1)
    options = parser.parse_args()
    levers = [] if options.levers == "none" else options.levers.split(",")
    for name in levers:
        found(name)
    options.dir.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        options.dir.resolve(),
        options.shared.resolve(),
        options.backbone,
        options.device,
        options.training_rows,
        options.most_rows,
        options.tokens,
        options.epochs,
    )
    tables = options.tables.split(",")
    if unknown := set(tables) - set(TABLES):
        sys.exit(f"no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    with _Workers(options.parallel) as workers:
        prepare_members(tables, levers, setting, workers)
        train_levers(tables, levers, setting, workers)


def prepare_members(
    tables: list[str], levers: list[str], setting: Setting, workers: _Workers
) -> None:
    """Fit the members of the tables that have none yet, and what `offset` learns from."""
    lacking = [name for name in tables if not members_path(name, setting).exists()]
    wanted = any(found(lever).offset for lever in levers)
    inside = [n for n in tables if wanted and not _inside_path(n, setting).exists()]
    list(workers.do(_vectors, [(name, setting) for name in sorted({*lacking, *inside})]))
    jobs = [(name, fold, False, setting) for name in lacking for fold in FOLDS]
    jobs += [(name, fold, True, setting) for name in inside for fold in FOLDS]
    made: dict[tuple[str, bool], dict[int, dict[str, Floats]]] = {}
    for (name, fold, within, _), predictions in workers.do(_members, jobs):
        parts = made.setdefault((name, within), {})
        parts[fold] = predictions
        if len(parts) == len(FOLDS):
            _write_members(name, within, parts, setting)
            print(f"{name}: members{' inside the folds' if within else ''} fitted", flush=True)


def train_levers(tables: list[str], levers: list[str], setting: Setting, workers: _Workers) -> None:
    """Train what isn't there yet, and write a lever's predictions once all folds are."""
    jobs = [
        (name, lever, fold, setting)
        for name in tables
        for lever in levers
        if found(lever).fits(name) and not _lever_path(name, lever, setting).exists()
        for fold in FOLDS
    ]
    done: dict[tuple[str, str], dict[int, tuple[Floats, float, str]]] = {}
    start = time.monotonic()
    for (name, lever, fold, _), outcome in workers.do(_train, jobs):
        parts = done.setdefault((name, lever), {})
        parts[fold] = outcome
        passed, seconds = time.monotonic() - start, outcome[1]
        print(f"{passed:.0f} s: {name}, {lever}, fold {fold}: {seconds:.0f} s{outcome[2]}")
        sys.stdout.flush()
        if len(parts) < len(FOLDS):
            continue
        with np.load(members_path(name, setting)) as saved:
            target, of = saved["target"], saved["fold"]
        made = np.zeros((len(of), parts[fold][0].shape[1]))
        for number, (predictions, _, _) in parts.items():
            made[of == number] = predictions
        holds = "number" if target.ndim == 2 else "label"
        seconds = sum(seconds for _, seconds, _ in parts.values())
        path = _lever_path(name, lever, setting)
        np.savez_compressed(path, made=shrunk(made, holds), seconds=seconds)


def train(bench: Bench, fold: int, lever: Lever) -> tuple[Floats, str]:
    """Train one fold under a lever.

    Returns:
        Predictions of its scored rows, and what else there is to tell.
    """
    prepared, seed, told = bench.under(lever.config), lever.seed, ""
    task, config = prepared.task, prepared.config
    accelerator = build_accelerator(config.training)
    device = accelerator.device
    known, scored = bench.training(fold), bench.scored(fold)
    task.fit_rows(prepared.frame[known.tolist()])
    reseed(seed, fold)
    model: Any = task.build_model().to(device)
    if lever.reinit:
        reinitialise(model.backbone, lever.reinit)
    if lever.pretrain:
        others = np.flatnonzero(bench.fold != fold)
        losses = pretrain(
            prepared, model.backbone, others, lever.pretrain, accelerator, (seed, fold)
        )
        told = f", loss of words {losses[0]:.2f} to {losses[1]:.2f}"
        reseed(seed, fold)
    if lever.probe:
        probe(prepared, model, known, accelerator)
    offset = tensor(np.zeros((len(bench.fold), bench.n_outputs)), device)
    if lever.offset:
        offset = tensor(_offsets(bench, fold), device)
    wide = Wide(bench, known, bench.n_outputs).to(device) if lever.wide else None
    average = learn(bench, prepared, model, wide, offset, known, (seed, fold), lever)
    with average.applied():
        logits, _ = infer(model, prepared.dataset, scored, task.collate, accelerator)
    logits = logits + offset[scored].cpu().numpy()
    if wide is not None:
        with torch.inference_mode():
            logits = logits + wide(scored).cpu().numpy()
    return _predictions(bench, prepared, logits), told


def learn(
    bench: Bench,
    prepared: Prepared,
    model: Any,
    wide: Wide | None,
    offset: torch.Tensor,
    known: NDArray[np.int64],
    seed: tuple[int, int],
    lever: Lever,
) -> WeightAverage:
    """Train a model, as the loop of a run does without accumulating, evaluating or saving."""
    task, config = prepared.task, prepared.config
    accelerator = build_accelerator(config.training)
    sampler = Sampler(prepared.dataset.lengths[known], len(known), 32, None, 1, seed)
    epochs = max(1, round(bench.setting.epochs * lever.longer))
    steps = sum(len(sampler.windows(epoch)) for epoch in range(epochs))
    rates = config.optimizer.at(config.optimizer.rate * lever.faster)
    optimizer = build_optimizer(model, rates, prepared.code)
    if wide is not None:
        group = {"params": [wide.weight], "lr": WIDE_RATE, "weight_decay": 0.0, "name": "wide"}
        optimizer.add_param_group(group)
    schedule = build_schedule(optimizer, config.schedule, steps, prepared.code)
    ema = None if lever.ema is None else Average(ema=lever.ema)
    update = Update(optimizer, schedule, WeightAverage(model, newest_share(ema, steps)))
    model.train()
    done = 0
    for epoch in range(epochs):
        for number, (positions,) in enumerate(sampler.windows(epoch)):
            rows = known[positions]
            batch = task.collate([prepared.dataset[row] for row in rows.tolist()])
            batch = to_device(batch, accelerator.device)
            reseed(*seed, epoch, number, 1)

            def backward(
                batch: dict[str, torch.Tensor] = batch, rows: NDArray[np.int64] = rows
            ) -> torch.Tensor:
                with accelerator.autocast():
                    outputs = model(**{k: v for k, v in batch.items() if k != "target"})
                added = offset[rows] if wide is None else offset[rows] + wide(rows)
                added = added.repeat(len(outputs) // len(rows), 1)  # R-Drop passes twice
                loss = task.loss(outputs.float() + added, batch).mean()
                loss.backward()
                return loss.detach()

            add_gradients(model, backward, 1.0 if lever.adversarial else None)
            nn.utils.clip_grad_norm_(model.parameters(), config.training.clip or math.inf)
            done += 1
            update.step(done)
    return update.average


class _Workers:
    """Some processes that do jobs side by side; one does them here."""

    def __init__(self, count: int) -> None:
        self.pool = None
        if count > 1:
            threads = max(1, (os.cpu_count() or 1) // count)
            spawn = multiprocessing.get_context("spawn")  # CUDA can't be forked
            self.pool = ProcessPoolExecutor(
                count, mp_context=spawn, initializer=_begin, initargs=(threads,)
            )

    def __enter__(self) -> _Workers:
        quiet_libraries(online=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def do(self, job: Callable[..., Any], arguments: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield the arguments of each job with its outcome, in order."""
        if self.pool is None:
            yield from ((given, job(*given)) for given in arguments)
            return
        begun = [(given, self.pool.submit(job, *given)) for given in arguments]
        yield from ((given, future.result()) for given, future in begun)


_OPEN: dict[tuple[str, Setting], Bench] = {}  # of this process


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    quiet_libraries(online=True)


def _bench(name: str, setting: Setting) -> Bench:
    if (name, setting) not in _OPEN:
        _OPEN.clear()  # tables come one after the other
        _OPEN[name, setting] = open_bench(name, setting)
    return _OPEN[name, setting]


def _vectors(name: str, setting: Setting) -> None:
    vectors_of(_bench(name, setting))


def _members(name: str, fold: int, inside: bool, setting: Setting) -> dict[str, Floats]:
    return fit_members(_bench(name, setting), fold, inside=inside)


def _train(name: str, lever: str, fold: int, setting: Setting) -> tuple[Floats, float, str]:
    bench = _bench(name, setting)
    with np.load(members_path(name, setting)) as saved:
        if not np.array_equal(saved["fold"], bench.fold):
            sys.exit(
                f"{members_path(name, setting)}: of other rows; remove it, or name another --dir"
            )
    start = time.monotonic()
    made, told = train(bench, fold, found(lever))
    return made, time.monotonic() - start, told


def _write_members(
    name: str, inside: bool, parts: dict[int, dict[str, Floats]], setting: Setting
) -> None:
    bench = _bench(name, setting)
    if inside:
        kept = {f"{fold}.{kind}": made for fold in parts for kind, made in parts[fold].items()}
        np.savez_compressed(_inside_path(name, setting), **kept)
        return
    members = {}
    for kind in parts[FOLDS[0]]:
        made = np.zeros((len(bench.fold), bench.n_outputs))
        for fold in FOLDS:
            made[bench.scored(fold)] = parts[fold][kind]
        members[kind] = shrunk(made, bench.holds)
    facts = {"target": bench.target, "fold": bench.fold, "group": bench.group}
    np.savez_compressed(members_path(name, setting), **facts, **members)


def _offsets(bench: Bench, fold: int) -> Floats:
    with np.load(members_path(bench.name, bench.setting)) as saved:
        facts = ("target", "fold", "group")
        members = {k: grown(saved[k], bench.holds) for k in saved if k not in facts}
    with np.load(_inside_path(bench.name, bench.setting)) as saved:
        inside = {k.removeprefix(f"{fold}."): saved[k] for k in saved if k.startswith(f"{fold}.")}
    return offsets(bench, fold, members, inside)


def _inside_path(name: str, setting: Setting) -> Path:
    return setting.runs / f"{name}.inside.npz"


def _lever_path(name: str, lever: str, setting: Setting) -> Path:
    return setting.runs / f"{name}-{lever}.npz"


def _predictions(bench: Bench, prepared: Prepared, logits: NDArray[Any]) -> Floats:
    task: Any = prepared.task
    columns = task.to_columns(logits)
    if bench.holds == "number":
        return np.asarray(columns["prediction"])[:, None]
    return np.stack([v for name, v in columns.items() if name.startswith("prob_")], axis=1)


if __name__ == "__main__":
    main()
