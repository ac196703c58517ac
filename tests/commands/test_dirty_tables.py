"""Every dirty table through every command: one message and exit 2, or the right result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import Result
from rich.table import Table
from typer.testing import CliRunner

from foldwise.cli import app
from foldwise.commands import quiet
from foldwise.config.load import dump_config, load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import Prepared, prepare
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import RunFolder
from foldwise.workflow import cross_validate
from table.dirty import DIRTY, LABEL, Dirty

SLOWEST_S = 20  # of the process's own time, twice what a slow machine takes of 5,000 columns
Make = Callable[..., Config]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(case: str) -> Dirty:
    dirty = DIRTY[case]
    Path(dirty.file).write_bytes(dirty.make())
    return dirty


def config_of(make_config: Make, dirty: Dirty) -> Config:
    data = {"path": dirty.file, "target": LABEL, "text": ["text"], **dirty.roles}
    small = {"n": 2, "duplicates": "ignore"}
    return make_config(
        data=data,
        folds=small,
        training={"epochs": 1},
        selection={"rows": "last"},
        run={"dir": "runs"},
    )


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def call(*arguments: str) -> Result:
    """Call the command line; what isn't the input's fault is raised."""
    before = time.process_time()
    result = CliRunner().invoke(app, list(arguments))
    assert time.process_time() - before < SLOWEST_S
    if result.exception is not None and not isinstance(result.exception, FoldwiseError):
        raise result.exception
    return result


def check(result: Result, message: str, before: set[str]) -> bool:
    """Say whether a command worked; check its message and that it left nothing where it didn't."""
    if not message:
        assert result.exception is None, str(result.exception)
        return True
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert files() == before
    return False


def expected(own: str | None, dirty: Dirty) -> str:
    return dirty.refused if own is None else own


def ready(config: Config) -> Prepared:
    config = resolve(config)
    code = UserCode(config.code)
    run = RunFolder(Path(config.run.dir) / config.run.name)
    return prepare(config, code, run, build_task(config, code))


LARGE = ("5,000 columns", "20 MB cell")
CASES = [pytest.param(c, marks=pytest.mark.slow) if c in LARGE else c for c in DIRTY]


@pytest.mark.parametrize("case", CASES)
def test_init_writes_a_config_that_loads_or_says_why_not(case: str) -> None:
    dirty = written(case)
    before = files()
    result = call("init", dirty.file, "--target", LABEL, "-o", "c.yaml")
    if check(result, expected(dirty.init, dirty), before):
        assert load_config("c.yaml").data.target == LABEL


@pytest.mark.parametrize("case", CASES)
def test_training_reads_what_the_table_says_or_says_why_not(make_config: Make, case: str) -> None:
    dirty = written(case)
    before, start = files(), time.process_time()
    config = config_of(make_config, dirty)
    if dirty.refused:
        with pytest.raises(FoldwiseError) as refused:
            ready(config)
        assert dirty.refused in str(refused.value)
    else:
        prepared = ready(config)
        frame = prepared.frame
        assert frame.height == dirty.rows == prepared.counts["rows_read"]
        assert {(row, name): frame[name][row] for row, name in dirty.cells} == dirty.cells
        assert dirty.told in " ".join(prepared.counts.get("notes", [""]))
    assert files() == before
    assert time.process_time() - start < SLOWEST_S


@pytest.mark.parametrize("case", CASES)
def test_eda_looks_at_the_table_or_says_why_not(make_config: Make, case: str) -> None:
    dirty = written(case)
    Path("c.yaml").write_text(dump_config(config_of(make_config, dirty)))
    before = files()
    if check(call("eda", "c.yaml"), expected(dirty.eda, dirty), before):
        page = Path("eda.html").read_text()
        assert page.startswith("<!doctype html>")
        assert "<script>alert" not in page


