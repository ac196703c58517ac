"""The tables that levers.py trains on: samples of real ones, their folds and their members.

In: a name and how much of it is wanted. Out: a `Bench`, and on disk what lever_scores.py reads
beside the levers: `NAME.members.npz`, small enough to be carried about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from foldwise.config.schema import Config
from foldwise.hardware.device import build_accelerator
from foldwise.members.boosting import Boosting
from foldwise.members.embedding import Embedding
from foldwise.members.frozen import Frozen
from foldwise.members.linear import Linear
from foldwise.members.lookup import Lookup
from foldwise.members.member import Columns, Floats, Holds, Member
from foldwise.members.network import Network
from foldwise.members.read import Vectors, read_with
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import Prepared, encode_rows, prepare
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import RunFolder

PARTS = 5
FOLDS = (1, 2, 3)
MOST_CLASSES = 40  # that boosting is fitted on: it grows a tree a class
CROSS_FITTED = ("linear", "embedding", "lookup")


@dataclass(frozen=True)
class Table:
    """A sample of a table.

    Attributes:
        file: under the folder of tables.
        data: its columns, as in a config.
        tokens: that the fine-tuned model reads, and that the frozen embedding does.
        task: of the config.
        share: rows of the sample for each row that a fold trains on.
    """

    file: str
    data: dict[str, Any]
    tokens: tuple[int, int]
    task: str = "multiclass"
    share: float = 2.5


CFPB = {"target": "Product", "text": ["Consumer complaint narrative"], "rare_classes": "drop"}
CLOTHING = {
    "text": ["Title", "Review Text"],
    "categorical": ["Division Name", "Department Name", "Class Name", "Clothing ID"],
    "missing": {"text": "fill"},
}
TABLES = {
    "ramen": Table(
        "small/ramen.csv",
        {"target": "stars", "text": ["variety"], "categorical": ["brand", "style", "country"]},
        (24, 64),
        "regression",
    ),
    "banking": Table(
        "small/banking77.csv", {"target": "category", "text": ["text"]}, (32, 64), share=10 / 3
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
    "narrative": Table("cfpb_dev.csv.gz", CFPB, (48, 192)),
    "clothing": Table(
        "women_clothing/train.parquet",
        {
            **CLOTHING,
            "target": "Rating",
            "numeric": ["Age", "Recommended IND", "Positive Feedback Count"],
        },
        (48, 128),
    ),
    "recommended": Table(
        "women_clothing/train.parquet",
        {
            **CLOTHING,
            "target": "Recommended IND",
            "numeric": ["Age", "Positive Feedback Count"],
        },
        (48, 128),
    ),
}


@dataclass(frozen=True)
class Setting:
    """How much of the tables is used, and by what.

    Attributes:
        runs: folder of what is made.
        shared: folder of the tables.
        backbone: as in a config.
        device: as in a config.
        rows: that a fold trains on, at most.
        most: rows of a sample, at most.
        tokens: that the fine-tuned model reads; None: the table's own.
        epochs: passes over the training rows.
    """

    runs: Path
    shared: Path
    backbone: str
    device: str
    rows: int
    most: int
    tokens: int | None
    epochs: int


@dataclass(frozen=True)
class Bench:
    """A table, ready to train and score on.

    Attributes:
        name: of the table.
        setting: how much of it.
        config: resolved.
        prepared: rows, encoded as the model reads them.
        changed: the same under other settings of the config, by these.
        members: out-of-fold predictions of the members, once they are fitted.
    """

    name: str
    setting: Setting
    config: Config
    prepared: Prepared
    changed: dict[str, Prepared] = field(default_factory=dict)

    @cached_property
    def fold(self) -> NDArray[np.int64]:
        """The fold that scores each row, from 1, int64 (n,)."""
        fold = np.zeros(self.prepared.frame.height, dtype=np.int64)
        for number in FOLDS:
            scored = self.prepared.assignment.scored(number)
            fold[self.prepared.positions(scored)] = number
        return fold

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """Near-duplicates have equal numbers, int64 (n,)."""
        return self.prepared.assignment.groups(self.prepared.frame["row"].to_numpy())

    @cached_property
    def target(self) -> NDArray[Any]:
        """What members get: class ids (n,), or numbers (n, 1)."""
        task: Any = self.prepared.task
        values = np.asarray(task.target_values(self.prepared.frame))
        return values[:, None] if self.config.task == "regression" else values

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
        return np.sort(np.random.default_rng([7, fold]).permutation(others)[: self.setting.rows])

    def scored(self, fold: int) -> NDArray[np.int64]:
        """Return the positions that a fold scores."""
        return np.flatnonzero(self.fold == fold)

    def under(self, overrides: dict[str, Any]) -> Prepared:
        """Return the rows under other settings of the config."""
        if not overrides:
            return self.prepared
        key = repr(overrides)
        if key not in self.changed:
            tokens = self.setting.tokens or TABLES[self.name].tokens[0]
            self.changed[key] = _prepared(self.name, self.setting, tokens, overrides)[1]
        return self.changed[key]


def open_bench(name: str, setting: Setting) -> Bench:
    """Read and encode a table."""
    config, prepared = _prepared(name, setting, setting.tokens or TABLES[name].tokens[0], {})
    return Bench(name, setting, config, prepared)


def members_path(name: str, setting: Setting) -> Path:
    """Return where a table's targets and the predictions of its members lie."""
    return setting.runs / f"{name}.members.npz"


