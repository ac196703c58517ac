"""Does a change to the fine-tuned model make a run's answer better, or the model alone?

    python benchmarks/levers.py [--tables ramen,banking] [--levers base,offset] [--dir runs-levers]

Real tables, three folds, 600 training rows a fold (drawn from its thousand or so) and every other
row scored: 6 epochs of 19 steps, batches of 32, all-MiniLM-L6-v2, the last weights. The members
`linear`, `embedding`, `boosting` and `lookup` are fitted on the same 600 rows. Each lever is
trained on the same rows in the same order.

- `base`: as the config has it. `seed2`: the same with another seed; for the mean of both.
- `long`: twice the epochs, at the cost of two seeds.
- `offset`: the logits are added to those of a blend of linear, embedding and lookup, fitted in five
  parts of the training rows, so that the network learns what those leave over.
- `ema`: the exponential average of the weights over about 20 steps, in place of the last.
- `probe`: the head is fitted to the pooled vectors before anything else is trained (LP-FT, Kumar
  et al. 2022), by L-BFGS on the task's own loss.

Predictions that are there already are kept. `lever_scores.py` reads them and prints the lines of
docs/experiments.md.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from foldwise.commands.quiet import quiet_libraries
from foldwise.config.schema import Config
from foldwise.config.training import Average
from foldwise.ensemble.blend import blend, fit_weights
from foldwise.hardware.device import build_accelerator
from foldwise.members.boosting import Boosting
from foldwise.members.embedding import Embedding
from foldwise.members.linear import Linear
from foldwise.members.lookup import Lookup
from foldwise.members.member import EMBEDDING, Columns, Floats, Holds, Member
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import Prepared, encode_rows, prepare
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import RunFolder
from foldwise.training.averaging import WeightAverage, newest_share
from foldwise.training.batching import Sampler
from foldwise.training.inference import infer
from foldwise.training.loading import reseed
from foldwise.training.optimizers import build_optimizer
from foldwise.training.schedules import build_schedule
from foldwise.training.update import Update

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = REPOSITORY.parent / "shared" / "data"
TRAINING_ROWS, EPOCHS, PARTS = 600, 6, 5
PENALTY = 3e-3  # on the probed head's weights
# Lever -> seed.
LEVERS = {"base": 42, "ema": 42, "seed2": 43, "long": 42, "offset": 42, "probe": 42}
CROSS_FITTED = ("linear", "embedding", "lookup")


@dataclass(frozen=True)
class Table:
    """A sample of a table.

    Attributes:
        file: under the folder of tables.
        data: its columns, as in a config.
        tokens: that the fine-tuned model reads, and that the frozen embedding does.
        task: of the config.
        sample: rows, scored ones and those trained on.
    """

    file: str
    data: dict[str, Any]
    tokens: tuple[int, int]
    task: str = "multiclass"
    sample: int = 1500


CFPB = {"target": "Product", "text": ["Consumer complaint narrative"], "rare_classes": "drop"}
TABLES = {
    "ramen": Table(
        "small/ramen.csv",
        {"target": "stars", "text": ["variety"], "categorical": ["brand", "style", "country"]},
        (24, 64),
        "regression",
    ),
    "banking": Table(
        "small/banking77.csv", {"target": "category", "text": ["text"]}, (32, 64), sample=2000
    ),
    "alexa": Table(
        "small/alexa.tsv",
        {
            "target": "rating",
            "text": ["verified_reviews"],
            "categorical": ["variation"],
            "missing": {"text": "fill"},
        },
        (40, 128),
    ),
    "complaints": Table(
        "cfpb_dev.csv.gz", {**CFPB, "categorical": ["Sub-issue", "ZIP code"]}, (48, 192)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--levers", default=",".join(LEVERS))
    parser.add_argument("--dir", type=Path, default=Path("runs-levers"))
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    options = parser.parse_args()
    quiet_libraries(online=True)
    options.dir.mkdir(parents=True, exist_ok=True)
    for name in options.tables.split(","):
        bench = open_bench(name, options.dir, options.shared)
        for lever in options.levers.split(","):
            path = options.dir / f"{name}-{lever}.npz"
            if not path.exists():
                train_all(bench, lever, path)


@dataclass(frozen=True)
class Bench:
    """A table, ready to train and score on.

    Attributes:
        name: of the table.
        prepared: rows, encoded as the model reads them.
        frame: the rows, with the frozen embedding.
        fold: that scores each row, from 1, int64 (n,).
        group: near-duplicates have equal numbers, int64 (n,).
        target: as members get it.
        members: out-of-fold predictions of the members, float64 (n, n_outputs).
        inside: of each fold and member, predictions of the training rows by five parts of them.
    """

    name: str
    prepared: Prepared
    frame: pl.DataFrame
    fold: NDArray[np.int64]
    group: NDArray[np.int64]
    target: NDArray[Any]
    members: dict[str, Floats] = field(default_factory=dict)
    inside: dict[tuple[int, str], Floats] = field(default_factory=dict)

    @property
    def holds(self) -> Holds:
        """What a row's target is."""
        return "number" if self.target.ndim == 2 else "label"

    @property
    def n_outputs(self) -> int:
        """Classes, or 1."""
        return 1 if self.holds == "number" else int(self.target.max()) + 1

    def training(self, fold: int) -> NDArray[np.int64]:
        """Return the positions that a fold trains on."""
        others = np.flatnonzero(self.fold != fold)
        return np.sort(np.random.default_rng([7, fold]).permutation(others)[:TRAINING_ROWS])


