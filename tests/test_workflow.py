"""The whole path on tiny data: what the files say is what was computed, and nothing leaks."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, f1_score

from conftest import PRECISION, make_table
from foldwise import workflow
from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.predictor import Predictor
from foldwise.preparation.resolve import resolve
from foldwise.run import checkpoints
from foldwise.run.audit import seal_anew
from foldwise.run.files import write_text
from foldwise.run.folder import RunFolder
from foldwise.run.lock import lock
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate, validate

# Labels that a reader of CSV or YAML likes to turn into something else.
LABELS = {"card": "001", "loan": "no", "debt": "1e5"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module's tables and runs."""
    path = tmp_path_factory.mktemp("workflow")
    table = make_table(rows=75).with_columns(
        pl.col("label").replace_strict(LABELS),
        # Row 4 is dropped: it has no text.
        text=pl.when(pl.int_range(pl.len()) == 4).then(None).otherwise("text"),
    )
    table.write_csv(path / "table.csv")
    make_table(rows=12, seed=9).with_columns(pl.col("label").replace_strict(LABELS)).write_csv(
        path / "holdout.csv"
    )
    return path


@pytest.fixture(scope="module", autouse=True)
def _no_charts() -> Iterator[None]:
    """Drawing learning curves takes half of a tiny fold's time, and has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foldwise.charts.learning_curves.learning_curves", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def make(folder: Path, backbone: Path) -> Callable[..., Config]:
    def config(name: str, **sections: Any) -> Config:
        values: dict[str, Any] = {
            "run": {"name": name, "dir": str(folder / "runs"), "seed": 7},
            "data": {"path": str(folder / "table.csv"), "target": "label", "text": ["text"]},
            "folds": {"n": 3, "duplicates": "ignore"},
            "selection": {"rows": "inner"},
            "text": {"max_length": 24},
            "model": {"backbone": str(backbone)},
            "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
            "training": {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": PRECISION},
            "trackers": [],
            "baselines": False,
            "ensemble": "model",
            "calibration": "none",
        }
        for section, value in sections.items():
            merged = isinstance(value, dict) and isinstance(values.get(section), dict)
            values[section] = {**values[section], **value} if merged else value
        return Config.model_validate(values)

    return config


@pytest.fixture(scope="module")
def base(make: Callable[..., Config]) -> RunFolder:
    """Three folds and a holdout, in one go."""
    return cross_validate(make("base", holdout={"fraction": 0.15}))


def weights(run: RunFolder, number: int) -> str:
    """The hash of a fold's best weights."""
    path = checkpoints.pointed(run.fold(number), "best") / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def probabilities(frame: pl.DataFrame) -> np.ndarray:
    return frame.select("^prob_.*$").to_numpy()


# What the files say.


def test_a_run_whose_text_lies_on_the_disk_has_the_same_bytes(
    make: Callable[..., Config], base: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldwise.table.texts.FULL", 300)
    run = cross_validate(make("put-down", holdout={"fraction": 0.15}, folds={"run": [1]}))
    assert run.folds.read_bytes() == base.folds.read_bytes()
    for name in ("predictions", "holdout"):
        mine, plain = getattr(run.fold(1), name), getattr(base.fold(1), name)
        assert mine.read_bytes() == plain.read_bytes()


def test_macro_f1_of_the_out_of_fold_table_is_scikit_learns(base: RunFolder) -> None:
    metrics, oof = read_json(base.metrics), pl.read_parquet(base.out_of_fold)
    expected = f1_score(oof["target"], oof["prediction"], average="macro")
    assert metrics["oof"]["f1_macro"]["value"] == pytest.approx(expected, abs=1e-6)
    for number in (1, 2, 3):
        fold = oof.filter(pl.col("fold") == number)
        expected = f1_score(fold["target"], fold["prediction"], average="macro")
        assert metrics["folds"][str(number)]["f1_macro"] == pytest.approx(expected, abs=1e-6)
    per_fold = [metrics["folds"][str(n)]["accuracy"] for n in (1, 2, 3)]
    assert metrics["mean"]["accuracy"] == pytest.approx(np.mean(per_fold))
    assert metrics["std"]["accuracy"] == pytest.approx(np.std(per_fold, ddof=1))
    assert metrics["oof"]["f1_macro"]["value"] > 0.6  # it learns


def test_every_kept_row_is_scored_once_with_its_label_as_read(
    base: RunFolder, folder: Path
) -> None:
    oof = pl.read_parquet(base.out_of_fold)
    held = pl.read_parquet(base.holdout)
    rows = sorted([*oof["row"], *held["row"]])
    assert rows == [row for row in range(75) if row != 4]
    table = pl.read_csv(folder / "table.csv", infer_schema=False)
    assert oof["target"].dtype == oof["prediction"].dtype == pl.String
    assert oof["target"].to_list() == table[oof["row"].to_list()]["label"].to_list()
    assert set(oof["target"]) == set(LABELS.values())
    assert set(oof["prediction"]) <= set(LABELS.values())
    assert read_json(base.classes)["classes"] == ["001", "1e5", "no"]
    assert oof["row"].to_list() == sorted(oof["row"])


def test_probabilities_are_the_softmax_of_the_logits(base: RunFolder) -> None:
    oof = pl.read_parquet(base.out_of_fold)
    logits = oof.select("^logit_.*$").to_numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(oof), expected, atol=1e-12)


