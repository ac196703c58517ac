from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
import pytest
from markupsafe import escape
from typer.testing import CliRunner

from browser import Browser
from conftest import make_table
from foldwise.cli import app
from foldwise.config.schema import Config
from foldwise.evaluation import bootstrap, diagnostics
from foldwise.evaluation.slices import by_value, score_slices
from foldwise.metrics.metric import confusion, per_class
from foldwise.report import run_rows
from foldwise.report.run_report import _members, build_report
from foldwise.report.source import Source
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.split.assignment import read_assignment
from foldwise.workflow import cross_validate
from made_runs import make_run, noisy

LONG = [
    f"Credit reporting, credit repair services, or other personal consumer reports, kind {i} <b>"
    for i in range(18)
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> RunFolder:
    """A small finished run with markup in its texts, and categories beside them."""
    folder = tmp_path_factory.mktemp("report")
    table = make_table(90).with_columns(pl.col("text") + " <script>alert(1)</script>")
    table.write_csv(folder / "table.csv")
    config = Config.model_validate(
        {
            "run": {"name": "test", "dir": str(folder / "runs")},
            "data": {
                "path": str(folder / "table.csv"),
                "target": "label",
                "text": ["text"],
                "categorical": ["kind"],
            },
            "folds": {"n": 2, "duplicates": "identical"},
            "selection": {"rows": "inner"},
            "text": {"max_length": 24},
            "model": {"backbone": str(backbone)},
            "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
            "training": {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "float32"},
            "ensemble": "model",  # a blend makes no mistake here, which would leave a list empty
        }
    )
    return cross_validate(config)


def test_a_finished_run_has_a_report_that_works(trained: RunFolder, browser: Browser) -> None:
    for width, dark in ((1200, False), (390, True)):
        browser.open(trained.report, width=width, dark=dark)
        assert browser.errors() == []
        assert browser.charts_without_marks() == 0
        assert browser.overflow() <= 0
    titles = [title.text for title in browser.find_all("h2")]
    assert titles == [
        "Summary",
        "Learning curves",
        "Classes",
        "Confusion matrix",
        "Confidence",
        "Threshold",
        "Decisions",
        "Most confident mistakes",
        "Likely label errors",
        "Words and columns by class",
        "By column",
        "By length",
        "Data",
        "Folds",
        "Config",
        "Environment",
    ]
    # The numbers that stand behind the page are the run's own.
    oof = pl.read_parquet(trained.out_of_fold)
    counts = oof.group_by("target", "prediction").len()
    cells = browser.find_all(".matrix td button")
    assert sum(int(cell.get_attribute("data-rows")) for cell in cells) == oof.height
    cell = next(cell for cell in cells if cell.is_enabled())
    browser.run("arguments[0].focus()", cell)
    cell.send_keys("\n")  # the keyboard does what the mouse does
    listed = browser.find_all("#cell-rows li")
    shown = int(cell.get_attribute("data-rows"))
    assert len(listed) == min(shown, run_rows.CELL_ROWS)
    assert shown in counts["len"].to_list()
    assert "<script>alert(1)</script>" in listed[0].text
    browser.run("arguments[0].click()", browser.find("[data-matrix=shares]"))
    assert cell.text == cell.get_attribute("data-share")


def test_the_numbers_behind_the_page_agree_with_the_runs_scores(trained: RunFolder) -> None:
    scores = {name: entry["value"] for name, entry in read_json(trained.metrics)["oof"].items()}
    oof = pl.read_parquet(trained.out_of_fold)
    classes = read_json(trained.classes)["classes"]
    target, prediction, probabilities = Task(classes).to_arrays(oof)
    confidence = probabilities.max(axis=1)
    right = prediction == target
    accuracy = pytest.approx(scores["accuracy"], abs=1e-6)

    bins, _ = diagnostics.calibration(confidence, right)
    assert sum(b.rows * b.accuracy for b in bins if b.rows) / len(right) == accuracy
    _, kept, on_them = diagnostics.coverage(confidence, right, np.zeros(1))[0]
    assert (kept, on_them) == (1, accuracy)
    counts = diagnostics.confidence_counts(confidence, right).sum(axis=0)
    assert counts[0] / counts.sum() == accuracy
    assert np.trace(confusion(target, prediction, 3)) / len(right) == accuracy
    kinds = pl.read_csv(trained.path.parents[1] / "table.csv")["kind"].gather(oof["row"])
    (slices,) = score_slices(
        [by_value(kinds.to_list())],
        right.astype(np.float64),
        oof["row"].to_numpy(),
        smaller_is_better=False,
        seed=0,
    )
    assert sum(part.rows * part.score for part in slices) / len(right) == accuracy
    assert f"over all rows {scores['accuracy']:.3f}" in trained.report.read_text()

    by_class = per_class(target, prediction, classes)
    for name in ("f1", "precision", "recall"):
        mean = np.mean([entry[name] for entry in by_class])
        assert mean == pytest.approx(scores[f"{name}_macro"], abs=1e-6)


def test_the_verdict_comes_first_then_the_model_beside_its_baselines(trained: RunFolder) -> None:
    metrics = read_json(trained.metrics)
    verdict = metrics["verdict"]
    assert {verdict["winner"], verdict["runner_up"]} <= {"model", *metrics["baselines"]}
    page = trained.report.read_text()
    summary = page.split("Summary</h2>")[1].split("</section>")[0]
    told, chart, table = (
        summary.index(part) for part in (str(escape(verdict["told"])), 'class="chart"', "<table>")
    )
    assert told < chart < table
    assert str(escape(f"Next: {verdict['next']}")) in summary
    spec = json.loads(summary.split('type="application/json">')[1].split("</script>")[0])
    points = spec["data"]["values"]
    assert points[0]["model"] == "model"
    best_first = [point["value"] for point in points[1:]]
    assert best_first == sorted(best_first, reverse=True)
    names = {"linear model": "linear", "lookup of kind": "lookup", "majority": "majority"}
    assert {point["model"] for point in points[1:]} == set(names)
    for point in points:
        scores = metrics["members"][names.get(point["model"], "model")]
        oof = scores["oof"]["f1_macro"]
        assert [point[k] for k in ("value", "low", "high")] == [oof[k] for k in oof]


def test_fewer_resamples_of_very_many_rows_are_told(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, classes = np.arange(30) % 3, ["card", "debt", "loan"]
    config = make_config()
    run = make_run(config, target, noisy(target, 0.6, 0), np.arange(30) % 3 + 1)
    assignment = read_assignment(pl.read_parquet(run.folds))
    source = Source(run, config, Task(classes), assignment, None, None)
    told = ", by 500 resamples: fewer than 1,000, as there are so many rows"
    assert told not in build_report(source)
    monkeypatch.setattr(bootstrap, "DRAWN_ROWS", 30 * 500)
    assert told in build_report(source)


def test_mistakes_show_the_other_columns_of_their_row(trained: RunFolder) -> None:
    page = trained.report.read_text()
    data = json.loads(page.split("const foldwiseData = ")[1].split(";</script>")[0])
    kinds = pl.read_csv(trained.path.parents[1] / "table.csv")["kind"].to_list()
    listed = [*data["mistakes"], *(row for rows in data["cells"].values() for row in rows)]
    assert len(listed) > 20
    assert all(row["columns"] == f"kind: {kinds[row['row']]}" for row in listed)


@pytest.mark.parametrize("held", [False, True])
def test_the_chart_of_baselines_is_sound(held: bool) -> None:
    entry = {"rmse": {"value": 4.0, "low": 3.0, "high": 5.0}}
    scores = {"oof": entry, "holdout": entry if held else None}
    unknown = {"oof": {"rmse": dict.fromkeys(("value", "low", "high"))}, "holdout": None}
    metrics = {"mean": {"rmse": 4.0}, "smaller_is_better": ["rmse"]}
    models = {"model": scores, "linear model": scores, "mean": unknown}
    (drawn,) = _members(metrics, models)
    assert "rmse of the answer and each member, with 95% intervals; further left is" in drawn
    spec = json.loads(drawn.split('type="application/json">')[1].split("</script>")[0])
    assert len(spec["data"]["values"]) == (4 if held else 2)  # what isn't defined isn't drawn
    alt.LayerChart.from_dict(spec)  # raises where it is no Vega-Lite
    assert _members(metrics, {"model": scores}) == []


def test_likely_label_errors_stand_beside_the_models_own_quality(trained: RunFolder) -> None:
    accuracy = read_json(trained.metrics)["oof"]["accuracy"]["value"]
    told = trained.report.read_text().split("Likely label errors</h2>")[1].split("</section>")[0]
    assert (
        f"The model agrees with {accuracy:.1%} of the 90 labels" in told
        or f"the model contradicts {1 - accuracy:.1%} of the labels" in told
    )


def test_the_slider_moves_the_numbers(trained: RunFolder, browser: Browser) -> None:
    browser.open(trained.report)
    told = browser.find("#threshold-told")
    browser.run(
        "const s = document.getElementById('threshold-slider');"
        "s.value = 0; s.dispatchEvent(new Event('input'))"
    )
    oof = pl.read_parquet(trained.out_of_fold)
    right = (oof["target"] == oof["prediction"]).mean()
    assert told.text == (
        "Confidence of at least 0.00: 100.0% of the rows are kept, accuracy on them "
        f"{100 * float(right):.1f}%"  # type: ignore[arg-type]
    )


def test_it_is_drawn_again_and_without_its_table_says_so(
    trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    before = trained.report.read_bytes()
    result = CliRunner().invoke(app, ["report", str(trained.path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"report: {trained.report}"
    assert trained.report.read_bytes() == before
    table = trained.path.parents[1] / "table.csv"
    kept = table.read_bytes()
    for content in (None, kept + b"new,c1,0,card\n"):
        table.unlink(missing_ok=True)
        if content is not None:
            table.write_bytes(content)
        try:
            assert CliRunner().invoke(app, ["report", str(trained.path)]).exit_code == 0
        finally:
            table.write_bytes(kept)
        drawn = trained.report.read_text()
        assert "Rows are shown without their text" in drawn
        assert "alert(1)" not in drawn
    CliRunner().invoke(app, ["report", str(trained.path)])
    assert trained.report.read_bytes() == before


def test_an_unfinished_run_has_no_report(make_config: Callable[..., Config]) -> None:
    run = cross_validate(make_config(training={"epochs": 1}), only=[1])
    result = CliRunner().invoke(app, ["report", str(run.path)])
    assert str(result.exception) == (
        f"{run.path}: not finished (it has no metrics.json); train it to the end"
    )
    assert not run.report.exists()


def test_ten_thousand_long_rows_of_long_classes_stay_under_five_megabytes(
    make_config: Callable[..., Config], browser: Browser, tmp_path: Path
) -> None:
    n = 10_000
    rng = np.random.default_rng(0)
    target = rng.integers(18, size=n)
    config = make_config(data={"categorical": ["kind"]}, folds={"n": 5})
    run = make_run(config, target, noisy(target, 0.6, 0, 18), np.arange(n) % 5 + 1, classes=LONG)
    text = "The bank <i>refused</i> to help me. " * 60
    frame = pl.DataFrame({"row": np.arange(n), "text": [text] * n, "kind": ["a & b"] * n})
    assignment = read_assignment(pl.read_parquet(run.folds))
    source = Source(run, config, Task(LONG), assignment, frame, rng.integers(5, 900, n))
    drawn = build_report(source)
    assert len(drawn.encode()) <= 5e6
    assert "<i>" not in drawn
    assert "kind 3 <b>" not in drawn
    path = tmp_path / "report.html"
    path.write_text(drawn)
    for width in (1200, 390):
        browser.open(path, width=width)
        assert browser.errors() == []
        assert browser.overflow() <= 0
    # No label of the matrix is cut: each fits into its cell.
    assert (
        browser.run(
            "return [...document.querySelectorAll('.matrix th, .matrix th span')]"
            ".filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth).length"
        )
        == 0
    )


class Task:
    """What the report asks of a task."""

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes

    def to_arrays(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids = {label: i for i, label in enumerate(self.classes)}
        target, prediction = (
            np.array([ids[label] for label in frame[name]]) for name in ("target", "prediction")
        )
        return target, prediction, frame.select(f"prob_{c}" for c in self.classes).to_numpy()