def open_bench(name: str, runs: Path, shared: Path) -> Bench:
    """Read a table, fit its members fold by fold, and write what they say for lever_scores.py."""
    table = TABLES[name]
    _, wide = _prepared(name, runs, shared, table.tokens[1])
    config, prepared = _prepared(name, runs, shared, table.tokens[0])
    frame = prepared.frame.with_columns(pl.Series(EMBEDDING, _frozen(wide)))
    rows = prepared.assignment
    fold = np.zeros(frame.height, dtype=np.int64)
    for number in prepared.folds:
        fold[prepared.positions(rows.scored(number))] = number
    values = np.asarray(prepared.task.target_values(frame))  # type: ignore[attr-defined]
    target = values[:, None] if table.task == "regression" else values
    bench = Bench(name, prepared, frame, fold, rows.groups(frame["row"].to_numpy()), target)
    _fit_members(bench, config)
    facts = {"target": target, "fold": fold, "group": bench.group}
    np.savez(runs / f"{name}.members.npz", **facts, **bench.members)
    return bench


def train_all(bench: Bench, lever: str, path: Path) -> None:
    """Train a lever on every fold of a table and write its out-of-fold predictions."""
    made, seconds = np.zeros((len(bench.fold), bench.n_outputs)), 0.0
    for fold in bench.prepared.folds:
        start = time.monotonic()
        made[bench.fold == fold] = train(bench, fold, lever)
        seconds += time.monotonic() - start
        print(f"{bench.name}, {lever}, fold {fold}: {seconds:.0f} s so far", flush=True)
    np.savez(path, made=made, seconds=seconds)


def train(bench: Bench, fold: int, lever: str) -> Floats:
    """Train one fold under a lever and predict its scored rows."""
    prepared, task, seed = bench.prepared, bench.prepared.task, LEVERS[lever]
    config = prepared.config
    accelerator = build_accelerator(config.training)
    known, scored = bench.training(fold), np.flatnonzero(bench.fold == fold)
    task.fit_rows(bench.frame[known.tolist()])
    reseed(seed, fold)
    model: Any = task.build_model()
    if lever == "probe":
        probe(bench, model, known)
    offset = torch.zeros(len(bench.fold), bench.n_outputs)
    if lever == "offset":
        offset = torch.from_numpy(offsets(bench, fold, known, scored)).float()
    sampler = Sampler(prepared.dataset.lengths[known], len(known), 32, None, 1, (seed, fold))
    epochs = EPOCHS * (2 if lever == "long" else 1)
    steps = sum(len(sampler.windows(epoch)) for epoch in range(epochs))
    optimizer = build_optimizer(model, config.optimizer, prepared.code)
    schedule = build_schedule(optimizer, config.schedule, steps, prepared.code)
    ema = Average(ema=0.95) if lever == "ema" else None
    update = Update(optimizer, schedule, WeightAverage(model, newest_share(ema, steps)))
    model.train()
    done = 0
    for epoch in range(epochs):
        for number, (positions,) in enumerate(sampler.windows(epoch)):
            rows = known[positions]
            batch = task.collate([prepared.dataset[row] for row in rows.tolist()])
            reseed(seed, fold, epoch, number, 1)
            logits = model(**{key: values for key, values in batch.items() if key != "target"})
            task.loss(logits + offset[rows], batch).mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.training.clip or math.inf)
            done += 1
            update.step(done)
    with update.average.applied():
        logits, _ = infer(model, prepared.dataset, scored, task.collate, accelerator)
    return _predictions(bench, logits + offset[scored].numpy())


