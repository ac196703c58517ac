"""Parts of one's own: at most 15 lines of code and one of config each, and they take effect."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.run import checkpoints
from foldwise.run.folder import RunFolder
from foldwise.run.history import read_history
from foldwise.workflow import cross_validate

POOLING = """
import torch
from torch import nn

class GatedPooling(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.gate = nn.Linear(hidden_size, 1)
    def forward(self, hidden_states, attention_mask):
        score = self.gate(hidden_states).squeeze(-1).masked_fill(attention_mask == 0, -1e9)
        mean = (score.softmax(1).unsqueeze(-1) * hidden_states).sum(1)
        return torch.cat([mean, hidden_states[:, 0]], dim=1)
"""


def pooling_has_weights_and_another_width(run: RunFolder) -> None:
    weights = checkpoints.load(checkpoints.pointed(run.fold(1))).model
    assert weights["pooling.gate.weight"].shape == (1, 32)
    assert weights["head.layers.1.weight"].shape == (3, 64)  # twice as wide as the backbone


FUSION = """
import torch
from torch import nn

class Scaled(nn.Module):
    def __init__(self, hidden_size, tabular_size):
        super().__init__()
        self.scale = nn.Linear(tabular_size, hidden_size)
    def forward(self, pooled, tabular):
        return pooled * torch.sigmoid(self.scale(tabular))
"""


def fusion_has_weights(run: RunFolder) -> None:
    weights = checkpoints.load(checkpoints.pointed(run.fold(1))).model
    assert weights["fusion.scale.weight"].shape[0] == 32


ACTIVATION = """
import torch
from torch import nn

class Snake(nn.Module):  # Ziyin et al. 2020
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.ones(1))
    def forward(self, x):
        return x + (self.a * x).sin().square() / self.a
"""


def activation_learns(run: RunFolder) -> None:
    weights = checkpoints.load(checkpoints.pointed(run.fold(1))).model
    (name,) = (name for name in weights if name.endswith(".a"))
    assert name.startswith("head.layers.")
    assert weights[name].item() != 1


LOSS = """
from torch import nn