def test_every_console_of_a_command_prints_what_users_wrote_as_it_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = Table("[/te]xt", title="[/b] :smile:")
    rows.add_row("[red]card[/red]")
    quiet.console().print(rows)
    quiet.console().print("[/te]xt")
    printed = capsys.readouterr().out
    for text in ("[/b] :smile:", "[/te]xt", "[red]card[/red]"):
        assert text in printed
    others = [path for path in Path(quiet.__file__).parent.glob("*.py") if path.name != "quiet.py"]
    assert [path.name for path in others if "Console(" in path.read_text()] == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    """A run on the clean table."""
    folder = tmp_path_factory.mktemp("clean")
    (folder / "t.csv").write_bytes(DIRTY["clean"].make())
    config = Config.model_validate(
        {
            "run": {"name": "clean", "dir": str(folder)},
            "data": {"path": str(folder / "t.csv"), "target": LABEL, "text": ["text"]},
            "folds": {"n": 2, "duplicates": "ignore"},
            "text": {"max_length": 24},
            "model": {"backbone": str(backbone)},
            "training": {"epochs": 1, "device": "cpu", "precision": "float32"},
            "selection": {"rows": "last"},
            "baselines": False,
            "ensemble": "model",
        }
    )
    return cross_validate(config).path


# What is wrong with one row alone, which keeps its place and says so.
A_ROWS_OWN = ("lone surrogate", "bad bytes in a text", "nested text", "key twice")


@pytest.mark.slow
@pytest.mark.parametrize("case", DIRTY)
def test_new_rows_are_labelled_one_line_each_or_refused(run: Path, case: str) -> None:
    dirty = written(case)
    before = files()
    result = call("predict", str(run), dirty.file, "-o", "out.csv")
    if case in A_ROWS_OWN:
        out = pl.read_csv("out.csv")
        assert out["row"].to_list() == list(range(max(dirty.rows, out.height)))
        assert out.filter(pl.col("prediction").is_null())["problem"].null_count() == 0
        assert out["problem"].drop_nulls().str.contains("'text'").to_list() == [True]
    elif check(result, expected(dirty.predict, dirty), before):
        out = pl.read_csv("out.csv")
        assert out["row"].to_list() == list(range(dirty.rows))
        assert set(out["prediction"]) <= {"card", "loan"}


@pytest.mark.slow
@pytest.mark.parametrize("case", DIRTY)
def test_labelled_rows_are_scored_or_refused(run: Path, case: str) -> None:
    dirty = written(case)
    before = files()
    message = expected(dirty.predict, dirty) if dirty.evaluate is None else dirty.evaluate
    if check(call("evaluate", str(run), dirty.file), message, before):
        assert files() == before


@pytest.mark.slow
@pytest.mark.parametrize("case", DIRTY)
def test_a_run_ends_with_a_prediction_a_row_or_begins_nothing(make_config: Make, case: str) -> None:
    dirty = written(case)
    Path("c.yaml").write_text(dump_config(config_of(make_config, dirty)))
    before = files()
    if check(call("train", "c.yaml"), dirty.refused, before):
        oof = pl.read_parquet("runs/test/oof.parquet")
        assert sorted(oof["row"]) == list(range(dirty.rows))
        assert {(r, n): oof.sort("row")["target"][r] for r, n in dirty.cells if n == LABEL} == {
            place: cell for place, cell in dirty.cells.items() if place[1] == LABEL
        }
        assert "<script>alert" not in Path("runs/test/report.html").read_text()


@pytest.mark.slow
def test_labels_that_are_formulas_are_text_in_a_csv_unless_raw(make_config: Make) -> None:
    dirty = written("formula as label")
    run = cross_validate(config_of(make_config, dirty)).path
    for name, options in {"a.csv": (), "b.csv": ("--raw",), "c.parquet": ()}.items():
        assert call("predict", str(run), dirty.file, "-o", name, *options).exit_code == 0
    marked, as_is = (pl.read_csv(name)["prediction"] for name in ("a.csv", "b.csv"))
    kept = pl.read_parquet("c.parquet")["prediction"]
    assert marked.to_list() == [f"'{label}" for label in kept]
    assert as_is.to_list() == kept.to_list()
