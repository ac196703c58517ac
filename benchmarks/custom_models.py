"""Ways to use the columns and to train fewer weights, side by side on 1,500 real complaints.

    python benchmarks/custom_models.py [--data cfpb_dev.csv.gz] [--dir runs-custom] [NAME ...]

Each variant is one `foldwise train` on the same three folds: 3 epochs, 128 tokens. The script can
be stopped and started again: finished runs are skipped, an interrupted one goes on. At the end, and
whenever all runs are there, it prints the table of docs/experiments.md: out-of-fold macro-F1 with
its interval, training seconds, peak memory of the process, and the size of one fold's checkpoint.

`embeddings` is no run: the frozen backbone's mean vectors of the narratives, through a logistic
regression that is fitted until it has converged. It says what a head on a frozen backbone can
reach, given the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from foldwise.config.load import load_config
from foldwise.evaluation.bootstrap import intervals
from foldwise.hardware.device import build_accelerator
from foldwise.metrics.metric import builtin_metric
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import encode_rows, prepare
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import RunFolder
from foldwise.training.inference import infer

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = REPOSITORY.parent / "shared" / "data" / "cfpb_dev.csv.gz"
COMMON = [
    "data.sample=1500",
    "data.rare_classes=drop",
    "folds.n=3",
    "text.max_length=128",
    "training.epochs=3",
    "selection.rows=inner",
]
NARRATIVE = ["data.categorical=[]"]
# Embeddings start from nothing and see 84 steps: they learn at the head's rate, which is raised.
BESIDE = ["optimizer.head_lr=5e-3", "model.tabular.prefixes={ZIP code: 3}"]
LORA = [*NARRATIVE, "model.lora={r: 16, alpha: 32}", "optimizer.lr=1e-3"]
LORA += ["optimizer.layer_decay=1.0"]
VARIANTS = {
    "narrative": NARRATIVE,
    "template": [],
    "concat": ["model.fusion=concat", *BESIDE],
    "gated": ["model.fusion=gated", *BESIDE],
    "tokens": ["model.fusion=tokens", *BESIDE],
    "lora": LORA,
    "frozen": [*NARRATIVE, "model.freeze=6", "optimizer.head_lr=1e-2"],
    "qlora": [*LORA, "model.quantize=4bit", "model.checkpoint_activations=true"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=[])
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--dir", type=Path, default=Path("runs-custom"))
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(f"{options.data} is not there; --data names the table")
    for name in options.names or [*VARIANTS, "embeddings"]:
        if name == "embeddings":
            print(embeddings(options.data, options.dir), flush=True)
            continue
        run = options.dir / name
        if not (run / "metrics.json").exists():
            train(name, options.data, options.dir)
        print(row(run), flush=True)


def embeddings(data: Path, runs: Path) -> str:
    """Return the line of a logistic regression on frozen mean vectors, fitted fold by fold.

    It has no epoch to pick, so it is fitted on a fold's training and inner rows, as the baselines
    are, with balanced class weights as theirs.
    """
    settings = [f"data.path={data}", f"run.dir={runs}", "run.name=embeddings", *COMMON, *NARRATIVE]
    config = resolve(load_config(REPOSITORY / "configs" / "cfpb.yaml", settings))
    code, run = UserCode(config.code), RunFolder(runs / "embeddings")
    prepared = encode_rows(prepare(config, code, run, build_task(config, code)))
    task, accelerator = prepared.task, build_accelerator(config.training)
    task.fit_rows(prepared.frame)
    start = time.process_time()
    model: Any = task.build_model().to(accelerator.device)
    model.head = torch.nn.Identity()
    every = np.arange(prepared.frame.height)
    vectors, target = infer(model, prepared.dataset, every, task.collate, accelerator)
    assert target is not None
    rows = prepared.assignment
    predicted = np.full(len(target), -1)
    for fold in prepared.folds:
        scored = prepared.positions(rows.scored(fold))
        known = prepared.positions(np.concatenate([rows.training(fold), rows.inner(fold)]))
        regression = LogisticRegression(class_weight="balanced", max_iter=10_000)
        with threadpool_limits(limits=1):
            regression.fit(vectors[known], target[known])
            predicted[scored] = regression.predict(vectors[scored])
        print(f"fold {fold}: {regression.n_iter_[0]} iterations", file=sys.stderr)
    seconds = time.process_time() - start
    metrics = [builtin_metric(name) for name in ("f1_macro", "accuracy")]
    shape = np.zeros((len(target), len(np.unique(target))))
    groups = rows.groups(prepared.frame["row"].to_numpy())
    scores = intervals(metrics, target, predicted, shape, groups, config.run.seed)
    f1 = scores["f1_macro"]
    return (
        f"| embeddings | {f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}] "
        f"| {scores['accuracy']['value']:.3f} | {seconds:,.0f} | | |"
    )


def train(name: str, data: Path, runs: Path) -> None:
    """Run `foldwise train`, and note the most memory it held, in MiB, over all its starts."""
    settings = [f"data.path={data}", f"run.dir={runs}", f"run.name={name}", *COMMON]
    arguments = [sys.executable, "-c", "from foldwise.cli import main; main()", "train"]
    arguments.append(str(REPOSITORY / "configs" / "cfpb.yaml"))
    for setting in [*settings, *VARIANTS[name]]:
        arguments += ["--set", setting]
    process = os.posix_spawn(sys.executable, arguments, os.environ)
    _, status, usage = os.wait4(process, 0)
    peak = runs / f"{name}.peak_mib"
    before = float(peak.read_text()) if peak.exists() else 0.0
    runs.mkdir(exist_ok=True)
    peak.write_text(str(max(before, usage.ru_maxrss / 1024)))
    if status:
        sys.exit(f"{name} ended with status {os.waitstatus_to_exitcode(status)}")


def row(run: Path) -> str:
    """Return a run's line of the table."""
    metrics = json.loads((run / "metrics.json").read_text())
    events: list[dict[str, Any]] = [
        json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()
    ]
    seconds = sum(events[-1]["training_s"].values())
    best = json.loads((run / "fold-1" / "best.json").read_text())
    weights = run / "fold-1" / "checkpoints" / best["folder"] / "model.safetensors"
    peak = float((run.parent / f"{run.name}.peak_mib").read_text())
    f1 = metrics["oof"]["f1_macro"]
    return (
        f"| {run.name} | {f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}] "
        f"| {metrics['oof']['accuracy']['value']:.3f} | {seconds:,.0f} | {peak:,.0f} "
        f"| {weights.stat().st_size / 2**20:.1f} |"
    )


if __name__ == "__main__":
    main()