def test_rows_of_a_fold_are_those_the_assignment_says(base: RunFolder) -> None:
    folds = pl.read_parquet(base.folds).filter(pl.col("role") == "cv")
    oof = pl.read_parquet(base.out_of_fold)
    assert oof.select("row", "fold").equals(folds.select("row", "fold"))


def test_holdout_is_the_mean_probability_of_the_fold_models(base: RunFolder) -> None:
    held = pl.read_parquet(base.holdout)
    tables = [pl.read_parquet(base.fold(n).holdout) for n in (1, 2, 3)]
    mean = np.mean([probabilities(table) for table in tables], axis=0)
    np.testing.assert_allclose(probabilities(held), mean, atol=1e-12)
    names = np.array(["001", "1e5", "no"])
    assert held["prediction"].to_list() == names[mean.argmax(axis=1)].tolist()
    value = read_json(base.metrics)["holdout"]["accuracy"]["value"]
    assert value == pytest.approx(accuracy_score(held["target"], held["prediction"]), abs=1e-6)


def test_holdout_rows_train_and_score_nothing(base: RunFolder) -> None:
    folds = pl.read_parquet(base.folds)
    held = folds.filter(pl.col("role") == "holdout")
    assert held.height == 12  # 0.15 of 25, 25 and 24 rows, rounded
    assert held["fold"].null_count() == held.height
    assert held["inner_of"].list.len().sum() == 0


def test_finished_run_is_left_alone(base: RunFolder, make: Callable[..., Config]) -> None:
    before = {path: path.stat().st_mtime_ns for path in base.path.rglob("*")}
    cross_validate(make("base", holdout={"fraction": 0.15}))
    assert {path: path.stat().st_mtime_ns for path in base.path.rglob("*")} == before


def test_fold_outside_of_the_run_is_refused(make: Callable[..., Config], folder: Path) -> None:
    with pytest.raises(FoldwiseError, match=r"^--folds 4: the run consists of folds \[1, 2, 3\]$"):
        cross_validate(make("refused"), [4])
    assert not (folder / "runs" / "refused").exists()


# Any order, any process.

TRAIN_ONE = "import sys; from foldwise.cli import main; main()"


