"""Is the rate that lr-find suggests as good as the best of four fixed ones? 1,500 real complaints.

    python benchmarks/lr_rates.py [--data cfpb_dev.csv.gz] [--dir runs-rates]

Five runs on the same three folds (narrative only, 64 tokens, 3 epochs): `optimizer.lr` 3e-5, 1e-4,
3e-4, 1e-3, each with head_lr in the default's ratio, and `range_test`. The script can be stopped
and started again. At the end it prints macro-F1 of each and the paired bootstrap of the rate that
was found against the best of the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from foldwise.config.load import load_config
from foldwise.evaluation.candidates import read_candidates
from foldwise.evaluation.compare import bootstrap_scores
from foldwise.evaluation.simultaneous import row_differences

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = REPOSITORY.parent / "shared" / "data" / "cfpb_dev.csv.gz"
COMMON = [
    "data.categorical=[]",
    "data.sample=1500",
    "data.rare_classes=drop",
    "folds.n=3",
    "text.max_length=64",
    "training.epochs=3",
    "selection.rows=inner",
]
RATES = {
    "rate-3e-5": ["optimizer.lr=3e-5", "optimizer.head_lr=1e-4"],
    "rate-1e-4": ["optimizer.lr=1e-4", "optimizer.head_lr=3.33e-4"],
    "rate-3e-4": ["optimizer.lr=3e-4", "optimizer.head_lr=1e-3"],
    "rate-1e-3": ["optimizer.lr=1e-3", "optimizer.head_lr=3.33e-3"],
    "rate-auto": ["optimizer.lr=range_test"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--dir", type=Path, default=Path("runs-rates"))
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(f"{options.data} is not there; --data names the table")
    for name, settings in RATES.items():
        if not (options.dir / name / "metrics.json").exists():
            place = [f"data.path={options.data}", f"run.dir={options.dir}", f"run.name={name}"]
            train([*place, *COMMON, *settings])

    *fixed, auto = read_candidates([options.dir / name for name in RATES])
    for run in (*fixed, auto):
        rate = load_config(run.run.config).optimizer.rate
        f1 = run.scores["oof"]["f1_macro"]
        print(
            f"| {run.name} | {rate:.2g} | {f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}] "
            f"| {run.scores['oof']['accuracy']['value']:.3f} |"
        )
    best = max(fixed, key=lambda run: run.scores["oof"]["f1_macro"]["value"])
    metric = next(metric for metric in auto.metrics if metric.name == "f1_macro")
    (ahead,) = row_differences(*bootstrap_scores([auto, best], metric), [1, 1], None)
    print(
        f"auto minus {best.name}: {ahead.value:+.3f} [{ahead.low:+.3f}, {ahead.high:+.3f}]: "
        + ("worse" if ahead.high < 0 else "not worse")
    )


def train(settings: list[str]) -> None:
    command = [sys.executable, "-c", "from foldwise.cli import main; main()", "train"]
    command.append(str(REPOSITORY / "configs" / "cfpb.yaml"))
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
