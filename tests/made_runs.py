"""Finished run folders made from arrays: what a training would have left, in no time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.evaluation.bootstrap import intervals
from foldwise.metrics.metric import builtin_metric, score
from foldwise.run import checkpoints
from foldwise.run.audit import seal_anew
from foldwise.run.files import write_json, write_parquet, write_text
from foldwise.run.folder import FoldFolder, RunFolder

CLASSES = ["card", "debt", "loan"]


def make_run(
    config: Config,
    target: np.ndarray,
    probabilities: np.ndarray,
    fold: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    classes: Sequence[str] = CLASSES,
    held: tuple[np.ndarray, np.ndarray] | None = None,
    data_sha256: str = "d" * 64,
    memory: int | None = 2**30,
) -> RunFolder:
    """Write a finished run whose rows are 0 to n - 1.

    Args:
        config: names folder, metrics and folds.
        target: (n,) class ids.
        probabilities: (n, classes).
        fold: (n,) from 1.
        groups: (n,); None: each row is its own.
        classes: the labels.
        held: target and probabilities of holdout rows.
        data_sha256: of the table.
        memory: peak memory of each fold; None leaves it out, as older runs do.
    """
    run = RunFolder(Path(config.run.dir) / config.run.name)
    run.path.mkdir(parents=True)
    write_text(run.config, dump_config(config))
    shutil.copytree(config.model.backbone, run.backbone)
    write_json(run.classes, {"classes": list(classes)})
    write_json(run.manifest, {"data_sha256": data_sha256, "counts": {}})
    n = len(target)
    group = np.arange(n) if groups is None else groups
    none: list[list[int]] = [[] for _ in range(n)]
    write_parquet(
        run.folds,
        pl.DataFrame(
            {
                "row": np.arange(n),
                "repeat": np.ones(n, dtype=np.int32),
                "fold": fold.astype(np.int32),
                "role": ["cv"] * n,
                "inner_of": pl.Series(none, dtype=pl.List(pl.Int32)),
                "unused_in": pl.Series(none, dtype=pl.List(pl.Int32)),
                "group": group,
            }
        ),
    )
    names = [metric.name for metric in config.metrics]
    metrics = [builtin_metric(name) for name in names]
    write_parquet(run.out_of_fold, _table(target, probabilities, fold, classes))
    per_fold = {}
    for number in sorted(set(fold.tolist())):
        rows = fold == number
        chosen = probabilities[rows]
        per_fold[str(number)] = score(metrics, target[rows], chosen.argmax(axis=1), chosen)
        run.fold(number).path.mkdir()
        ended: dict[str, Any] = {"steps": 10, "best_step": 10, "best": 0.5, "elapsed_s": 60.0}
        if memory is not None:
            ended["peak_memory_bytes"] = memory
        write_json(run.fold(number).trained, ended)
        leave_a_model(run.fold(number))
    scores = {name: [values[name] for values in per_fold.values()] for name in names}
    held_scores = None
    if held is not None:
        held_scores = _intervals(metrics, *held, np.arange(len(held[0])))
        write_parquet(run.holdout, _table(*held, np.zeros(len(held[0])), classes))
    write_json(
        run.metrics,
        {
            "folds": per_fold,
            "mean": {name: float(np.mean(values)) for name, values in scores.items()},
            "std": {name: float(np.std(values, ddof=1)) for name, values in scores.items()},
            "oof": _intervals(metrics, target, probabilities, group),
            "holdout": held_scores,
            "baselines": {},
            "selection": "inner",
            "smaller_is_better": [m.name for m in metrics if not m.greater_is_better],
            "rows": {"oof": n, "holdout": 0 if held is None else len(held[0])},
        },
    )
    started = {"parameters": 22_600_000, "trainable_parameters": 600_000, "checkpoint_bytes": 2**21}
    run.log.write_text(json.dumps({"event": "training starts", "fold": 1, **started}) + "\n")
    seal_anew(run, [])
    return run


def leave_a_model(fold: FoldFolder) -> None:
    """Write the other files that a trained fold has; nothing here reads its weights."""
    write_json(fold.encoders, {})
    write_text(fold.history, "")
    checkpoint = checkpoints.Checkpoint(10, {"w": torch.zeros(1)}, {}, {})
    checkpoints.save(fold, checkpoint, best=True, last=False)


def noisy(target: np.ndarray, right: float, seed: int, n_classes: int = 3) -> np.ndarray:
    """Probabilities whose largest is the target's in a share `right` of the rows."""
    rng = np.random.default_rng(seed)
    guess = np.where(
        rng.random(len(target)) < right,
        target,
        (target + rng.integers(1, n_classes, len(target))) % n_classes,
    )
    probabilities = rng.random((len(target), n_classes)) * 0.3
    probabilities[np.arange(len(target)), guess] += 1
    return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))


def _table(
    target: np.ndarray, probabilities: np.ndarray, fold: np.ndarray, classes: Sequence[str]
) -> pl.DataFrame:
    names = np.array(classes)
    return pl.DataFrame(
        {
            "row": np.arange(len(target)),
            "repeat": np.ones(len(target), dtype=np.int32),
            "fold": fold.astype(np.int32),
            "target": names[target].tolist(),
            "prediction": names[probabilities.argmax(axis=1)].tolist(),
            **{f"prob_{name}": probabilities[:, i] for i, name in enumerate(classes)},
            **{f"logit_{name}": np.log(probabilities[:, i]) for i, name in enumerate(classes)},
        }
    )


def _intervals(
    metrics: list[Any], target: np.ndarray, probabilities: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    return intervals(
        metrics, target, probabilities.argmax(axis=1), probabilities, groups, seed=0, resamples=50
    )
