"""A folder that labels rows without Foldwise: graphs, tokenizer, what was fitted, and a runner.

In: a source. Out: files in a folder: a .onnx file a model, tokenizer.json, foldwise.json (classes,
encoders, template), predict.py, which is runner.py as it stands; and how far its answers are from
PyTorch's. A folder whose answers aren't PyTorch's is never left.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from foldwise.encoding.text import frame_of, plain_tokenizer
from foldwise.errors import FoldwiseError
from foldwise.export import runner
from foldwise.export.graph import OPSET, write_graph
from foldwise.export.quantize import quantize
from foldwise.export.source import Source, probabilities
from foldwise.metrics.metric import score
from foldwise.run.files import write_json, write_text
from foldwise.tasks.columns import categories_of

FORMAT = 1
NEAR = 1e-4  # how far a probability may be from PyTorch's, or a number in its deviations


@dataclass(frozen=True)
class Checked:
    """How a copy of a model answers, beside the model.

    Attributes:
        rows: how many, and which.
        largest: the largest difference of a probability (or number, in deviations).
        differing: rows that get another label.
        scores: of the copy, where the rows' labels are known; empty otherwise.
        before: of the model, on the same rows.
    """

    rows: str
    largest: float
    differing: int
    scores: dict[str, float]
    before: dict[str, float]


def write_bundle(source: Source, folder: Path, *, int8: bool) -> tuple[Checked, Checked | None]:
    """Fill a folder, and check it.

    Args:
        source: the models and rows to check on.
        folder: exists, and is empty.
        int8: quantize the graphs' matrix products.

    Returns:
        What the check in float32 found, and in int8, where that was asked for.

    Raises:
        FoldwiseError: a part can't be exported, or the folder doesn't answer as PyTorch does.
    """
    single = len(source.models) == 1
    names = ["model"] if single else [f"fold-{number}" for number in source.predictor.folds]
    for name, (task, model) in zip(names, source.models, strict=True):
        write_graph(task, model, folder / f"{name}.onnx")
    task = source.task
    if task.columns:
        tokenizer = plain_tokenizer(task.tokenizer.backend_tokenizer)
        write_text(folder / "tokenizer.json", tokenizer.to_str())
    shutil.copyfile(runner.__file__, folder / "predict.py")
    write_json(folder / "foldwise.json", spec(source, [f"{name}.onnx" for name in names]))
    found = check(source, folder)
    if found.largest > NEAR or found.differing:
        raise FoldwiseError(
            f"the exported model doesn't answer as the run's: of {found.rows}, {found.differing} "
            f"get another label, and probabilities differ by up to {found.largest:.2g}; nothing is "
            "left"
        )
    if not int8:
        return found, None
    for name in names:
        quantize(folder / f"{name}.onnx", folder / f"{name}.int8.onnx")
        for path in folder.glob(f"{name}.onnx*"):
            path.unlink()
    write_json(folder / "foldwise.json", spec(source, [f"{name}.int8.onnx" for name in names]))
    return found, check(source, folder)


def check(source: Source, folder: Path) -> Checked:
    """Label the source's rows by the folder's files, and compare."""
    rows, task = source.rows, source.task
    model = runner.Model(folder, threads=None)
    labelled = pl.DataFrame(model.predict(rows.frame.drop("row").to_dicts()))
    scale = 1.0
    if task.holds == "number":
        scale = float(task.half.deviation)
    apart = np.abs(probabilities(labelled) - probabilities(rows.expected)) / scale
    differing = 0
    if task.holds != "number":
        differing = int((labelled["prediction"] != rows.expected["prediction"]).sum())
    scores: list[dict[str, float]] = [{}, {}]
    if rows.target is not None:
        tables = (labelled, rows.expected)
        scores = [_scores(task, table.with_columns(target=rows.target)) for table in tables]
    return Checked(rows.what, float(apart.max()), differing, *scores)


def spec(source: Source, files: Sequence[str]) -> dict[str, Any]:
    """Return what foldwise.json holds: all that the runner has to know beside the graphs.

    Args:
        source: its task, config and models are read.
        files: of the graphs, a model each.
    """
    task, config = source.task, source.config
    data, text = config.data, config.text
    frame = frame_of(task.tokenizer) if task.columns else None
    return {
        "format": FORMAT,
        "task": config.task,
        "holds": task.holds,
        "target": task.target,
        "classes": task.classes,
        "separator": data.separator or ";",
        "columns": {"text": data.text, "categorical": data.categorical, "numeric": data.numeric},
        "template": task.columns,
        "categories": [[each.column, each.prefix] for each in categories_of(config)],
        "text": {
            "max_length": text.max_length,
            "long": text.long,
            "stride": text.stride or 0,
            "max_chunks": text.max_chunks,
        },
        "frame": None
        if frame is None
        else {
            "before": frame.before,
            "after": frame.after,
            "separator": frame.separator,
            "pad": frame.pad,
        },
        "models": [
            {
                "file": file,
                "encoders": None if each.encoders is None else each.encoders.state(),
                **_scale(each),
            }
            for file, (each, _) in zip(files, source.models, strict=True)
        ],
        "opset": OPSET,
    }


def _scores(task: Any, table: pl.DataFrame) -> dict[str, float]:
    return dict(score(task.metrics(), *task.to_arrays(table)))


def _scale(task: Any) -> dict[str, float]:
    if task.holds != "number":
        return {}
    return {"mean": task.half.mean, "deviation": task.half.deviation}
