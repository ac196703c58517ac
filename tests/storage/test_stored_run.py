"""A run in a store: the files of one on this disk, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldwise.config.schema import Config
from foldwise.workflow import cross_validate


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing learning curves takes half of a tiny fold's time, and has tests of its own."""
    monkeypatch.setattr("foldwise.charts.learning_curves.learning_curves", lambda *_: None)


def small(make_config: Callable[..., Config], **more: Any) -> Config:
    return make_config(
        folds={"n": 2, "duplicates": "identical"},
        holdout={"fraction": 0.1},
        ensemble=[{"name": "model"}, {"name": "linear"}],
        training={"epochs": 2, "save_minutes": 0},
        **more,
    )


def files_of(path: Path) -> dict[str, bytes]:
    """Return the files that follow from config and table alone: no times, no paths."""
    found = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    same = ("parquet", "safetensors")
    return {
        name: file.read_bytes()
        for name, file in found.items()
        if name.endswith(same) and not any(part.startswith(".") for part in name.split("/"))
    }


def test_a_run_in_a_store_has_the_bytes_of_one_here(
    bucket, store, make_config, tmp_path, monkeypatch
) -> None:
    here = cross_validate(small(make_config)).path
    table = bucket.put("table.csv", Path(small(make_config).data.path).read_bytes())
    config = small(make_config, run={"dir": bucket.url("runs")}, data={"path": table})
    copy = cross_validate(config).path
    assert copy == tmp_path / "cache" / "runs" / "s3" / bucket.name / "runs" / "test"
    assert files_of(copy) == files_of(here)
    sent = {key.removeprefix("runs/test/") for key in bucket.keys("runs/test/")}
    lying = {p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()}
    assert sent - {".lease.json"} == {
        name for name in lying if not name.startswith(".") and "/." not in name
    }
    for name in sorted(sent - {".lease.json"}):
        assert bucket.get(f"runs/test/{name}") == (copy / name).read_bytes(), name