def vectors_of(bench: Bench) -> Vectors:
    """Embed a table's rows by the frozen backbone, or read what is kept of the first time."""
    _, wide = _prepared(bench.name, bench.setting, TABLES[bench.name].tokens[1], {})
    frozen = Frozen.of_run(wide, build_accelerator(wide.config.training))
    return frozen.embed(wide.frame)


def fit_members(bench: Bench, fold: int, *, inside: bool) -> dict[str, Floats]:
    """Fit a fold's members; who fits several folds at once calls `vectors_of` first.

    Args:
        bench: the table.
        fold: from 1.
        inside: predict the training rows by five parts of them, which is what `offset` learns from.

    Returns:
        Predictions of the scored rows by member, or of the training rows.
    """
    frame, vectors = bench.prepared.frame, vectors_of(bench)
    data, holds, outputs = bench.config.data, bench.holds, bench.n_outputs
    columns = Columns(tuple(data.text), tuple(data.categorical), tuple(data.numeric))
    kinds: dict[str, Callable[[], Member]] = {
        "linear": lambda: Linear(holds, outputs, columns, 0),
        "embedding": lambda: Embedding(holds, outputs, columns, 0),
        "network": lambda: Network(holds, outputs, columns, 0),
    }
    if columns.categorical:
        kinds["lookup"] = lambda: Lookup(outputs, columns, 0)
    if outputs <= MOST_CLASSES:
        kinds["boosting"] = lambda: Boosting(holds, outputs, columns, 0)

    def fitted(kind: str, rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> Floats:
        stopping = np.zeros(len(rows), dtype=bool)
        stopping[np.random.default_rng(0).permutation(len(rows))[: len(rows) // 9]] = True
        member = kinds[kind]()
        read_with(frame[rows.tolist()], vectors.take(rows)).fit(
            member, bench.target[rows], stopping
        )
        return read_with(frame[wanted.tolist()], vectors.take(wanted)).predict(member)

    known = bench.training(fold)
    if not inside:
        return {kind: fitted(kind, known, bench.scored(fold)) for kind in kinds}
    groups, of_row = np.unique(bench.group[known], return_inverse=True)
    dealt = (np.random.default_rng(fold).permutation(len(groups)) % PARTS)[of_row]
    made = {kind: np.zeros((len(known), outputs)) for kind in CROSS_FITTED if kind in kinds}
    for kind, predictions in made.items():
        for part in range(PARTS):
            out = dealt == part
            predictions[out] = fitted(kind, known[~out], known[out])
    return made


def shrunk(made: Floats, holds: Holds) -> NDArray[Any]:
    """Return predictions as they are kept: float16 log probabilities, or float32 numbers."""
    if holds == "number":
        return made.astype(np.float32)
    return np.log(np.maximum(made, 1e-7)).astype(np.float16)


def grown(kept: NDArray[Any], holds: Holds) -> Floats:
    """Take back what `shrunk` made: probabilities, or numbers, float64."""
    if holds == "number":
        return kept.astype(np.float64)
    made: Floats = np.exp(kept.astype(np.float64))
    made /= made.sum(axis=1, keepdims=True)
    return made


def _prepared(
    name: str, setting: Setting, tokens: int, overrides: dict[str, Any]
) -> tuple[Config, Prepared]:
    table, runs = TABLES[name], setting.runs
    file = _file(name, setting)
    sample = min(round(table.share * setting.rows), setting.most)
    values: dict[str, Any] = {
        "run": {"name": name, "dir": str(runs)},
        "task": table.task,
        "data": {**table.data, "path": str(file), "sample": sample},
        "folds": {"n": len(FOLDS)},
        "selection": {"rows": "last"},
        "text": {"max_length": tokens},
        "model": {"backbone": setting.backbone},
        "training": {"epochs": setting.epochs, "device": setting.device},
    }
    for section, keys in overrides.items():
        values[section] = {**values.get(section, {}), **keys}
    config = resolve(Config.model_validate(values))
    code, run = UserCode(config.code), RunFolder(runs / name)
    task = build_task(config, code, stores=runs / ".tokens")
    return config, encode_rows(prepare(config, code, run, task))


def _file(name: str, setting: Setting) -> Path:
    # Two of the tables have cells that no config would read as what they are.
    file = setting.shared / TABLES[name].file
    if name not in ("alexa", "ramen"):
        return file
    path = setting.runs / f"{name}.csv"
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


def tensor(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return numbers on a device, float32."""
    return torch.from_numpy(values.astype(np.float32)).to(device)
