"""Each task has its own defaults, and refuses what isn't its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from foldwise.config.grammar import BUILTIN, LOSSES, METRICS
from foldwise.config.load import dump_config, load_config
from foldwise.config.schema import TASK_METRICS
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import BUILT_IN

DATA = "run: {name: a}\ndata: {path: synthetic, target: y, text: [x]%s}\ntask: %s\n"


def load(tmp_path: Path, task: str, data: str = "", rest: str = "") -> object:
    path = tmp_path / "config.yaml"
    path.write_text(DATA % (data and f", {data}", task) + rest)
    return load_config(path)


@pytest.mark.parametrize(
    ("task", "loss", "metric"),
    [
        ("multilabel", "bce", "f1_macro"),
        ("ordinal", "corn", "quadratic_kappa"),
        ("regression", "mse", "rmse"),
    ],
)
def test_defaults_are_the_tasks_and_come_back_from_the_written_config(
    tmp_path: Path, task: str, loss: str, metric: str
) -> None:
    config = load(tmp_path, task)
    assert (config.loss.name, config.loss.class_weights) == (loss, "none")
    assert config.selection.metric == metric
    assert [part.name for part in config.metrics] == list(TASK_METRICS[task])
    assert config.data.separator == (";" if task == "multilabel" else None)
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_what_is_written_stands_beside_the_defaults(tmp_path: Path) -> None:
    rest = "selection: {rows: last}\nloss: {name: huber, delta: 0.5}\nmetrics: [mae]\n"
    config = load(tmp_path, "regression", rest=rest)
    assert (config.selection.rows, config.selection.metric) == ("last", "rmse")
    assert (config.loss.name, config.loss.arguments) == ("huber", {"delta": 0.5})
    assert [part.name for part in config.metrics] == ["mae"]
    assert load(tmp_path, "multilabel", "separator: '|'").data.separator == "|"


@pytest.mark.parametrize(
    ("task", "data", "rest", "message"),
    [
        ("regression", "", "loss: bce\n", "4: loss.name: bce isn't for task regression (valid: "
         "mse, mae, huber, or a dotted name)"),
        ("multiclass", "", "loss: {name: mse}\n", "4: loss.name: mse isn't for task multiclass"),
        ("regression", "", "metrics: [rmse, f1_macro]\n", "4: metrics[1]: f1_macro isn't for task "
         "regression (valid: rmse, mae, r2, spearman, pearson, or a dotted name)"),
        ("multiclass", "", "metrics: [rmse]\n", "4: metrics[0]: rmse isn't for task multiclass"),
        ("regression", "", "selection: {metric: f1_macro}\n", "4: selection.metric: unknown metric "
         "'f1_macro' (valid: loss, rmse, mae, r2, spearman, pearson)"),
        ("regression", "rare_classes: drop", "", "2: data.rare_classes: is for tasks with classes"),
        ("ordinal", "rare_classes: merge", "", "2: data.rare_classes: merge would give labels a "),
        ("multilabel", "rare_classes: train_only", "", "2: data.rare_classes: train_only is for "),
        ("regression", "sample: {per_class: 3}", "", "2: data.sample: per_class needs one class a"),
        ("multilabel", "sample: {per_class: 3}", "", "2: data.sample: per_class needs one class a"),
        ("regression", "", "loss: {class_weights: sqrt}\n", "4: loss.class_weights: is for tasks "),
        ("multilabel", "", "loss: {class_weights: effective}\n", "4: loss.class_weights: eff"),
        ("multiclass", "order: [a, b]", "", "2: data.order: is only used by task ordinal"),
        ("multiclass", "separator: ','", "", "2: data.separator: is only used by task multilabel"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_task_is_refused(
    tmp_path: Path, task: str, data: str, rest: str, message: str
) -> None:
    with pytest.raises(FoldwiseError) as refused:
        load(tmp_path, task, data, rest)
    assert str(refused.value).startswith(f"{tmp_path}/config.yaml:{message}")


@pytest.mark.parametrize("key", ["path", "target"])
def test_every_task_needs_its_table(tmp_path: Path, key: str) -> None:
    (tmp_path / "config.yaml").write_text("run: {name: a}\ntask: ordinal\ndata: {text: [x]}\n")
    with pytest.raises(FoldwiseError, match=f"data.{key}: is needed by task ordinal"):
        load_config(tmp_path / "config.yaml")


def test_tables_of_tasks_name_the_same() -> None:
    assert list(METRICS) == list(LOSSES) == list(BUILT_IN["task"]) == list(BUILT_IN["target"])
    assert set(BUILT_IN["loss"]) == set(BUILTIN["loss"])
    for task, names in TASK_METRICS.items():
        assert set(names) <= set(METRICS[task])