def probe(bench: Bench, model: Any, known: NDArray[np.int64]) -> None:
    """Fit the head's last layer to the vectors that the untrained model pools."""
    prepared, task = bench.prepared, bench.prepared.task
    head, model.head = model.head, nn.Identity()
    accelerator = build_accelerator(prepared.config.training)
    pooled, target = infer(model, prepared.dataset, known, task.collate, accelerator)
    model.head = head
    vectors, layer = torch.from_numpy(pooled), head.layers[-1]
    batch = {"target": torch.as_tensor(target)}
    search = torch.optim.LBFGS(
        layer.parameters(), max_iter=100, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = task.loss(layer(vectors), batch).mean() + PENALTY / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    search.step(closure)  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def offsets(bench: Bench, fold: int, known: NDArray[np.int64], scored: NDArray[np.int64]) -> Floats:
    """Return what is added to the logits of a fold's rows: a blend of members, (n, n_outputs)."""
    names = [name for name in CROSS_FITTED if name in bench.members]
    inside = [bench.inside[fold, name] for name in names]
    target, holds = bench.target[known], bench.holds
    weights = fit_weights(inside, target, holds, macro=holds == "label")
    added = np.zeros((len(bench.fold), bench.n_outputs))
    for rows, made in ((known, inside), (scored, [bench.members[name][scored] for name in names])):
        blended = blend(weights, made, holds)
        if holds == "number":
            state: Any = bench.prepared.task.state()["rows"]  # type: ignore[attr-defined]
            added[rows] = (blended - state["mean"]) / state["deviation"]
        else:
            log = np.log(np.maximum(blended, np.finfo(np.float64).tiny))
            added[rows] = log - log.mean(axis=1, keepdims=True)
    return added


def _prepared(name: str, runs: Path, shared: Path, tokens: int) -> tuple[Config, Prepared]:
    table = TABLES[name]
    config = Config.model_validate(
        {
            "run": {"name": name, "dir": str(runs)},
            "task": table.task,
            "data": {**table.data, "path": str(_file(name, runs, shared)), "sample": table.sample},
            "folds": {"n": 3},
            "selection": {"rows": "last"},
            "text": {"max_length": tokens},
            "training": {"epochs": EPOCHS, "precision": "float32", "device": "cpu"},
        }
    )
    config, code, run = resolve(config), UserCode(config.code), RunFolder(runs / name)
    task = build_task(config, code, stores=runs / ".tokens")
    return config, encode_rows(prepare(config, code, run, task))


def _file(name: str, runs: Path, shared: Path) -> Path:
    # Two of the tables have cells that no config would read as what they are.
    file = shared / TABLES[name].file
    if name not in ("alexa", "ramen"):
        return file
    path = runs / f"{name}.csv"
    if not path.exists():
        frame = pl.read_csv(
            file, separator="\t" if file.suffix == ".tsv" else ",", infer_schema=False
        )
        if name == "alexa":
            frame = frame.with_columns(pl.all().str.strip_chars())
        else:
            frame = frame.filter(pl.col("stars").str.contains(r"^[0-9.]+$"))
        frame.rename(lambda column: column.strip("\ufeff")).write_csv(path)
    return path


def _frozen(prepared: Prepared) -> NDArray[np.float32]:
    prepared.task.fit_rows(prepared.frame)
    model: Any = prepared.task.build_model()
    model.head = nn.Identity()
    accelerator = build_accelerator(prepared.config.training)
    rows = np.arange(prepared.frame.height)
    vectors, _ = infer(model, prepared.dataset, rows, prepared.task.collate, accelerator)
    return vectors.astype(np.float32)


def _fit_members(bench: Bench, config: Config) -> None:
    data, holds, outputs = config.data, bench.holds, bench.n_outputs
    columns = Columns(tuple(data.text), tuple(data.categorical), tuple(data.numeric))
    kinds: dict[str, Callable[[], Member]] = {
        "linear": lambda: Linear(holds, outputs, columns, 0),
        "embedding": lambda: Embedding(holds, outputs, columns, 0),
    }
    if columns.categorical:
        kinds["lookup"] = lambda: Lookup(outputs, columns, 0)
    if outputs <= 40:
        kinds["boosting"] = lambda: Boosting(holds, outputs, columns, 0)

    def fitted(kind: str, rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> Floats:
        stopping = np.zeros(len(rows), dtype=bool)
        stopping[np.random.default_rng(0).permutation(len(rows))[: len(rows) // 9]] = True
        member = kinds[kind]()
        member.fit(bench.frame[rows.tolist()], bench.target[rows], stopping)
        return member.predict(bench.frame[wanted.tolist()])

    for kind in kinds:
        bench.members[kind] = np.zeros((len(bench.fold), outputs))
        for fold in bench.prepared.folds:
            known, scored = bench.training(fold), np.flatnonzero(bench.fold == fold)
            bench.members[kind][scored] = fitted(kind, known, scored)
            if kind in CROSS_FITTED:
                bench.inside[fold, kind] = np.zeros((len(known), outputs))
                groups, of_row = np.unique(bench.group[known], return_inverse=True)
                dealt = np.random.default_rng(fold).permutation(len(groups)) % PARTS
                for part in range(PARTS):
                    out = dealt[of_row] == part
                    made = fitted(kind, known[~out], known[out])
                    bench.inside[fold, kind][out] = made


def _predictions(bench: Bench, logits: NDArray[np.float32]) -> Floats:
    task: Any = bench.prepared.task
    columns = task.to_columns(logits)
    if bench.holds == "number":
        return np.asarray(columns["prediction"])[:, None]
    return np.stack([v for name, v in columns.items() if name.startswith("prob_")], axis=1)


if __name__ == "__main__":
    main()
