"""A fine-tuned model's labels by onnxruntime: an exported folder beside its run, checked first.

In: a predictor whose answer is one fine-tuned model, and what `foldwise export` made of that model.
Out: what labels rows as the predictor does, and how closely. In float32 an answer must be the run's
own to NEAR on rows that are made up here, as a run doesn't hold its table; what int8 loses was
measured when it was exported, on real rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from foldwise.config.members import MODEL
from foldwise.errors import FoldwiseError
from foldwise.evaluation.answer import mean_answer
from foldwise.predictor import Predictor
from foldwise.tasks.predictions import values_of, values_to_table

NEAR = 1e-4  # how far a probability may be from PyTorch's, or a number in its deviations
_ROWS = 64  # that are made up
_LONGEST = 300  # words of a text of them


@dataclass(frozen=True)
class Engine:
    """What computes labels in PyTorch's place.

    Attributes:
        label: rows -> prediction and prob_*, as `Predictor.predict`.
        about: what /metadata says of it.
    """

    label: Callable[[pl.DataFrame], pl.DataFrame]
    about: dict[str, Any]


def open_export(predictor: Predictor, folder: Path) -> Engine:
    """Open an exported folder, and compare its answers with the predictor's.

    Raises:
        FoldwiseError: the answer isn't one fine-tuned model's, the folder isn't an export, or it is
            one of another model.
    """
    if predictor.chosen.voting != (MODEL,) or len(predictor.models) != 1:
        raise FoldwiseError(
            "--onnx: an export is one fine-tuned model, and here the answer is more than that; say "
            "which was exported: --model distilled, or --model fold-1 --member model"
        )
    if predictor.config.training.precision != "float32":
        raise FoldwiseError(
            f"--onnx: an export is compared with the run's model in float32, and this one computes "
            f"in {predictor.config.training.precision}; add --precision float32"
        )
    try:
        from foldwise.export.runner import Model
    except ModuleNotFoundError as error:
        raise FoldwiseError(
            f"--onnx needs the package {error.name}: pip install 'foldwise[export]'"
        ) from None
    try:
        model = Model(folder, threads=torch.get_num_threads())
        _check_same(predictor, model.spec, folder)
    except FoldwiseError:
        raise
    except Exception as error:  # of JSON, of tokenizers, and many of onnxruntime's own
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FoldwiseError(
            f"--onnx {folder}: is no folder of foldwise export RUN -o FOLDER ({told})"
        ) from None
    task: Any = predictor.task
    columns = model.columns

    def label(rows: pl.DataFrame) -> pl.DataFrame:
        taken = predictor.take(rows)
        values = model.values(taken.select(columns).to_dicts())
        tables = {MODEL: values_to_table(task, taken, values, None, None)}
        answer = mean_answer([tables], predictor.chosen, task)
        return answer.select("prediction", "^prob_.*$")

    int8 = model.spec["models"][0]["file"].endswith(".int8.onnx")
    far, others = _compared(predictor, label)
    if others > _ROWS // 2 or not (int8 or (far <= NEAR and not others)):
        raise FoldwiseError(
            f"--onnx {folder}: doesn't answer as {predictor.run.path} does: of {_ROWS} made-up "
            f"rows {others} get another label, and probabilities differ by up to {far:.2g}; export "
            "the model again, and choose it by --model"
        )
    about = {
        "name": "onnxruntime",
        "precision": "int8" if int8 else "float32",
        "made_up_rows": _ROWS,
        "other_labels": others,
        "largest_difference": far,
    }
    return Engine(label, about)


def _check_same(predictor: Predictor, spec: dict[str, Any], folder: Path) -> None:
    task, config = predictor.task, predictor.config
    data = config.data
    roles = {"text": data.text, "categorical": data.categorical, "numeric": data.numeric}
    same = {
        "task": spec["task"] == config.task,
        "classes": list(spec["classes"]) == list(getattr(task, "classes", [])),
        "columns": spec["columns"] == roles,
        "models": len(spec["models"]) == 1,
    }
    if other := [name for name, equal in same.items() if not equal]:
        raise FoldwiseError(
            f"--onnx {folder}: has other {other[0]} than {predictor.run.path}; give what foldwise "
            "export made of the model that is served"
        )


def _compared(
    predictor: Predictor, label: Callable[[pl.DataFrame], pl.DataFrame]
) -> tuple[float, int]:
    # The largest difference of a value, and how many labels differ.
    rows, task = _made_up(predictor), predictor.task
    expected, found = predictor.predict(rows), label(rows)
    number = predictor.config.task == "regression"
    scale = float(task.half.deviation) if number else 1.0  # type: ignore[attr-defined]
    far = float(np.abs(values_of(found) - values_of(expected)).max()) / scale
    others = 0 if number else int((found["prediction"] != expected["prediction"]).sum())
    return far, others


def _made_up(predictor: Predictor) -> pl.DataFrame:
    """Make up rows of all lengths, of its own tokens and categories; every tenth is empty."""
    random, data = np.random.default_rng(0), predictor.config.data
    tokenizer = getattr(predictor.task, "tokenizer", None)
    known = sorted(tokenizer.get_vocab()) if tokenizer is not None else []
    words = [word for token in known if (word := token.strip("#\u0120\u2581 ")).isalnum()]
    empty = np.arange(_ROWS) % 10 == 9

    def texts() -> list[str | None]:
        sizes = np.geomspace(1, _LONGEST, _ROWS).astype(int)
        return [" ".join(random.choice(words, size)) for size in sizes]

    def cells(name: str) -> list[str | None]:
        values = sorted(value for value in predictor.known.get(name, ()) if value is not None)
        return [str(value) for value in random.choice([*values, "another"], _ROWS)]

    made: dict[str, pl.Series] = {}
    for name in [*data.text, *data.categorical]:
        column = texts() if name in data.text else cells(name)
        made[name] = pl.Series(
            [None if no else cell for no, cell in zip(empty, column, strict=True)]
        )
    for name in data.numeric:
        values = random.normal(size=_ROWS) * np.geomspace(0.01, 1e4, _ROWS)
        made[name] = pl.Series(
            [None if no else float(value) for no, value in zip(empty, values, strict=True)]
        )
    return pl.DataFrame(made)
