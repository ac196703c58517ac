"""What others make of a finished run's folds: the Hugging Face Trainer, and AutoGluon.

Both are fitted on each fold's training rows, inner rows included, and answer the rows that score
it; the score is that of all answers together, as a run's is. Neither is tuned.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.metrics.metric import builtin_metric
from foldwise.metrics.numbers import number_metric
from foldwise.models.resolve import resolve_backbone
from foldwise.run.files import write_json
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json, read_parquet
from foldwise.split.assignment import read_assignment

LEAST_S = 60  # what AutoGluon is given a fold, where the run itself was quicker


@dataclass(frozen=True)
class Folds:
    """A run's table and folds: for each the positions of the fitted and of the scored rows."""

    config: Config
    rows: pl.DataFrame
    folds: list[tuple[Any, Any]]

    @property
    def target(self) -> str:
        """The target's column."""
        return str(self.config.data.target)

    def labels(self) -> tuple[list[str], Any]:
        """Return the classes' names, and each row's class by number."""
        names = sorted(self.rows[self.target].unique().to_list())
        return names, np.array([names.index(value) for value in self.rows[self.target]])


def read_folds(run: RunFolder, table: Path) -> Folds:
    """Read the run's folds, and its table with every cell as text."""
    assignment = read_assignment(read_parquet(run.folds))
    folds = [
        (
            np.array([*assignment.training(number), *assignment.inner(number)]),
            np.array(assignment.scored(number)),
        )
        for number in range(1, assignment.n_folds + 1)
    ]
    return Folds(load_config(run.config), pl.read_csv(table, infer_schema=False), folds)


def trainer(run: RunFolder, table: Path) -> float | None:
    """Train the run's backbone by the Trainer's defaults (3 epochs, batches of 8, 5e-5).

    Returns:
        Macro-F1 of all scored rows, columns joined to one text; None where the target isn't one
        class a row.
    """
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
    )

    given = read_folds(run, table)
    config, data = given.config, given.config.data
    if config.task != "multiclass":
        return None
    folder = str(resolve_backbone(config.model.backbone).folder)
    columns = [*data.numeric, *data.categorical, *data.text]
    texts = given.rows.select(pl.concat_str(columns, separator=" ", ignore_nulls=True)).to_series()
    names, target = given.labels()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(texts.to_list(), truncation=True, max_length=config.text.max_length)
    ids = encoded["input_ids"]
    prediction = np.full(len(target), -1)

    def part(chosen: Any) -> list[dict[str, Any]]:
        return [
            {"input_ids": ids[i], "attention_mask": [1] * len(ids[i]), "labels": int(target[i])}
            for i in chosen
        ]

    for fitted, scored in given.folds:
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))
        with tempfile.TemporaryDirectory() as output:
            quiet = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True}
            here = {"use_cpu": not torch.cuda.is_available()}
            arguments = TrainingArguments(output_dir=output, **here, **quiet)
            peer = Trainer(
                model=model, args=arguments, train_dataset=part(fitted), processing_class=tokenizer
            )
            peer.train()
            found = peer.predict(part(scored))
        prediction[scored] = found.predictions.argmax(axis=1)
    return _macro_f1(target, prediction, len(names))


def autogluon(run: RunFolder, table: Path, python: Path) -> float | None:
    """Fit AutoGluon's `best_quality` on each fold, in as much time as the run took for it.

    Args:
        run: a finished run.
        table: its rows, a CSV file.
        python: the interpreter of an environment with autogluon.tabular.

    Returns:
        Macro-F1, or for numbers the root of the mean squared error, of all scored rows; None for
        sets of labels, which AutoGluon has no form for.
    """
    given = read_folds(run, table)
    config, data = given.config, given.config.data
    if config.task not in ("multiclass", "regression"):
        return None
    manifest = read_json(run.manifest)
    spent = sum(manifest["training_s"].values()) + sum(manifest["members_s"].values())
    task = {
        "target": given.target,
        "metric": "f1_macro" if config.task == "multiclass" else "root_mean_squared_error",
        "numbers": [*data.numeric, *([given.target] if config.task == "regression" else [])],
        "seconds": max(LEAST_S, round(spent / len(given.folds))),
    }
    used = given.rows.select(*data.text, *data.categorical, *data.numeric, given.target)
    answers: list[Any] = [None] * used.height
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for fitted, scored in given.folds:
            used[fitted].write_csv(folder / "fitted.csv")
            used[scored].drop(given.target).write_csv(folder / "scored.csv")
            write_json(folder / "task.json", task)
            script = Path(__file__).with_name("autogluon_fold.py")
            subprocess.run([python, script, folder], check=True, stdout=sys.stderr)
            for row, answer in zip(scored, read_json(folder / "answers.json"), strict=True):
                answers[row] = answer
    if config.task == "regression":
        numbers = np.array([np.nan if answer is None else answer for answer in answers])
        seen = ~np.isnan(numbers)
        target = used[given.target].cast(pl.Float64).to_numpy()
        return number_metric("rmse").compute(target[seen], numbers[seen], np.empty((0, 0)))
    names, labels = given.labels()
    known = {name: number for number, name in enumerate(names)}
    prediction = np.array([-1 if answer is None else known[answer] for answer in answers])
    return _macro_f1(labels, prediction, len(names))


def _macro_f1(target: Any, prediction: Any, n_classes: int) -> float:
    seen = prediction >= 0
    none = np.empty((int(seen.sum()), n_classes))
    return builtin_metric("f1_macro").compute(target[seen], prediction[seen], none)