class GeneralizedCrossEntropy(nn.Module):  # Zhang and Sabuncu 2018
    def __init__(self, q=0.5):
        super().__init__()
        self.q = q
    def forward(self, logits, target):
        right = logits.softmax(dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
        return (1 - right**self.q) / self.q
"""


def loss_is_what_is_minimised(run: RunFolder) -> None:
    first = read_history(run.fold(1).history)[0]["loss"]
    # Before anything is learned each of three classes has a probability of about a third.
    assert first == pytest.approx((1 - (1 / 3) ** 0.7) / 0.7, abs=0.03)  # cross-entropy: 1.10


OPTIMIZER = """
import torch

class SignSGD(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * p.grad.sign())
"""


def optimizer_moves_by_signs(run: RunFolder) -> None:
    state = checkpoints.load(checkpoints.pointed(run.fold(1)))
    bias = state.model["head.layers.1.bias"].double() / 0.25
    assert bias.abs().max() > 0
    # Steps of 1 each, times the rate: whole numbers, which no other rule gives.
    assert (bias - bias.round()).abs().max() < 1e-5


SCHEDULE = """
from torch.optim.lr_scheduler import LambdaLR

class Halving(LambdaLR):
    def __init__(self, optimizer, every=1):
        super().__init__(optimizer, lambda step: 0.5 ** (step // every))
"""


def schedule_halves_the_rate(run: RunFolder) -> None:
    rates = [line["lr"] for line in read_history(run.fold(1).history) if line["split"] == "step"]
    assert rates == pytest.approx([1e-2 * 0.5 ** ((step + 1) // 2) for step in range(len(rates))])
    assert len(rates) > 3


SPLITTER = """
import numpy as np

class EveryNth:
    def __init__(self, n_splits):
        self.n_splits = n_splits
    def split(self, X, y=None, groups=None):
        place = np.arange(len(X)) % self.n_splits
        for fold in range(self.n_splits):
            yield np.flatnonzero(place != fold), np.flatnonzero(place == fold)
"""


def splitter_deals_the_rows(run: RunFolder) -> None:
    scored = pl.read_parquet(run.fold(1).predictions)["row"].to_list()
    assert scored == list(range(0, 90, 2))


METRIC = """
def worst_recall(target, prediction, probabilities):
    return min((prediction[target == c] == c).mean() for c in set(target.tolist()))
"""


def metric_is_that_of_the_predictions(run: RunFolder) -> None:
    table = pl.read_parquet(run.fold(1).predictions)
    right = (pl.col("target") == pl.col("prediction")).mean().alias("recall")
    recalls = table.group_by("target").agg(right)
    scores = json.loads(run.fold(1).validation.read_text())["scores"]
    assert scores["my_parts.worst_recall"] == pytest.approx(recalls["recall"].min())


TRACKER = """
import csv

class CsvTracker:
    def __init__(self, folder, fold, config, separator=","):
        self.file = (folder / f"{config['run']['name']}-{fold}.csv").open("a", newline="")
        self.writer = csv.writer(self.file, delimiter=separator)
    def log(self, step, values, split):
        self.writer.writerows((step, split, *pair) for pair in values.items())
    def close(self):
        self.file.close()
"""


def tracker_was_told_what_the_history_has(run: RunFolder) -> None:
    path = run.tracker("my_parts.CsvTracker", 1) / "test-1.csv"
    rows = list(csv.reader(path.read_text().splitlines(), delimiter=";"))
    told = {(int(step), split, name): float(value) for step, split, name, value in rows}
    for line in read_history(run.fold(1).history):
        for name in ("loss", "lr", "accuracy"):
            if name in line:
                assert told[line["step"], line["split"], name] == line[name]
    assert {split for _, split, _ in told} == {"step", "training", "validation"}


Check = Callable[[RunFolder], None]
OWN: dict[str, tuple[str, str, Check]] = {
    "pooling": (
        POOLING,
        "model: {pooling: my_parts.GatedPooling}",
        pooling_has_weights_and_another_width,
    ),
    "fusion": (FUSION, "model: {fusion: my_parts.Scaled}", fusion_has_weights),
    "activation": (
        ACTIVATION,
        "model: {head: {hidden: [8], activation: my_parts.Snake}}",
        activation_learns,
    ),
    "loss": (
        LOSS,
        "loss: {name: my_parts.GeneralizedCrossEntropy, q: 0.7}",
        loss_is_what_is_minimised,
    ),
    "optimizer": (
        OPTIMIZER,
        "optimizer: {name: my_parts.SignSGD, lr: 0.25, head_lr: 0.25, weight_decay: 0}",
        optimizer_moves_by_signs,
    ),
    "schedule": (
        SCHEDULE,
        "schedule: {name: my_parts.Halving, every: 2}",
        schedule_halves_the_rate,
    ),
    "splitter": (SPLITTER, "folds: {strategy: my_parts.EveryNth}", splitter_deals_the_rows),
    "metric": (
        METRIC,
        "metrics: [accuracy, my_parts.worst_recall]",
        metric_is_that_of_the_predictions,
    ),
    "tracker": (
        TRACKER,
        "trackers: [{name: my_parts.CsvTracker, separator: ;}]",
        tracker_was_told_what_the_history_has,
    ),
}


@pytest.mark.parametrize("kind", OWN)
def test_a_part_of_ones_own_takes_fifteen_lines_and_one_of_config(
    kind: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    code, line, check = OWN[kind]
    assert len(code.strip().splitlines()) <= 15
    assert "\n" not in line
    (tmp_path / "my_parts.py").write_text(code, "utf-8")
    base = make_config(
        data={"categorical": ["kind"]},
        folds={"n": 2, "run": [1]},
        training={"epochs": 1, "log_every": 1},
        metrics=["accuracy"],
        selection={"metric": "loss"},
        schedule={"name": "constant", "warmup": 0.0},
        trackers=[],
    ).model_dump(mode="json")
    (tmp_path / "base.yaml").write_text(yaml.dump({**base, "code": ["my_parts.py"]}), "utf-8")
    (tmp_path / "config.yaml").write_text(f"extends: base.yaml\n{line}\n", "utf-8")
    check(cross_validate(load_config(tmp_path / "config.yaml")))
