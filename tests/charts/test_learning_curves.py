import math
from pathlib import Path
from typing import Any

import pytest

from foldwise.charts.learning_curves import COLOURS, learning_curves, learning_curves_spec

METRICS = ["f1_macro", "accuracy"]


def _history(steps: int = 20) -> list[dict[str, Any]]:
    """Ten steps an epoch; the training loss at each, validation at an epoch's end."""
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        epoch = step / 10
        rows.append({"step": step, "epoch": epoch, "split": "training", "loss": 3 - epoch})
        if step % 10 == 0:
            scores = {"loss": 2.5, "f1_macro": epoch / 4, "accuracy": epoch / 5}
            rows.append({"step": step, "epoch": epoch, "split": "validation", **scores})
    return rows


def _panels(
    history: list[dict[str, Any]], metrics: list[str] = METRICS, best_step: int | None = None
) -> dict[str, dict[str, Any]]:
    spec = learning_curves_spec(history, metrics, best_step, "fold 1").to_dict()
    for panel in spec["concat"]:
        for layer in panel["layer"]:
            if "name" in layer.get("data", {}):
                layer["data"]["values"] = spec["datasets"][layer["data"]["name"]]
    return {panel["title"]["text"]: panel for panel in spec["concat"]}


def _layer(panel: dict[str, Any], mark: str) -> dict[str, Any]:
    return next(layer for layer in panel["layer"] if layer["mark"]["type"] == mark)


def _line(panel: dict[str, Any], split: str) -> list[tuple[float, float]]:
    values = _layer(panel, "line")["data"]["values"]
    return [(row["epoch"], row["value"]) for row in values if row["split"] == split]


def test_one_panel_for_the_loss_and_one_for_each_metric_with_its_values() -> None:
    panels = _panels(_history())
    assert list(panels) == ["loss", "f1_macro", "accuracy"]
    assert len(_line(panels["loss"], "training")) == 20
    assert _line(panels["loss"], "validation") == [(1.0, 2.5), (2.0, 2.5)]
    assert _line(panels["f1_macro"], "validation") == [(1.0, 0.25), (2.0, 0.5)]
    assert _line(panels["f1_macro"], "training") == []


def test_missing_none_and_nan_values_are_not_drawn() -> None:
    history = _history()
    validation = [row for row in history if row["split"] == "validation"]
    validation[0]["f1_macro"] = None
    validation[1]["loss"] = math.nan
    del validation[0]["accuracy"]
    panels = _panels(history)
    assert _line(panels["f1_macro"], "validation") == [(2.0, 0.5)]
    assert _line(panels["loss"], "validation") == [(1.0, 2.5)]
    assert _line(panels["accuracy"], "validation") == [(2.0, 0.4)]


def test_without_validation_the_training_loss_is_drawn_and_metrics_are_left_out() -> None:
    history = [row for row in _history() if row["split"] == "training"]
    panels = _panels(history)
    assert list(panels) == ["loss"]
    scale = _layer(panels["loss"], "line")["encoding"]["color"]["scale"]
    assert scale == {"domain": ["training"], "range": [COLOURS["training"]]}


def test_the_kept_epoch_is_marked_on_every_panel_and_labelled_where_there_is_room() -> None:
    for best_step, epoch, side in ((20, 2.0, "right"), (4, 0.4, "left")):
        for panel in _panels(_history(), best_step=best_step).values():
            assert _layer(panel, "rule")["data"]["values"] == [{"epoch": epoch}]
            label = _layer(panel, "text")["mark"]
            assert (label["text"], label["align"]) == (f"best: epoch {epoch:g}", side)


@pytest.mark.parametrize("best_step", [None, 999])
def test_no_kept_step_or_an_unknown_one_is_not_marked(best_step: int | None) -> None:
    marks = [layer["mark"]["type"] for layer in _panels(_history(), [], best_step)["loss"]["layer"]]
    assert marks == ["line", "circle"]


def test_a_long_history_is_drawn_as_means_of_equal_windows() -> None:
    line = _line(_panels(_history(4000), [])["loss"], "training")
    assert len(line) == 400
    # Steps 1 to 10: epochs 0.1 to 1.0.
    assert line[0] == (pytest.approx(0.55), pytest.approx(3 - 0.55))


def test_a_single_value_gets_an_axis_around_it() -> None:
    encoding = _layer(_panels(_history(10))["f1_macro"], "line")["encoding"]
    assert encoding["y"]["scale"]["domain"] == pytest.approx([0.225, 0.275])


@pytest.mark.parametrize("steps", [0, 1, 20])
def test_the_png_is_written_whole(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "learning_curves.png"
    learning_curves(_history(steps), METRICS, 20, path, "fold 1")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    assert [file.name for file in tmp_path.iterdir()] == ["learning_curves.png"]
