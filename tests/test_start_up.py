"""What importing Foldwise costs and needs: nothing that isn't used, on any system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from foldwise.errors import FoldwiseError
from foldwise.parts.registry import find_part
from foldwise.parts.usercode import UserCode
from foldwise.run import lock as locks


def imported(code: str) -> set[str]:
    code += "; import sys; print(*(name for name in sys.modules if name.count('.') < 2))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_imports_no_library_that_computes() -> None:
    found = imported(
        "import foldwise.cli as c, typer.testing as t; t.CliRunner().invoke(c.app, [])"
    )
    assert not found & {"torch", "polars", "numpy", "transformers", "sklearn", "pydantic", "altair"}


def test_cross_validate_imports_what_every_run_uses_and_no_more() -> None:
    found = imported("from foldwise import cross_validate, Config, load_config")
    assert {"torch", "polars"} <= found
    others = {
        "scipy.stats",
        "torchmetrics",
        "sklearn",
        "altair",
        "pandas",
        "transformers",
        "tensorboard",
    }
    assert not found & others


def test_foldwise_can_be_imported_where_there_is_no_flock() -> None:
    # Windows has neither module. What torch and the like import of them comes first.
    code = """
import sys, torch, polars, accelerate, rich.progress
sys.modules["fcntl"] = sys.modules["resource"] = None
import os
del os.sysconf
from foldwise import cross_validate, Predictor, validate
from foldwise.hardware.memory import machine_memory_bytes
assert machine_memory_bytes() is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_flock_nothing_is_locked_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    expected = r"^fold 1 of runs/a can't be locked: this system has no flock.* WSL$"
    with (
        pytest.raises(FoldwiseError, match=expected),
        locks.lock(tmp_path / "x" / ".lock", "fold 1 of runs/a"),
    ):
        pass
    with pytest.raises(FoldwiseError, match="no flock"), locks.locked(tmp_path / "y"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_torchmetrics_is_asked_for_only_by_a_metric_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    expected = r"^metrics\[0\]: torchmetrics.CohenKappa needs the package torchmetrics: pip install"
    with pytest.raises(FoldwiseError, match=expected):
        find_part("metric", "torchmetrics.CohenKappa", UserCode([]), "metrics[0]")