def test_folds_alone_in_any_order_and_side_by_side_end_with_the_same_bytes(
    base: RunFolder, make: Callable[..., Config], tmp_path: Path
) -> None:
    config = make("apart", holdout={"fraction": 0.15})
    run = RunFolder(Path(config.run.dir) / "apart")
    write_text(tmp_path / "apart.yaml", dump_config(config))
    command = [sys.executable, "-c", TRAIN_ONE, "train", str(tmp_path / "apart.yaml")]
    beside = subprocess.Popen(
        [*command, "--folds", "3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    cross_validate(config, [2])
    output, errors = beside.communicate(timeout=120)
    assert beside.returncode == 0, errors
    assert "folds done so far" in output
    assert not run.finished
    cross_validate(config, [1])
    assert run.finished
    for number in (1, 2, 3):
        assert weights(run, number) == weights(base, number)
        left, right = run.fold(number), base.fold(number)
        assert left.history.read_bytes() == right.history.read_bytes()
    assert run.out_of_fold.read_bytes() == base.out_of_fold.read_bytes()
    assert run.holdout.read_bytes() == base.holdout.read_bytes()
    assert run.metrics.read_bytes() == base.metrics.read_bytes()


def begin_elsewhere(monkeypatch: pytest.MonkeyPatch, begin: Callable[[RunFolder], None]) -> None:
    """Let another process begin the run while this one is still reading its table."""
    prepare = workflow.prepare

    def slow(config: Config, code: Any, run: RunFolder, task: Any, **named: Any) -> Any:
        prepared = prepare(config, code, run, task, **named)
        run.create()
        begin(run)
        return prepared

    monkeypatch.setattr(workflow, "prepare", slow)


def test_run_begun_by_another_process_at_the_same_moment_is_refused(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as other:
        begin_elsewhere(
            monkeypatch,
            lambda run: other.enter_context(lock(run.fold(2).path / ".lock", "fold 2")),
        )
        with pytest.raises(FoldwiseError, match=r"^fold 2 of .*race is in use by process "):
            cross_validate(make("race"))
    assert not RunFolder(Path(make("race").run.dir) / "race").manifest.exists()


def test_run_begun_with_another_config_at_the_same_moment_is_refused(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = resolve(make("race-2", optimizer={"lr": 0.5}))
    begin_elsewhere(monkeypatch, lambda run: write_text(run.config, dump_config(other)))
    with pytest.raises(FoldwiseError, match=r"was made with another config; .*optimizer\.lr"):
        cross_validate(make("race-2"))


# No leak.


def test_labels_of_validation_rows_do_not_reach_the_weights(
    make: Callable[..., Config], folder: Path
) -> None:
    table = make_table(rows=48).with_columns(part=pl.int_range(pl.len()) // 3 % 3 + 1)
    scored = table["part"] == 2

    def relabelled(which: pl.Series) -> pl.DataFrame:
        # Other labels in other numbers, so that class weights would tell too.
        moved = table["label"].replace({"card": "loan", "loan": "debt"})
        return table.with_columns(label=moved.zip_with(which, table["label"]))

    found = {}
    for name, frame in {
        "original": table,
        "validation": relabelled(scored),
        "training": relabelled(~scored & (table["label"] != "card")),
    }.items():
        path = folder / f"leak-{name}.csv"
        frame.write_csv(path)
        config = make(
            f"leak-{name}",
            data={"path": str(path)},
            folds={"n": 3, "strategy": "column", "column": "part", "duplicates": "ignore"},
        )
        run = cross_validate(config, [2])
        found[name] = weights(run, 2)
        predictions = pl.read_parquet(run.fold(2).predictions)
        assert predictions["row"].to_list() == np.flatnonzero(scored.to_numpy()).tolist()
        assert predictions["target"].to_list() == frame.filter(scored)["label"].to_list()
    assert found["validation"] == found["original"]
    assert found["training"] != found["original"]


# Selection and holdout.


def evaluated(run: RunFolder) -> list[dict[str, Any]]:
    from foldwise.run.history import read_history

    return [line for line in read_history(run.fold(1).history) if line["split"] == "validation"]


def test_selection_last_evaluates_nothing_and_scores_the_last_weights(
    make: Callable[..., Config], folder: Path
) -> None:
    config = make(
        "last",
        selection={"rows": "last"},
        folds={"n": 2, "duplicates": "ignore"},
        training={"epochs": 1},
        holdout={"path": str(folder / "holdout.csv")},
        trackers=["tensorboard"],
        baselines=True,
    )
    run = cross_validate(config)
    assert evaluated(run) == []
    fold = run.fold(1)
    assert checkpoints.pointed(fold, "best") == checkpoints.pointed(fold, "last")
    assert pl.read_parquet(run.folds)["inner_of"].list.len().sum() == 0
    # The holdout is a table of its own: its rows are numbered in that table.
    held = pl.read_parquet(run.holdout)
    assert held["row"].to_list() == list(range(12))
    assert pl.read_parquet(run.out_of_fold).height == 74
    mean = np.mean([probabilities(pl.read_parquet(run.fold(n).holdout)) for n in (1, 2)], axis=0)
    np.testing.assert_allclose(probabilities(held), mean, atol=1e-12)
    metrics = read_json(run.metrics)
    assert metrics["rows"] == {"oof": 74, "holdout": 12}
    majority = metrics["baselines"]["majority"]["oof"]["accuracy"]["value"]
    assert majority == pytest.approx(25 / 74, abs=0.02)
    assert sorted(p.name for p in run.tensorboard.iterdir()) == ["fold-1", "fold-2", "summary"]


def test_selection_fold_picks_the_epoch_on_the_scored_rows(make: Callable[..., Config]) -> None:
    config = make("on-fold", selection={"rows": "fold"}, folds={"n": 2, "duplicates": "ignore"})
    run = cross_validate(config, [1])
    lines = evaluated(run)
    assert len(lines) == 2
    chosen = max(line["f1_macro"] for line in lines)
    assert read_json(run.fold(1).validation)["scores"]["f1_macro"] == pytest.approx(chosen)
    assert not run.finished


def test_selection_inner_picks_the_epoch_on_rows_that_neither_train_nor_score(
    base: RunFolder,
) -> None:
    folds = pl.read_parquet(base.folds)
    inner = folds.filter(pl.col("inner_of").list.contains(1))
    assert inner.height > 0
    assert 1 not in inner["fold"].to_list()
    lines = evaluated(base)
    best = max(range(len(lines)), key=lambda i: (lines[i]["f1_macro"], -i))
    assert read_json(base.fold(1).validation)["step"] == lines[best]["step"]
    assert [line["best"] for line in lines][best]


# Validation again, and moved.


@pytest.fixture
def moved(base: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run under another name in another place, to be tampered with."""
    shutil.copytree(base.path, tmp_path / "elsewhere" / "renamed")
    return RunFolder(tmp_path / "elsewhere" / "renamed")


def test_moved_run_validates_to_the_same_bytes_and_predicts(
    base: RunFolder, moved: RunFolder, folder: Path
) -> None:
    for number in (1, 2, 3):
        moved.fold(number).predictions.unlink()
        moved.fold(number).validation.unlink()
    moved.out_of_fold.unlink()
    moved.metrics.unlink()
    scores = validate(moved.path, precision=PRECISION)
    for number in (1, 2, 3):
        left, right = moved.fold(number), base.fold(number)
        assert left.predictions.read_bytes() == right.predictions.read_bytes()
        assert left.validation.read_bytes() == right.validation.read_bytes()
    assert moved.out_of_fold.read_bytes() == base.out_of_fold.read_bytes()
    assert moved.metrics.read_bytes() == base.metrics.read_bytes()
    assert scores == read_json(base.metrics)
    predictor = Predictor(moved.path, precision=PRECISION)
    labels = predictor.predict(predictor.read(str(folder / "holdout.csv"), labelled=True))
    assert labels.height == 12
    assert accuracy_score(labels["target"], labels["prediction"]) > 0.5


def test_validation_scores_the_weights_on_disk(base: RunFolder, moved: RunFolder) -> None:
    fold = moved.fold(1)
    found = checkpoints.load(checkpoints.pointed(fold, "best"))
    silent = {name: value * 0 for name, value in found.model.items()}
    other = checkpoints.Checkpoint(999, silent, {}, found.state)
    checkpoints.save(fold, other, best=True, last=False)
    with pytest.raises(FoldwiseError, match=r"best\.json: has changed since it was sealed"):
        validate(moved.path, precision=PRECISION)
    seal_anew(moved, ["tensorboard"])
    validate(moved.path, precision=PRECISION)
    after = read_json(fold.validation)
    assert (after["step"], after["checkpoint"]) == (999, "step-000999")
    predictions = pl.read_parquet(fold.predictions)
    np.testing.assert_allclose(probabilities(predictions), 1 / 3)
    assert predictions["prediction"].unique().to_list() == ["001"]
    before = read_json(base.metrics)
    scores = read_json(moved.metrics)
    assert scores["folds"]["1"] != before["folds"]["1"]
    assert scores["folds"]["2"] == before["folds"]["2"]


def test_tampered_weights_are_refused(moved: RunFolder) -> None:
    path = checkpoints.pointed(moved.fold(2), "best") / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 16
    path.write_bytes(content)
    with pytest.raises(FoldwiseError, match=r"model\.safetensors: its bytes have changed"):
        validate(moved.path)
    with pytest.raises(FoldwiseError, match=r"model\.safetensors: its bytes have changed"):
        Predictor(moved.path)


# Code of one's own.

POOLING = """
class GatedPooling(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.gate = nn.Linear(hidden_size, 1)
    def forward(self, hidden_states, attention_mask):
        score = self.gate(hidden_states).squeeze(-1).masked_fill(attention_mask == 0, -1e9)
        weight = score.softmax(1).unsqueeze(-1)
        return torch.cat([(weight * hidden_states).sum(1), hidden_states[:, 0]], dim=1)
"""
HEAD = """
class DeepHead(nn.Sequential):
    def __init__(self, hidden_size, n_classes, width=8):
        super().__init__(nn.Linear(hidden_size, width), nn.GELU(), nn.Linear(width, n_classes))
"""
LOSS = """
class Focal(nn.Module):
    def __init__(self, gamma=2.0, weight=None):
        super().__init__()
        self.gamma, self.weight = gamma, weight
    def forward(self, logits, target):
        loss = nn.functional.cross_entropy(logits, target, reduction="none")
        return (1 - (-loss).exp()) ** self.gamma * loss * self.weight[target]
"""
METRIC = """
def share_right(target, prediction, probabilities):
    return float((target == prediction).mean())
"""
SPLITTER = """
class EveryOther:
    def __init__(self, n_splits):
        self.n_splits = n_splits
    def split(self, X, y=None, groups=None):
        part = np.arange(len(X)) % self.n_splits
        for k in range(self.n_splits):
            yield np.flatnonzero(part != k), np.flatnonzero(part == k)
"""
PARTS = (POOLING, HEAD, LOSS, METRIC, SPLITTER)


@pytest.fixture(scope="module")
def own(make: Callable[..., Config], folder: Path) -> RunFolder:
    """A run whose pooling, head, loss, metric and splitter are the user's."""
    code = folder / "my_parts.py"
    code.write_text("import numpy as np\nimport torch\nfrom torch import nn\n" + "".join(PARTS))
    config = make(
        "own",
        code=[str(code)],
        folds={"n": 2, "duplicates": "ignore", "strategy": "my_parts.EveryOther"},
        selection={"metric": "my_parts.share_right"},
        model={
            "pooling": "my_parts.GatedPooling",
            "head": {"name": "my_parts.DeepHead", "width": 6},
        },
        loss={"name": "my_parts.Focal", "gamma": 1.0},
        metrics=["accuracy", "my_parts.share_right"],
        training={"epochs": 2},
    )
    return cross_validate(config)


def test_each_part_of_ones_own_takes_at_most_fifteen_lines() -> None:
    assert max(len(part.strip().splitlines()) for part in PARTS) <= 15


def test_parts_of_ones_own_are_used(own: RunFolder) -> None:
    model = checkpoints.load(checkpoints.pointed(own.fold(1), "best")).model
    assert model["pooling.gate.weight"].shape == (1, 32)
    assert model["head.0.weight"].shape == (6, 64)  # twice as wide as the backbone
    oof = pl.read_parquet(own.out_of_fold)
    rows = [row for row in range(75) if row != 4]
    assert oof["fold"].to_list() == [position % 2 + 1 for position in range(len(rows))]
    metrics = read_json(own.metrics)
    assert metrics["oof"]["my_parts.share_right"]["value"] == pytest.approx(
        accuracy_score(oof["target"], oof["prediction"])
    )


def test_run_folder_with_code_runs_it_only_when_trusted(own: RunFolder, folder: Path) -> None:
    for opening in (validate, Predictor):
        with pytest.raises(
            FoldwiseError, match=r"my_parts\.py\) that would be run; .*--trust-code"
        ):
            opening(own.path)
    before = own.out_of_fold.read_bytes()
    (folder / "my_parts.py").rename(folder / "gone.py")  # the run's own copy is what counts
    try:
        validate(own.path, trust_code=True, precision=PRECISION)
        predictor = Predictor(own.path, trust_code=True, precision=PRECISION)
        rows = predictor.read(str(folder / "holdout.csv"), labelled=False)
        assert predictor.predict(rows).height == 12
    finally:
        (folder / "gone.py").rename(folder / "my_parts.py")
    assert own.out_of_fold.read_bytes() == before


def test_changed_code_is_refused(own: RunFolder, make: Callable[..., Config], folder: Path) -> None:
    own.metrics.rename(own.path / "kept.json")
    code = folder / "my_parts.py"
    text = code.read_text()
    code.write_text(text + "\n")
    stored = (own.path / "config.yaml").read_bytes()
    try:
        from foldwise.config.load import load_config

        config = load_config(own.config)
        with pytest.raises(FoldwiseError, match="the files under code: have changed"):
            cross_validate(config.model_copy(update={"code": [str(code)]}))
    finally:
        code.write_text(text)
        (own.path / "kept.json").rename(own.metrics)
    assert (own.path / "config.yaml").read_bytes() == stored


# Not only text.

TABULAR = """
import numpy as np
import polars as pl
import torch
from sklearn.datasets import load_iris
from torch import nn

from foldwise.tasks.multiclass import Multiclass


class Mlp(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.body(x))


class TabularTask(Multiclass):
    def rows(self):
        iris = load_iris()
        columns = {f"x{i}": iris.data[:, i] for i in range(4)}
        return pl.DataFrame({**columns, "target": iris.target})

    def fit_rows(self, frame):
        super().fit_rows(frame)
        x = frame.select("^x.$").to_numpy()
        self.mean, self.std = x.mean(0).tolist(), x.std(0).tolist()

    def state(self):
        state = super().state()
        state["rows"] |= {"mean": getattr(self, "mean", []), "std": getattr(self, "std", [])}
        return state

    def load_state(self, state):
        super().load_state(state)
        self.mean, self.std = state["rows"].get("mean"), state["rows"].get("std")

    def dataset(self, frame):
        x = frame.select("^x.$").to_numpy().astype(np.float32)
        return list(zip(x, self.target_ids(frame).tolist()))

    def collate(self, rows):
        x = (np.stack([x for x, _ in rows]) - self.mean) / self.std
        target = torch.tensor([y for _, y in rows])
        return {"x": torch.from_numpy(x.astype(np.float32)), "target": target}

    def build_model(self):
        return Mlp(len(self.classes))
"""


class Stop(BaseException):
    """Ends a run as a kill would."""


def test_task_without_text_goes_through_folds_checkpoints_resume_and_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "my_parts.py"
    code.write_text(TABULAR)

    def config(name: str) -> Config:
        return Config.model_validate(
            {
                "run": {"name": name, "dir": str(tmp_path / "runs"), "seed": 3},
                "code": [str(code)],
                "task": "my_parts.TabularTask",
                "holdout": {"fraction": 0.1},
                "folds": {"n": 2},
                "selection": {"rows": "inner"},
                "metrics": ["accuracy", "f1_macro"],
                "optimizer": {"lr": 0.02},
                "training": {
                    "epochs": 15,
                    "device": "cpu",
                    "precision": PRECISION,
                    "save_minutes": 0,
                },
                "trackers": [],
            }
        )

    whole = cross_validate(config("whole"))
    save = checkpoints.save

    def dying(fold: Any, state: Any, **named: Any) -> None:
        save(fold, state, **named)
        if fold.number == 2 and state.step == 5:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", dying)
        with pytest.raises(Stop):
            cross_validate(config("cut"))
    cut = cross_validate(config("cut"))
    assert cut.out_of_fold.read_bytes() == whole.out_of_fold.read_bytes()
    assert [weights(cut, n) for n in (1, 2)] == [weights(whole, n) for n in (1, 2)]
    metrics = read_json(whole.metrics)
    assert metrics["oof"]["accuracy"]["value"] > 0.8
    assert metrics["holdout"]["accuracy"]["value"] > 0.8
    oof, held = pl.read_parquet(whole.out_of_fold), pl.read_parquet(whole.holdout)
    assert sorted([*oof["row"], *held["row"]]) == list(range(150))
    labels = oof["target"].cast(pl.String)
    assert metrics["oof"]["f1_macro"]["value"] == pytest.approx(
        f1_score(labels, oof["prediction"], average="macro"), abs=1e-6
    )
    assert oof.columns[:5] == ["row", "repeat", "fold", "target", "prediction"]
    before = whole.fold(1).predictions.read_bytes()
    validate(whole.path, trust_code=True, precision=PRECISION)
    assert whole.fold(1).predictions.read_bytes() == before
    with pytest.raises(FoldwiseError, match=r"my_parts\.TabularTask brings its own rows"):
        Predictor(whole.path, trust_code=True)
