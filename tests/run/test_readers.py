"""Files of a run that aren't what they should be: one message, which names the file."""

from __future__ import annotations

import json
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save

from foldwise.errors import FoldwiseError
from foldwise.run.contents import Classes, Logged, Metrics
from foldwise.run.readers import read_json, read_lines, read_parquet, read_tensors

JSON = {
    "not-json": (b"{", "damaged (Expecting property name"),
    "not-text": (b"\xff\xfe{}", "damaged ("),
    "not-an-object": (b"[]", "damaged (it: Input should be an object)"),
    "number-for-text": (b'{"classes": [1]}', "damaged (classes.0: Input should be a valid string)"),
    "text-for-list": (b'{"classes": "ab"}', "damaged (classes: Input should be a valid array)"),
    "digits": (b'{"classes": ' + b"1" * 5000 + b"}", "damaged (Exceeds the limit"),
    "depth": (b"[" * 100_000, "damaged ("),
    "empty": (b"", "damaged (Expecting value"),
}


@pytest.mark.parametrize("case", JSON)
def test_json_of_another_kind_is_named(case: str, tmp_path: Path) -> None:
    content, expected = JSON[case]
    path = tmp_path / "classes.json"
    path.write_bytes(content)
    with pytest.raises(FoldwiseError, match=f"^{re.escape(str(path))}: {re.escape(expected)}"):
        read_json(path, Classes)


def test_what_stands_beside_the_known_keys_is_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    value = {"classes": ["a"], "mine": {"x": [1, None]}}
    path.write_text(json.dumps(value))
    assert read_json(path, Classes) == value


def test_a_folder_and_an_absent_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(FoldwiseError, match=r"classes\.json: no such file; is this a complete run"):
        read_json(tmp_path / "classes.json", Classes)
    with pytest.raises(FoldwiseError, match=r"can't be read \(Is a directory\)"):
        read_json(tmp_path, Classes)


@pytest.mark.parametrize(
    "line", ["5", "{}", '{"split": 1, "step": 1, "epoch": 1}', '{"split": "step", "step": "1"}']
)
def test_a_wrong_line_is_named_with_its_number(line: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"split": "step", "step": 1, "epoch": 0.5, "loss": null}\n\n' + line + "\n")
    with pytest.raises(FoldwiseError, match=r"metrics\.jsonl: damaged \(line 3: "):
        read_lines(path, Logged)


def test_a_line_without_its_end_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"split": "step", "step": 1, "epoch": 0.5}\n{"split": "st')
    assert [line["step"] for line in read_lines(path, Logged)] == [1]


def test_scores_that_are_not_defined_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    none = {"value": None, "low": None, "high": 1}
    value = {"folds": {"1": {"f1": None}}, "mean": {"f1": None}, "std": {"f1": 0.5}}
    value |= {"oof": {"f1": none}, "holdout": None, "baselines": {}}
    path.write_text(json.dumps(value))
    assert read_json(path, Metrics) == value


def table() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    text = [f"row {i % 7}" for i in range(300)]
    return pl.DataFrame({"row": np.arange(300), "text": text, "x": rng.normal(size=300)})


def test_parquet_with_a_bit_flipped_or_cut_never_ends_in_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "oof.parquet"
    table().write_parquet(path)
    whole = path.read_bytes()
    draw = np.random.default_rng(1)
    refused = []
    for turn in range(300):
        content = bytearray(whole)
        if turn % 3:
            place = int(draw.integers(8 * len(whole)))
            content[place // 8] ^= 1 << place % 8
        else:
            del content[int(draw.integers(len(whole))) :]
        path.write_bytes(content)
        try:
            read_parquet(path, ["row"])
        except FoldwiseError as error:
            refused.append(str(error))
    # The others changed a value, which only a checksum tells.
    assert len(refused) > 100
    assert [told for told in refused if not told.startswith(f"{path}: damaged (")] == []


def test_parquet_without_a_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "oof.parquet"
    table().write_parquet(path)
    assert read_parquet(path, ["x", "row"]).equals(table())
    with pytest.raises(FoldwiseError, match=r"oof\.parquet: damaged \(it has no column 'fold'\)"):
        read_parquet(path, ["row", "fold"])
    with pytest.raises(FoldwiseError, match=r"other\.parquet: no such file"):
        read_parquet(tmp_path / "other.parquet")


def header(values: object, size: int | None = None, tail: bytes = b"\0" * 16) -> bytes:
    text = json.dumps(values).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + tail


HALF = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TENSORS = {
    "pickle": pickle.dumps({"w": [1.0]}),
    "header-of-a-terabyte": header({"w": HALF}, size=2**40),
    "overlapping": header({"w": HALF, "v": {**HALF, "data_offsets": [4, 12]}}),
    "out-of-bounds": header({"w": {**HALF, "data_offsets": [0, 8]}}, tail=b"\0" * 4),
    "shape-and-size": header({"w": {**HALF, "shape": [200]}}),
    "unknown-type": header({"w": {**HALF, "dtype": "F7"}}),
    "cut": save({"w": np.zeros(64, dtype=np.float32)})[:-9],
    "empty": b"",
}


@pytest.mark.parametrize("case", TENSORS)
def test_weights_that_are_no_safetensors_are_named(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(TENSORS[case])
    with pytest.raises(FoldwiseError, match=r"model\.safetensors: not a safetensors file \("):
        read_tensors(path)
