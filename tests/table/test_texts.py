"""Text of a big table lies in a file that is mapped, and nothing but the memory shows it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from conftest import mounted
from foldwise.config.rows import Data
from foldwise.config.schema import Config
from foldwise.eda.rows import read_rows as look_at_rows
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.table import formats, texts
from foldwise.table.reading import apply_missing, draw_sample, read_table

COLUMNS = {"text": ["a", "b"], "numeric": ["n"], "target": "y"}


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few rows be more text than memory takes."""
    monkeypatch.setattr(texts, "FULL", 2000)
    monkeypatch.setattr(formats, "CHUNK_ROWS", 16)
    monkeypatch.setattr(formats, "WHOLE_BYTES", 1500)


def rows(first: int = 0, count: int = 300) -> pl.DataFrame:
    """Cells of all kinds: long and short, empty, blank, beyond ASCII."""
    numbers = range(first, first + count)
    return pl.DataFrame(
        {
            "y": [f"class {i % 3}" for i in numbers],
            "a": [f"row {i} says é👍 " * (i % 7) for i in numbers],
            "n": [float(i) for i in numbers],
            "b": [None if i % 5 == 0 else " \t" if i % 5 == 1 else f"short {i}" for i in numbers],
        }
    )


def written(folder: Path, kind: str, frame: pl.DataFrame, name: str = "t") -> Path:
    path = folder / f"{name}.{kind}"
    if kind == "csv":
        frame.write_csv(path)
    elif kind == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)
    return path


def mapped() -> list[str]:
    lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    return [line for line in lines if ".texts-" in line]


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_whose_text_is_put_down_is_the_same_table(tmp_path: Path, kind: str) -> None:
    data = Data(path=str(written(tmp_path, kind, rows())), **COLUMNS)
    held, put_down = read_table(data), read_table(data, stores=tmp_path / "runs" / ".tokens")
    assert put_down.frame.equals(held.frame)
    assert put_down.frame.columns == held.frame.columns == ["row", "a", "b", "n", "y"]
    assert put_down.frame["b"][:3].to_list() == [None, None, "short 2"]
    assert (put_down.sha256, put_down.source_rows) == (held.sha256, 300)


@pytest.mark.usefixtures("little")
def test_texts_of_many_files_and_of_the_sample_are_put_down(tmp_path: Path) -> None:
    for number in range(40):
        written(tmp_path, "csv", rows(10 * number, 10), f"part-{number:02}")
    data = Data(path=str(tmp_path / "part-*.csv"), **COLUMNS)
    held, put_down = read_table(data), read_table(data, stores=tmp_path / ".tokens")
    assert put_down.frame.equals(held.frame)
    sample = Data(path="synthetic:200", text=["Consumer complaint narrative"], target="Product")
    assert read_table(sample, stores=tmp_path / ".tokens").frame.equals(read_table(sample).frame)


@pytest.mark.usefixtures("little")
def test_a_table_of_texts_alone_has_its_rows(tmp_path: Path) -> None:
    data = Data(path=str(written(tmp_path, "csv", rows())), text=["a", "b"])
    put_down = read_table(data, need_target=False, stores=tmp_path / ".tokens")
    assert put_down.frame.equals(read_table(data, need_target=False).frame)
    assert put_down.source_rows == 300


@pytest.mark.usefixtures("little")
def test_the_text_lies_in_a_file_without_a_name_as_long_as_the_table_is_used(
    tmp_path: Path,
) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux lists what a process has mapped")
    data = Data(path=str(written(tmp_path, "csv", rows())), **COLUMNS)
    stores = tmp_path / "runs" / ".tokens"
    table = read_table(data, stores=stores)
    assert mapped()
    assert all(line.endswith("(deleted)") for line in mapped())
    assert list(stores.iterdir()) == []
    kept = draw_sample(apply_missing(table.frame, data)[0], 100, "y", 1)
    del table
    gc.collect()
    held = read_table(data).frame
    assert kept.equals(draw_sample(apply_missing(held, data)[0], 100, "y", 1))
    assert mapped()
    del kept
    gc.collect()
    assert not mapped()


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("can", [True, False])
def test_eda_has_the_text_of_a_big_table_mapped_where_it_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool
) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux lists what a process has mapped")
    values = {"path": str(written(tmp_path, "csv", rows())), **COLUMNS}
    run = {"name": "seen", "dir": str(tmp_path / "runs")}
    config = Config.model_validate({"data": values, "run": run})
    if not can:
        monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    seen = look_at_rows(config)
    assert bool(mapped()) == can
    assert seen.frame.equals(read_table(Data(**values)).frame.select(seen.frame.columns))
    assert (tmp_path / "runs").exists() == can


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("there", [True, False])
def test_a_table_that_is_refused_leaves_nothing_of_its_text(tmp_path: Path, there: bool) -> None:
    path = written(tmp_path, "csv", rows())
    with path.open("a", encoding="utf-8") as file:
        file.write("one,cell,too,many,here\n")
    stores = tmp_path / "runs" / ".tokens"
    if there:
        stores.mkdir(parents=True)
    with pytest.raises(FoldwiseError, match="has 5 cells, the header has 4"):
        read_table(Data(path=str(path), **COLUMNS), stores=stores)
    assert (tmp_path / "runs").exists() == there
    assert not there or list(stores.iterdir()) == []


@pytest.mark.usefixtures("little")
def test_no_text_is_put_down_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".tokens").symlink_to(tmp_path / "elsewhere")
    data = Data(path=str(written(tmp_path, "csv", rows())), **COLUMNS)
    with pytest.raises(FoldwiseError, match="is a link; remove it, texts lie beside the runs"):
        read_table(data, stores=tmp_path / ".tokens")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_little_text_is_no_reason_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(path=str(written(tmp_path, "csv", rows())), **COLUMNS)
    monkeypatch.setattr(texts.Texts, "_put_down", None)
    assert read_table(data, stores=tmp_path / ".tokens").frame.height == 300


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which only root can make."""
    folder = tmp_path / "volume"
    folder.mkdir()
    with mounted(folder, "4k") as disk:
        yield disk


@pytest.mark.usefixtures("little")
def test_a_disk_without_room_for_the_text_is_told_and_left_as_it_was(
    tmp_path: Path, small_disk: Path
) -> None:
    data = Data(path=str(written(tmp_path, "csv", rows())), **COLUMNS)
    with pytest.raises(RunInterrupted, match=r"texts-.*: no space left on the disk: "):
        read_table(data, stores=small_disk)
    assert os.listdir(small_disk) == []
