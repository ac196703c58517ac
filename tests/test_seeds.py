"""A run of two copies a fold (`training.seeds`), beside the run of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from conftest import small_config
from foldwise.config.schema import Config
from foldwise.hardware.device import build_accelerator
from foldwise.models.copies import copies_of
from foldwise.parts.usercode import UserCode
from foldwise.predictor import Predictor
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import encode_rows, prepare
from foldwise.preparation.resolve import resolve
from foldwise.run import checkpoints
from foldwise.run.folder import STARTS, RunFolder
from foldwise.training.inference import infer
from foldwise.training.lr_finder import try_rates
from foldwise.workflow import cross_validate

Make = Callable[..., Config]


@dataclass(frozen=True)
class Both:
    """The first fold of two runs that differ in `training.seeds` alone."""

    one: RunFolder
    two: RunFolder


def config_of(make: Make, seeds: int) -> Config:
    return make(
        run={"name": f"seeds-{seeds}"},
        loss={"name": "r_drop"},
        model={"freeze": 1, "pooling": "attention"},
        selection={"rows": "last"},
        training={"seeds": seeds, "log_every": 1, "clip": 0.5, "precision": "float32"},
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, backbone: Path, table_path: Path) -> Both:
    make = small_config(tmp_path_factory.mktemp("seeds") / "runs", backbone, table_path)
    return Both(*(cross_validate(config_of(make, seeds), only=[1]) for seeds in (1, 2)))


def test_the_first_copy_is_what_a_run_of_one_has_trained(both: Both) -> None:
    one, two = (checkpoints.load_best(run.fold(1)).model for run in (both.one, both.two))
    assert len(two) == 2 * len(one)
    assert all(torch.equal(two[f"copies.0.{name}"], tensor) for name, tensor in one.items())
    alike = {name for name, tensor in one.items() if torch.equal(two[f"copies.1.{name}"], tensor)}
    below = ("backbone.embeddings.", "backbone.encoder.layer.0.")
    assert alike == {name for name in one if name.startswith(below)}  # what is frozen


def test_a_fold_is_scored_by_the_mean_of_its_copies_logits(both: Both) -> None:
    predictor = Predictor(both.two.path, model="fold-1", device="cpu")
    ((task, model),) = predictor.models
    stored = pl.read_parquet(both.two.fold(1).predictions)
    rows = predictor.read(predictor.config.data.path or "", labelled=False)
    rows = stored.select("row").join(rows, on="row", how="left", maintain_order="left")
    dataset, places = task.dataset(rows), np.arange(rows.height)
    one, other = (
        infer(copy, dataset, places, task.collate, predictor.accelerator)[0]
        for copy in copies_of(model)
    )
    assert np.abs(one - other).max() > 0.01
    found = stored.select(pl.col("^logit_.*$")).to_numpy()
    np.testing.assert_allclose(found, (one + other) / 2, atol=1e-5)
    alone = pl.read_parquet(both.one.fold(1).predictions).select(pl.col("^logit_.*$")).to_numpy()
    np.testing.assert_allclose(alone, one, atol=1e-5)


def test_the_log_counts_the_weights_of_all_copies(both: Both) -> None:
    one, two = (
        next(event for event in run.events() if event["event"] == STARTS)
        for run in (both.one, both.two)
    )
    assert (one["copies"], two["copies"]) == (1, 2)
    for key in ("parameters", "trainable_parameters", "weights_bytes", "checkpoint_bytes"):
        assert two[key] == 2 * one[key]
    rates = [[(g["name"], g["lr"], g["decay"]) for g in event["groups"]] for event in (one, two)]
    assert rates[0] == rates[1]


def test_the_range_test_asks_one_copy(make_config: Make) -> None:
    config = resolve(config_of(make_config, 1))
    code, run = UserCode([]), RunFolder(Path(config.run.dir) / "none")
    prepared = encode_rows(prepare(config, code, run, build_task(config, code)))
    several = replace(prepared, config=resolve(config_of(make_config, 3)))
    accelerator, rates = build_accelerator(config.training), np.geomspace(1e-4, 1e-2, 11)
    one, found = (try_rates(each, 1, accelerator, rates) for each in (prepared, several))
    assert found.losses == one.losses
