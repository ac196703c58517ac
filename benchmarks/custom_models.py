"""Ways to use the columns and to train fewer weights, side by side on 1,500 real complaints.

    python benchmarks/custom_models.py [--data cfpb_dev.csv.gz] [--dir runs-custom] [NAME ...]

Each variant is one `foldwise train` on the same three folds: 3 epochs, 128 tokens. The script can
be stopped and started again: finished runs are skipped, an interrupted one goes on. At the end, and
whenever all runs are there, it prints the table of docs/experiments.md: out-of-fold macro-F1 with
its interval, training seconds, peak memory of the process, and the size of one fold's checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = REPOSITORY.parent / "shared" / "data" / "cfpb_dev.csv.gz"
COMMON = [
    "data.sample=1500",
    "data.rare_classes=drop",
    "folds.n=3",
    "text.max_length=128",
    "training.epochs=3",
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
    for name in options.names or VARIANTS:
        run = options.dir / name
        if not (run / "metrics.json").exists():
            train(name, options.data, options.dir)
        print(row(run), flush=True)


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
