"""Label the rows of a table by an exported Foldwise model: no torch, no Foldwise.

In: a CSV with the model's columns. Out: a CSV with a line a row, in the same order: its prediction,
and a probability for each class. Needs numpy, onnxruntime and tokenizers.

    python predict.py table.csv                  # to the terminal
    python predict.py table.csv -o labelled.csv

    from predict import Model
    Model(".").predict([{"text": "..."}])        # a list of dicts in, a list of dicts out
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from statistics import NormalDist
from typing import Any, TextIO

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

MISSING = "missing"  # what an empty cell reads as
MISSING_SLOT, UNSEEN_SLOT, FIRST_SLOT = 0, 1, 2
FARTHEST = 5.199  # of a scaled number
BATCH, BLOCK = 32, 1_000  # inputs that a model takes at once; rows that are read and written so


class Model:
    """An exported model.

    Args:
        folder: that holds foldwise.json, tokenizer.json and the .onnx files.
        threads: that a model computes with; None for all cores.
    """

    def __init__(self, folder: str | os.PathLike[str], threads: int | None = None) -> None:
        folder = Path(folder)
        self.spec = json.loads((folder / "foldwise.json").read_text(encoding="utf-8"))
        self.columns: list[str] = [name for role in self.spec["columns"].values() for name in role]
        self.tokenizer: Any = None
        if self.spec["template"]:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.tokenizer.no_truncation()
            self.tokenizer.no_padding()
            self.tokenizer.encode_special_tokens = True  # a "[SEP]" in a text is text
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        cpu = ["CPUExecutionProvider"]
        self.sessions = [
            onnxruntime.InferenceSession(str(folder / model["file"]), options, providers=cpu)
            for model in self.spec["models"]
        ]

    def predict(self, rows: Sequence[Mapping[str, Any]], first: int = 0) -> list[dict[str, Any]]:
        """Label rows.

        Args:
            rows: a value for each column; None, nan and blank texts are empty cells. Other keys
                don't matter.
            first: number of the first row, for messages.

        Returns:
            prediction and prob_* of each row, in the order of the rows.

        Raises:
            ValueError: a column isn't there, or a cell of a number column holds none.
        """
        if not rows:
            return []
        values = self.values(rows, first)
        labels = self._labels(values)
        if self.spec["holds"] == "number":
            return [{"prediction": label} for label in labels]
        named = [f"prob_{name}" for name in self.spec["classes"]]
        return [
            {"prediction": label, **dict(zip(named, row, strict=True))}
            for label, row in zip(labels, values.tolist(), strict=True)
        ]

    def values(self, rows: Sequence[Mapping[str, Any]], first: int = 0) -> np.ndarray:
        """Return the probabilities of rows, float64 (n, classes), or their numbers (n, 1)."""
        cells = self._cells(rows, first)
        windows = self._windows(cells, len(rows))
        sizes = [max(map(len, row), default=0) for row in windows]
        order = sorted(range(len(rows)), key=sizes.__getitem__, reverse=True)
        parts = []
        for model, session in zip(self.spec["models"], self.sessions, strict=True):
            wanted = {given.name for given in session.get_inputs()}
            beside = _beside(model, self.spec["categories"], cells)
            logits = []
            for batch in _batches(order, windows):
                inputs = self._padded([windows[row] for row in batch]) if self.tokenizer else {}
                inputs |= {name: column[batch] for name, column in beside.items()}
                fed = {name: array for name, array in inputs.items() if name in wanted}
                logits.append(session.run(["logits"], fed)[0])
            together = np.concatenate(logits)[np.argsort(order)].astype(np.float64)
            parts.append(self._decode(together, model))
        return np.asarray(np.mean(parts, axis=0))

    def _cells(self, rows: Sequence[Mapping[str, Any]], first: int) -> dict[str, list[Any]]:
        # Column by column: numbers as floats, all else as texts; None where a cell is empty.
        for number, row in enumerate(rows, first):
            if lacking := [column for column in self.columns if column not in row]:
                raise ValueError(f"row {number}: has no column {lacking[0]!r}")
        numeric = set(self.spec["columns"]["numeric"])
        return {
            column: [
                _number(row[column], column, number)
                if column in numeric
                else _text(row[column], column, number)
                for number, row in enumerate(rows, first)
            ]
            for column in self.columns
        }

    def _windows(self, cells: Mapping[str, list[Any]], n: int) -> list[list[list[int]]]:
        # The inputs that each row becomes, framed: one, or several of a long text in chunks.
        template: list[str] = self.spec["template"]
        if not template:
            return [[] for _ in range(n)]
        text, frame = self.spec["text"], self.spec["frame"]
        before, after, separator = frame["before"], frame["after"], frame["separator"]
        room = text["max_length"] - len(before) - len(after)
        if text["long"] == "chunks":
            long = self.spec["columns"]["text"]
            short = [column for column in template if column not in long]
            front = self._ids(cells, short, separator) if short else None
            ids = self._ids(cells, long, separator)
            return [
                _chunks(None if front is None else front[row], ids[row], room, text, frame)
                for row in range(n)
            ]
        tail = room // 2 if text["long"] == "head_tail" else 0
        return [
            [
                [
                    *before,
                    *(row if len(row) <= room else row[: room - tail] + row[len(row) - tail :]),
                    *after,
                ]
            ]
            for row in self._ids(cells, template, separator)
        ]

    def _ids(
        self, cells: Mapping[str, list[Any]], columns: Sequence[str], separator: list[int]
    ) -> list[list[int]]:
        # Each column is tokenized by itself; the separator's ids stand between two.
        encoded = [
            self.tokenizer.encode_batch_fast(
                [_word(cell) for cell in cells[column]], add_special_tokens=False
            )
            for column in columns
        ]
        joined = []
        for row in zip(*encoded, strict=True):
            ids = list(row[0].ids)
            for cell in row[1:]:
                ids += [*separator, *cell.ids]
            joined.append(ids)
        return joined

    def _padded(self, rows: Sequence[list[list[int]]]) -> dict[str, np.ndarray]:
        windows = [window for row in rows for window in row]
        width = max(1, *map(len, windows))
        ids = np.full((len(windows), width), self.spec["frame"]["pad"], dtype=np.int64)
        mask = np.zeros((len(windows), width), dtype=np.int64)
        for line, window in enumerate(windows):
            ids[line, : len(window)] = window
            mask[line, : len(window)] = 1
        # Which inputs each row is made of, (rows, most): -1 where it has fewer than another.
        grid = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
        ends = np.cumsum([len(row) for row in rows])
        for line, row in enumerate(rows):
            grid[line, : len(row)] = range(ends[line] - len(row), ends[line])
        return {"input_ids": ids, "attention_mask": mask, "chunk_row": grid}

    def _decode(self, logits: np.ndarray, model: Mapping[str, Any]) -> np.ndarray:
        holds, ordinal = self.spec["holds"], self.spec["task"] == "ordinal"
        if holds == "number":
            return np.asarray(logits * model["deviation"] + model["mean"])
        if holds == "label" and not ordinal:
            exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
            return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))
        small = np.exp(-np.abs(logits))
        above: np.ndarray = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
        if not ordinal:
            return above
        edges = np.ones((len(logits), 1))
        exceeding = np.concatenate([edges, np.cumprod(above, axis=1), 0 * edges], axis=1)
        return np.asarray(-np.diff(exceeding, axis=1))

    def _labels(self, values: np.ndarray) -> list[Any]:
        classes = self.spec["classes"]
        if self.spec["holds"] == "number":
            return list(values[:, 0].tolist())
        if self.spec["holds"] == "labels":
            chosen = [
                [n for n, yes in zip(classes, row, strict=True) if yes] for row in values >= 0.5
            ]
            return [self.spec["separator"].join(names) for names in chosen]
        if self.spec["task"] == "ordinal":
            reaching = values[:, ::-1].cumsum(axis=1)[:, ::-1]  # P(label >= k)
            return [classes[rank] for rank in (reaching[:, 1:] > 0.5).sum(axis=1)]
        return [classes[place] for place in values.argmax(axis=1)]


def _text(value: Any, column: str, row: int) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list | dict | tuple | set):
        raise ValueError(f"row {row}: column {column!r} holds a {type(value).__name__}, not a text")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if re.search(r"\S", text) else None


def _number(value: Any, column: str, row: int) -> float | None:
    text = _text(value, column, row)
    if text is None:
        return None
    try:
        number = math.nan if "_" in text else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"row {row}: column {column!r} holds {text[:50]!r}, not a finite number")
    return number


def _word(cell: Any) -> str:
    return MISSING if cell is None else f"{cell:.6g}" if isinstance(cell, float) else cell


def _chunks(
    short: list[int] | None,
    ids: list[int],
    room: int,
    text: Mapping[str, Any],
    frame: Mapping[str, Any],
) -> list[list[int]]:
    # Windows of one width, spread evenly over the text, the short columns in front of each.
    separator = frame["separator"]
    least = max(room // 2, len(separator))
    length = 0 if short is None else len(short) + len(separator)
    prefix = min(length, max(least, room - len(ids)))
    window = room - prefix
    step = max(1, window - text["stride"])
    chunks = 1 + max(0, -((window - len(ids)) // step))
    if text["max_chunks"] is not None:
        chunks = min(chunks, text["max_chunks"])
    covered = min(len(ids), window + (chunks - 1) * step)
    front = list(frame["before"])
    if short is not None:
        front += [*short[: prefix - len(separator)], *separator]
    starts = [at * max(0, covered - window) // max(1, chunks - 1) for at in range(chunks)]
    kept = ids[:covered]
    return [[*front, *kept[start : start + window], *frame["after"]] for start in starts]


def _batches(order: Sequence[int], windows: Sequence[list[list[int]]]) -> Iterator[list[int]]:
    batch, inputs = list[int](), 0
    for row in order:
        size = max(1, len(windows[row]))
        if batch and inputs + size > BATCH:
            yield batch
            batch, inputs = [], 0
        batch.append(row)
        inputs += size
    yield batch


def _beside(
    model: Mapping[str, Any], categories: Sequence[Sequence[Any]], cells: Mapping[str, list[Any]]
) -> dict[str, np.ndarray]:
    # Slots of the categories and scaled numbers, where they don't stand in the text.
    encoders = model["encoders"]
    if encoders is None:
        return {}
    beside: dict[str, np.ndarray] = {}
    if encoders["categories"]:
        columns = [
            _slots(
                encoder,
                [None if cell in (None, MISSING) else cell[:prefix] for cell in cells[column]],
            )
            for encoder, (column, prefix) in zip(encoders["categories"], categories, strict=True)
        ]
        beside["categorical"] = np.stack(columns, axis=1)
    if encoders["numbers"]:
        columns = [_scaled(encoder, cells[encoder["name"]]) for encoder in encoders["numbers"]]
        beside["numeric"] = np.stack(columns, axis=1).astype(np.float32)
    return beside


def _slots(encoder: Mapping[str, Any], cells: Iterable[str | None]) -> np.ndarray:
    values = {value: FIRST_SLOT + place for place, value in enumerate(encoder["values"])}
    buckets = encoder["buckets"]

    def slot(cell: str | None) -> int:
        if cell is None or cell in values:
            return MISSING_SLOT if cell is None else int(values[cell])
        if not buckets:
            return UNSEEN_SLOT
        digest = blake2b(cell.encode("utf-8"), digest_size=8).digest()
        key = int.from_bytes(digest, "little") or 1
        return FIRST_SLOT + len(values) + key % int(buckets)

    return np.array([slot(cell) for cell in cells], dtype=np.int64)


def _scaled(encoder: Mapping[str, Any], cells: Sequence[float | None]) -> np.ndarray:
    numbers = np.array([math.nan if cell is None else cell for cell in cells])
    if not encoder["quantiles"]:
        return np.asarray((numbers - encoder["center"]) / encoder["spread"])
    at = np.array(encoder["quantiles"])
    ranks = np.linspace(0, 1, len(at))
    falling = 1 - np.interp(-numbers, -at[::-1], ranks)
    rank = (np.interp(numbers, at, ranks) + falling) / 2
    rank = np.where(numbers <= at[0], 0.0, np.where(numbers >= at[-1], 1.0, rank))
    return np.array([_normal(float(share)) for share in rank])


def _normal(share: float) -> float:
    # The normal variable of a rank; nan stays nan.
    if not 0 < share < 1:
        return share if math.isnan(share) else math.copysign(FARTHEST, share - 0.5)
    return max(-FARTHEST, min(FARTHEST, NormalDist().inv_cdf(share)))


def _safe(value: Any) -> Any:
    # A spreadsheet would run a label that begins so, unless it is a number.
    run = isinstance(value, str) and re.match(r"(?![+-][\d.,]+\Z)[=+\-@\t\r]", value)
    return f"'{value}" if run else value


def main(arguments: Sequence[str] | None = None) -> None:
    """Label the rows of a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", help="CSV with a header")
    parser.add_argument("-o", "--out", help="CSV to write; without it, the terminal")
    parser.add_argument("--delimiter", default=",", help="between cells (default: a comma)")
    parser.add_argument("--encoding", default="utf-8-sig", help="of the table (default: UTF-8)")
    parser.add_argument("--threads", type=int, help="that compute; all cores by default")
    parser.add_argument("--raw", action="store_true", help="leave cells that look like formulas")
    try:
        _label(parser.parse_args(arguments))
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"error: {error}")


