"""A fold's beginning: the sampler that the config asks for, and the rows of the learning curve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from foldwise.config.schema import Config
from foldwise.hardware.device import build_accelerator
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import Prepared, encode_rows, prepare
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import RunFolder
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
    _, train, sampler, lengths = begin_fold(found, 1, build_accelerator(found.config.training))
    assert lengths is not None
    batches = [batch for window in sampler.windows(0) for batch in window]
    assert max(len(batch) * lengths[batch].max() for batch in batches) <= 64
    order = np.random.default_rng([7, 1, 0]).permutation(len(train))
    assert sorted(b.tolist() for b in batches) == sorted(
        order[first : first + len(b)].tolist()
        for b in batches
        for first in np.flatnonzero(order == b[0])
    )
