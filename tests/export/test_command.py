"""`foldwise export` makes a whole folder or says in one message why there is none."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from foldwise.cli import app
from foldwise.errors import FoldwiseError
from foldwise.export.bundle import Checked
from foldwise.run.audit import seal_anew
from foldwise.run.folder import RunFolder


def export(run: RunFolder, out: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["export", str(run.path), "-o", str(out), *options])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the graph, which takes seconds: what is tested here comes before or after it."""

    def write(source: Any, folder: Path, *, int8: bool) -> tuple[Checked, Checked | None]:
        (folder / "model.onnx").write_bytes(b"12345")
        return Checked(source.rows.what, 0.0, 0, {}, {}), None

    monkeypatch.setattr("foldwise.export.bundle.write_bundle", write)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model", "fold-7"], "fold 7 isn't trained; trained are: [1, 2]"),
        (["--model", "refit"], "has no model 'refit'; make it by: foldwise refit"),
        (["--model", "x"], "--model x: choose all, fold-1 (or another fold), refit or distilled"),
        (["--int8", "--to", "huggingface"], "--int8 is for --to onnx"),
        (["--public"], "--public and --dry-run belong to --push OWNER/NAME"),
        (["--push", "me"], "--push me: must be OWNER/NAME"),
        (["--model", "all", "--to", "huggingface"], "holds one model; name it"),
    ],
)
def test_a_wrong_option_is_told_and_leaves_nothing(
    run: RunFolder, tmp_path: Path, options: list[str], told: str
) -> None:
    found = export(run, tmp_path / "out", *options)
    assert isinstance(found.exception, FoldwiseError)
    assert told in str(found.exception)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_touched(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("out", "link"):
        found = export(run, tmp_path / name)
        assert str(found.exception) == (
            f"-o {tmp_path / name}: is there already; choose another name or remove it"
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_an_absent_package_is_one_clear_error(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    found = export(run, tmp_path / "out")
    told = "export needs the package onnxscript: pip install 'foldwise[export]'"
    assert str(found.exception) == told
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_table_has_moved_is_checked_on_another(
    run: RunFolder, tmp_path: Path, quick: None
) -> None:
    moved = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, moved.path)
    text = moved.config.read_text(encoding="utf-8")
    moved.config.write_text(text.replace("table.csv", "gone.csv"), encoding="utf-8")
    seal_anew(moved, [])
    found = export(moved, tmp_path / "out")
    assert "gone.csv" in str(found.exception)
    assert "give --data TABLE, with the run's columns; it needs no labels" in str(found.exception)
    assert not (tmp_path / "out").exists()
    table = pl.read_csv(run.path.parent.parent / "table.csv").drop("label").head(7)
    table.write_csv(tmp_path / "rows.csv")
    found = export(moved, tmp_path / "out", "--data", str(tmp_path / "rows.csv"), "--json")
    assert json.loads(found.stdout)["checked"]["rows"] == "7 rows of rows.csv"


def test_a_changed_table_vouches_for_no_unseen_rows(
    run: RunFolder, tmp_path: Path, quick: None
) -> None:
    table = run.path.parent.parent / "table.csv"
    before = table.read_bytes()
    try:
        table.write_bytes(b"\n".join(before.split(b"\n")[::-1][-1:] + before.split(b"\n")[1:40]))
        found = export(run, tmp_path / "out", "--json")
    finally:
        table.write_bytes(before)
    assert json.loads(found.stdout)["checked"]["rows"].endswith(" rows of table.csv")


def test_a_dry_run_lists_files_and_card_and_sends_nothing(
    run: RunFolder, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", None)
    found = export(run, tmp_path / "out", "--push", "me/model", "--dry-run")
    assert found.exit_code == 0, found.output
    assert "dry run: me/model would hold, for you alone:\n" in found.stdout
    assert "  model.onnx  5 bytes\n" in found.stdout
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") in found.stdout


@pytest.mark.slow
def test_the_one_model_for_all_folds_is_exported_by_default_and_scored_on_the_holdout(
    run: RunFolder, tmp_path: Path, quick: None
) -> None:
    copied = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copied.path)
    seal_anew(copied, [])
    made = CliRunner().invoke(app, ["refit", str(copied.path)])
    assert made.exit_code == 0, made.output
    found = export(copied, tmp_path / "out", "--json")
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert result["model"] == "refit"
    assert result["checked"]["rows"] == "18 rows that the model has not trained on"
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "It is one model, trained on the rows of all folds, of a cross-validated run" in card
    assert "| holdout (18) |" in card
    assert "| out of fold (" not in card
