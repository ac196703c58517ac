"""Memory over ten folds beside the HF Trainer's, on the same rows, model, batch size and cap.

    python benchmarks/memory.py [--data cfpb_dev.csv.gz] [--rows 120] [--folds 10] [--layers 2]

Each contender trains all-MiniLM-L6-v2 in float32 for one epoch a fold and then predicts the fold's
rows, all folds in one process of its own: `foldwise` by `cross_validate`, and one Trainer after the
other. Printed are the resident set after each fold and the most there was in it, in MiB. Memory
doesn't mind what else runs on the machine; the seconds beside it do. `--layers` keeps only so many
of the model's blocks: less to compute, in blocks of memory of the same sizes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vs_trainer import BATCH, CAP, DEFAULT, NAME, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--child", choices=CONTENDERS)
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(
            f"skipped: {options.data} isn't there; give --data a CFPB table (foldwise data cfpb)"
        )
    texts, labels = read(options.data, options.rows)
    if options.child:
        with tempfile.TemporaryDirectory() as folder:
            backbone = shortened(options.layers, Path(folder) / "backbone")
            CONTENDERS[options.child](texts, labels, options.folds, backbone, Path(folder))
        return
    columns = "".join(f"{number:>7}" for number in range(1, options.folds + 1))
    print(f"{'MiB after fold':<28}{columns}{'peak':>8}{'seconds':>9}")
    for name in options.contenders:
        command = [sys.executable, __file__, "--child", name, "--data", str(options.data)]
        command += ["--rows", str(options.rows), "--folds", str(options.folds)]
        command += ["--layers", str(options.layers)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        folds = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        after = "".join(f"{fold['after']:>7}" for fold in folds)
        most = "".join(f"{fold['most']:>7}" for fold in folds)
        peak, seconds = max(fold["most"] for fold in folds), folds[-1]["seconds"]
        print(f"{name:<28}{after}{'':>8}{seconds:>9.0f}")
        print(f"{'  most in the fold':<28}{most}{peak:>8}", flush=True)


def shortened(layers: int, folder: Path) -> Path:
    """Write MiniLM with its first blocks alone into a folder."""
    from transformers import AutoModel, AutoTokenizer

    from foldwise.models.resolve import resolve_backbone

    source = resolve_backbone(NAME).folder
    AutoModel.from_pretrained(source, num_hidden_layers=layers).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def held() -> dict[str, int]:
    """Return the resident set and the most it has been since the last call, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kib = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if "kB" in line}
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the most to what is held
    return {"after": int(kib["VmRSS"]) // 1024, "most": int(kib["VmHWM"]) // 1024}


def foldwise(texts: list[str], labels: list[str], folds: int, backbone: Path, folder: Path) -> None:
    import polars as pl

    from foldwise import workflow
    from foldwise.config.schema import Config
    from foldwise.members.fold import Members

    started, fit = time.monotonic(), Members.fit

    def report(members: Members, number: int) -> None:  # the last thing that is done in a fold
        fit(members, number)
        print(json.dumps({**held(), "seconds": time.monotonic() - started}), flush=True)

    pl.DataFrame({"text": texts, "label": labels}).write_csv(folder / "rows.csv")
    config = Config.model_validate(
        {
            "run": {"name": "memory", "dir": str(folder / "runs")},
            "data": {
                "path": str(folder / "rows.csv"),
                "target": "label",
                "text": ["text"],
                "rare_classes": "merge",
            },
            "folds": {"n": folds, "strategy": "kfold", "duplicates": "ignore"},
            "text": {"max_length": CAP},
            "model": {"backbone": str(backbone)},
            "training": {
                "epochs": 1,
                "batch_size": BATCH,
                "device": "cpu",
                "precision": "float32",
            },
            "baselines": False,
            "ensemble": "model",
            "trackers": [],
        }
    )
    Members.fit = report  # type: ignore[assignment, method-assign]
    workflow.cross_validate(config)


def trainer(texts: list[str], labels: list[str], folds: int, backbone: Path, folder: Path) -> None:
    import numpy as np
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    started = time.monotonic()
    classes = sorted(set(labels))
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    encoded = tokenizer(texts, truncation=True, max_length=CAP)["input_ids"]
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": classes.index(label)}
        for ids, label in zip(encoded, labels, strict=True)
    ]
    dealt = np.random.default_rng(0).permutation(len(rows)) % folds
    for fold in range(folds):
        model = AutoModelForSequenceClassification.from_pretrained(
            backbone, num_labels=len(classes)
        )
        arguments = TrainingArguments(
            output_dir=str(folder / f"fold-{fold}"),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=64,
            use_cpu=True,
            save_strategy="epoch",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        peer = Trainer(
            model=model,
            args=arguments,
            train_dataset=[row for row, its in zip(rows, dealt, strict=True) if its != fold],
            processing_class=tokenizer,
        )
        peer.train()
        peer.predict([row for row, its in zip(rows, dealt, strict=True) if its == fold])
        print(json.dumps({**held(), "seconds": time.monotonic() - started}), flush=True)


CONTENDERS: dict[str, Callable[[list[str], list[str], int, Path, Path], None]] = {
    "foldwise": foldwise,
    "trainer": trainer,
}

if __name__ == "__main__":
    main()
