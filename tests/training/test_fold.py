"""A fold's beginning: the sampler that the config asks for, and the rows of the learning curve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldwise.config.schema import Config
from foldwise.hardware.device import build_accelerator
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import Prepared, encode_rows, prepare
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import RunFolder
from foldwise.training import fold as training_fold
from foldwise.training.fold import begin_fold


def prepared(config: Config) -> Prepared:
    code = UserCode(config.code)
    run = RunFolder(Path(config.run.dir) / config.run.name)
    return encode_rows(prepare(resolve(config), code, run, build_task(config, code)))


def test_tokens_fill_batches_in_random_order_where_bucketing_is_off(
    make_config: Callable[..., Config],
) -> None:
    training = {"batch_size": None, "tokens_per_batch": 64, "bucketing": False}
    found = prepared(make_config(training=training))
    _, rows = begin_fold(found, 1, build_accelerator(found.config.training))
    lengths = rows.sampler.lengths
    assert lengths is not None
    batches = [batch for window in rows.sampler.windows(0) for batch in window]
    assert max(len(batch) * lengths[batch].max() for batch in batches) <= 64
    order = np.random.default_rng([7, 1, 0]).permutation(len(rows.positions))
    assert sorted(b.tolist() for b in batches) == sorted(
        order[first : first + len(b)].tolist()
        for b in batches
        for first in np.flatnonzero(order == b[0])
    )


def test_the_curves_training_rows_are_not_the_first_of_an_epochs_order(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Short lists of numbers are padded with zeros: a stream of (seed, fold) is that of
    # (seed, fold, 0), from which the first epoch's order is drawn.
    found = prepared(make_config())
    accelerator = build_accelerator(found.config.training)
    model, rows = begin_fold(found, 1, accelerator)
    asked: list[np.ndarray] = []
    original = training_fold.infer

    def infer(model: Any, dataset: Any, positions: np.ndarray, *rest: Any, **named: Any) -> object:
        asked.append(positions)
        return original(model, dataset, positions, *rest, **named)

    monkeypatch.setattr(training_fold, "infer", infer)
    evaluate = training_fold._evaluation(found, 1, accelerator)
    assert evaluate is not None
    evaluate(model)
    sample, picking = asked
    assert picking.tolist() == found.positions(found.assignment.inner(1)).tolist()
    assert len(set(sample)) == len(sample) == len(picking)
    train = rows.positions
    assert set(sample) <= set(train)
    for epoch in range(3):
        order = np.random.default_rng([*rows.sampler.seed, epoch]).permutation(len(train))
        assert set(sample) != set(train[order[: len(sample)]])