def _label(given: argparse.Namespace) -> None:
    model = Model(Path(__file__).resolve().parent, given.threads)
    csv.field_size_limit(2**31 - 1)
    if given.out is not None and os.path.lexists(given.out):
        raise ValueError(f"{given.out}: is there already")
    with open(given.table, encoding=given.encoding, newline="") as table:
        rows = csv.DictReader(table, delimiter=given.delimiter)
        names = rows.fieldnames or []
        if lacking := [name for name in model.columns if name not in names]:
            shown = ", ".join(map(repr, names[:40]))
            raise ValueError(f"{given.table}: has no column {lacking[0]!r}; it has: {shown}")
        if given.out is None:
            _write(model, rows, sys.stdout, raw=given.raw)
            return
        building = f"{given.out}.{os.getpid()}.tmp"
        try:
            with open(building, "w", encoding="utf-8", newline="") as out:
                _write(model, rows, out, raw=given.raw)
            os.replace(building, given.out)  # whole or not at all
        finally:
            if os.path.exists(building):
                os.unlink(building)


def _write(model: Model, rows: Iterator[dict[str, Any]], out: TextIO, *, raw: bool) -> None:
    keep = (lambda value: value) if raw else _safe
    writer, done = csv.writer(out, lineterminator="\n"), 0
    while block := list(islice(rows, BLOCK)):
        labelled = model.predict(block, done)
        if not done:
            writer.writerow(["row", *map(keep, labelled[0])])
        for number, row in enumerate(labelled, done):
            writer.writerow([number, *map(keep, row.values())])
        done += len(block)


if __name__ == "__main__":
    main()
