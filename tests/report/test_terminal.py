import math
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from foldwise.report.terminal import results, results_table

FOUR = ["f1_macro", "precision_macro", "recall_macro", "accuracy"]


def _intervals(names: list[str], value: float) -> dict[str, dict[str, float | None]]:
    return {name: {"value": value, "low": value - 0.01, "high": value + 0.02} for name in names}


def _metrics(names: list[str], **changed: Any) -> dict[str, Any]:
    return {
        "folds": {"1": dict.fromkeys(names, 0.6), "2": dict.fromkeys(names, 0.62)},
        "mean": dict.fromkeys(names, 0.61),
        "std": dict.fromkeys(names, 0.014),
        "oof": _intervals(names, 0.612),
        "holdout": None,
        "baselines": {
            "majority": {"oof": _intervals(names, 0.034), "holdout": None},
            "linear": {"oof": _intervals(names, 0.47), "holdout": None},
        },
        "selection": "inner",
    } | changed


def _printed(metrics_json: dict[str, Any], build: Any = results_table) -> list[str]:
    console = Console(record=True, width=80)
    console.print(build(metrics_json, "cfpb-minilm"))
    return [line.rstrip() for line in console.export_text().splitlines()]


def _bold(metrics_json: dict[str, Any], column: int = 1) -> list[str]:
    """List the bold values of a column, the heading left out."""
    cells = results_table(metrics_json, "run").columns[column].cells
    return [
        cell.plain.splitlines()[0]
        for cell in cells
        if isinstance(cell, Text) and any(span.style == "bold" for span in cell.spans)
    ]


def test_four_metrics_fit_80_columns_unbroken() -> None:
    assert _printed(_metrics(FOUR))[:10] == [
        "                               cfpb-minilm",
        "                   f1_macro precision_macro   recall_macro       accuracy",
        "model                 0.610           0.610          0.610          0.610",
        "mean ± std          ± 0.014         ± 0.014        ± 0.014        ± 0.014",
        "model                 0.612           0.612          0.612          0.612",
        "out-of-fold  [0.602, 0.632]  [0.602, 0.632] [0.602, 0.632] [0.602, 0.632]",
        "majority              0.034           0.034          0.034          0.034",
        "out-of-fold  [0.024, 0.054]  [0.024, 0.054] [0.024, 0.054] [0.024, 0.054]",
        "linear model          0.470           0.470          0.470          0.470",
        "out-of-fold  [0.460, 0.490]  [0.460, 0.490] [0.460, 0.490] [0.460, 0.490]",
    ]


def test_the_verdict_stands_above_the_table_and_fits_80_columns() -> None:
    told = "The linear model on words wins: " + "macro-F1 0.782 against the model's 0.701. " * 4
    found = {"winner": "linear", "told": told.strip(), "next": "train longer."}
    lines = _printed(_metrics(FOUR, verdict=found), results)
    blank = lines.index("")
    above = " ".join(lines[:blank])
    assert above == f"{told.strip()} Next: train longer."
    assert lines[blank + 1].split() == ["cfpb-minilm"]
    assert max(map(len, lines)) <= 80


def test_a_run_without_a_verdict_prints_its_table_alone() -> None:
    assert _printed(_metrics(FOUR), results) == _printed(_metrics(FOUR))


def test_more_metrics_continue_below_and_no_line_is_wider_than_80_columns() -> None:
    names = [*FOUR, "log_loss", "precision_weighted", "my_parts.cost_of_a_mistake_in_euros"]
    lines = _printed(_metrics(names, holdout=_intervals(names, 12345.99)))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert sum(line.startswith("mean ± std") for line in lines) == 2 + 1  # and in the caption
    assert [line.split()[1:] for line in lines if "12346" in line] == [
        ["12346"] * 4,
        ["[12346,", "12346]"] * 4,
        ["12346"] * 3,
        ["[12346,", "12346]"] * 3,
    ]


def test_holdout_rows_follow_the_out_of_fold_rows_of_the_model_and_each_baseline() -> None:
    metrics_json = _metrics(["accuracy"], holdout=_intervals(["accuracy"], 0.7))
    metrics_json["baselines"]["linear"]["holdout"] = _intervals(["accuracy"], 0.5)
    labels = [str(cell) for cell in results_table(metrics_json, "run").columns[0].cells]
    assert [label for label in labels if label] == [
        "model\nmean ± std",
        "model\nout-of-fold",
        "model\nholdout",
        "majority\nout-of-fold",
        "linear model\nout-of-fold",
        "linear model\nholdout",
    ]


def test_the_best_of_the_rows_of_the_same_kind_is_bold() -> None:
    metrics_json = _metrics(["accuracy"], holdout=_intervals(["accuracy"], 0.7))
    metrics_json["baselines"]["linear"]["holdout"] = _intervals(["accuracy"], 0.8)
    assert _bold(metrics_json) == ["0.612", "0.800"]


def test_the_smallest_log_loss_is_bold_and_so_is_that_of_a_metric_named_so() -> None:
    assert _bold(_metrics(["log_loss"], smaller_is_better=["log_loss"])) == ["0.034"]
    assert _bold(_metrics(["my_parts.cost"])) == ["0.612"]
    cost = _metrics(["my_parts.cost"], smaller_is_better=["my_parts.cost"])
    assert _bold(cost) == ["0.034"]


def test_a_model_without_rivals_is_not_bold() -> None:
    assert _bold(_metrics(["accuracy"], baselines={})) == []


@pytest.mark.parametrize("undefined", [None, math.nan])
def test_undefined_values_are_said_so_and_never_the_best(undefined: float | None) -> None:
    metrics_json = _metrics(["auroc_macro"], std={"auroc_macro": undefined})
    metrics_json["baselines"]["majority"]["oof"] = {
        "auroc_macro": {"value": undefined, "low": undefined, "high": undefined}
    }
    text = "\n".join(_printed(metrics_json))
    assert "± n/a" in text
    assert "[n/a, n/a]" in text
    assert _bold(metrics_json) == ["0.612"]


def test_the_caption_explains_the_interval_and_counts_the_folds() -> None:
    caption = " ".join(_printed(_metrics(FOUR))[-4:])
    assert "mean ± std: over 2 folds." in caption
    assert "95% bootstrap interval over groups of near-duplicate rows" in caption
    assert "optimistic" not in caption


def test_the_caption_warns_when_the_scored_rows_picked_the_epoch() -> None:
    caption = " ".join(_printed(_metrics(FOUR, selection="fold")))
    assert "scores are optimistic: the scored rows picked the epoch" in caption
    assert "optimistic" not in " ".join(_printed(_metrics(FOUR, selection="last")))
