"""What using a run costs: memory, kills, and time beside the transformers pipeline.

    python benchmarks/predicting.py memory [--rows 100000]
    python benchmarks/predicting.py kills [--rows 20000] [--kills 10]
    python benchmarks/predicting.py pipeline RUN [--rows 600] [--rounds 3]
    python benchmarks/predicting.py folds RUN [--rows 300] [--rounds 3]

`memory` and `kills` train a random BERT of two blocks of width 64 on made-up complaints, in
seconds; its two fold models label. What counts there is rows. Printed are the most memory that
`foldwise predict` held for 1,000 rows and for all, and whether the output has the input's order;
and whether a call that was killed again and again at random moments ends with the bytes of one
that wasn't.

`pipeline` sets one fold's model beside `pipeline("text-classification", batch_size=32)` on the same
rows of CFPB, cut at the run's max_length. The pipeline's model is a BertForSequenceClassification
with the run's backbone and head weights: its pooling is the first token behind a dense layer where
the run's may be a mean, which is 0.1% of the computing. `folds` sets the fold models together
beside one of them. Both run in this process, one after the other in each round, and print the
medians: wall and CPU seconds, since other work on the machine moves the first.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "cfpb_dev.csv.gz"
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "kills", "pipeline", "folds"])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    if options.what in ("memory", "kills"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run = small_run(folder)
            if options.what == "memory":
                memory(run, folder, options.rows or 100_000)
            else:
                kills(run, folder, options.rows or 20_000, options.kills)
        return
    if options.run is None:
        parser.error(f"{options.what} needs a RUN")
    if not options.data.exists():
        sys.exit(
            f"skipped: {options.data} isn't there; give --data a CFPB table (foldwise data cfpb)"
        )
    beside = pipeline if options.what == "pipeline" else folds
    beside(options.run, options.data, options.rows or 600, options.rounds)


def small_run(folder: Path) -> Path:
    """Train a random BERT of two small blocks on made-up complaints, with its members."""
    import transformers

    from foldwise.models.resolve import resolve_backbone
    from foldwise.workflow import cross_validate

    source = resolve_backbone("sentence-transformers/all-MiniLM-L6-v2").folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
    )
    transformers.AutoModel.from_config(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    values = {
        "run": {"name": "run", "dir": str(folder)},
        "data": {
            "path": "synthetic:300",
            "target": "Product",
            "text": ["Consumer complaint narrative"],
            "categorical": ["Sub-issue", "ZIP code"],
            "rare_classes": "merge",
        },
        "folds": {"n": 2},
        "text": {"max_length": 64},
        "model": {"backbone": str(folder / "bert")},
        "training": {"epochs": 1, "device": "cpu", "precision": "float32"},
    }
    return Path(cross_validate(values).path)


def write_table(path: Path, rows: int) -> None:
    """Write made-up complaints: 300 again and again, each with a number of its own."""
    from foldwise.synthetic.complaints import complaints

    some = complaints(rows=300)
    with path.open("wb") as file:
        for start in range(0, rows, 300):
            part = some.head(min(300, rows - start)).with_row_index("id", offset=start)
            part.write_csv(file, include_header=start == 0)


def command(run: Path, table: Path, out: Path) -> list[str]:
    """Return the command line that labels a table."""
    words = ["predict", run, table, "-o", out, "--carry", "id", "--quiet"]
    words += ["--member", "model"]
    return [sys.executable, "-m", "foldwise", *map(str, words)]


def memory(run: Path, folder: Path, rows: int) -> None:
    import polars as pl

    for count in (1000, rows):
        table, out = folder / f"{count}.csv", folder / f"{count}.parquet"
        write_table(table, count)
        started = time.monotonic()
        process = subprocess.Popen(command(run, table, out))  # its last line says who labels
        most = 0
        while process.poll() is None:
            # Not what wait4 says: that counts what this process held when it forked.
            most = max(most, held(process.pid))
            time.sleep(0.05)
        assert process.returncode == 0, process.returncode
        seconds = time.monotonic() - started
        made = pl.read_parquet(out, columns=["row", "id"])
        order = made["row"].to_list() == list(range(count))
        order &= made["id"].cast(pl.Int64).to_list() == list(range(count))
        size = table.stat().st_size / 2**20
        print(
            f"{count:>8,} rows ({size:,.0f} MiB of CSV): at most {most:,} MiB, "
            f"{seconds:,.0f} s, in the input's order: {order}",
            flush=True,
        )


def held(pid: int) -> int:
    """Return the most that a process has held so far, in MiB; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return max((int(x.split()[1]) // 1024 for x in status.splitlines() if "VmHWM" in x), default=0)


def kills(run: Path, folder: Path, rows: int, count: int) -> None:
    table, whole, out = folder / "t.csv", folder / "whole.csv", folder / "out.csv"
    write_table(table, rows)
    started = time.monotonic()
    subprocess.run(command(run, table, whole), stdout=subprocess.DEVNULL, check=True)
    seconds = time.monotonic() - started
    expected = hashlib.sha256(whole.read_bytes()).hexdigest()
    draw, killed, progress = random.Random(13), 0, []
    while killed < count:
        process = subprocess.Popen(command(run, table, out), stdout=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0, seconds * 0.9))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        assert not out.exists() or process.returncode == 0, "a part has the output's name"
        if out.exists():
            assert hashlib.sha256(out.read_bytes()).hexdigest() == expected
            out.unlink()  # it came to its end: begin anew
        progress.append(len(list(folder.glob(".out.csv.parts/*.csv"))))
    subprocess.run(command(run, table, out), stdout=subprocess.DEVNULL, check=True)
    same = hashlib.sha256(out.read_bytes()).hexdigest() == expected
    left = [path.name for path in folder.glob(".out*")]
    print(f"{killed} kills, chunks done after each call: {progress}")
    print(f"same bytes: {same}; left over: {left or 'nothing'}")


def timed(contenders: dict[str, Callable[[], Any]], rounds: int, rows: int) -> None:
    """Run each in turn, round after round, and print the medians."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    print(f"{'':<24}{'wall s':>9}{'CPU s':>9}{'ms a row (CPU)':>17}")
    for name, times in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:<24}{wall:>9.2f}{cpu:>9.2f}{1000 * cpu / rows:>17.2f}")
    first = [statistics.median(column) for column in zip(*taken[next(iter(taken))], strict=True)]
    for name, times in list(taken.items())[1:]:
        found = [statistics.median(column) for column in zip(*times, strict=True)]
        ratios = [b / a for a, b in zip(first, found, strict=True)]
        print(f"{name} / {next(iter(taken))}: wall {ratios[0]:.2f}, CPU {ratios[1]:.2f}")


def prepared(run: Path, data: Path, rows: int, folds: list[int] | None) -> tuple[Any, Path]:
    """Return a predictor of the model alone, and a CSV of the table's first rows."""
    import polars as pl

    from foldwise.commands.quiet import quiet_libraries
    from foldwise.predictor import Predictor

    quiet_libraries(online=True)
    predictor = Predictor(run, folds, member="model", device="cpu")
    table = Path(tempfile.mkdtemp()) / "new.csv"
    columns = [*predictor.config.data.text, *predictor.config.data.categorical]
    pl.read_csv(data, infer_schema=False).select(columns).tail(rows).write_csv(table)
    return predictor, table


def pipeline(run: Path, data: Path, rows: int, rounds: int) -> None:
    import torch
    import transformers

    predictor, table = prepared(run, data, rows, [1])
    fold = predictor._folds[0]
    task, model, cap = fold.task, fold.model, predictor.config.text.max_length
    config = transformers.AutoConfig.from_pretrained(task.folder, num_labels=task.n_outputs)
    theirs = transformers.BertForSequenceClassification(config)
    theirs.bert.load_state_dict(model.backbone.state_dict(), strict=False)
    linear = [part for part in model.head.modules() if isinstance(part, torch.nn.Linear)][-1]
    theirs.classifier.load_state_dict(linear.state_dict())
    asked = transformers.pipeline(
        "text-classification",
        model=theirs.eval(),
        tokenizer=task.tokenizer,
        batch_size=BATCH,
        device="cpu",
        top_k=None,
    )
    frame = predictor.read(str(table), labelled=False)
    texts = frame.select(_joined(task.columns)).to_series().to_list()
    with torch.inference_mode():
        lengths = [len(ids) for ids in task.tokenizer(texts[:200])["input_ids"]]
    cut = sum(length > cap for length in lengths) / len(lengths)
    threads = torch.get_num_threads()
    print(f"{rows} rows, cut at {cap} tokens ({cut:.0%} of them are), {threads} threads")
    out = table.with_name("out.parquet")

    def ours() -> None:
        out.unlink(missing_ok=True)
        predictor.predict_file(str(table), out)

    def hugging_face() -> None:
        list(asked(texts, truncation=True, max_length=cap))

    timed({"foldwise predict": ours, "pipeline, float32": hugging_face}, rounds, rows)


def _joined(columns: list[str]) -> Any:
    import polars as pl

    return pl.concat_str([pl.col(c).fill_null("missing") for c in columns], separator=" [SEP] ")


def folds(run: Path, data: Path, rows: int, rounds: int) -> None:
    predictor, table = prepared(run, data, rows, None)
    every = list(predictor._folds)
    out = table.with_name("out.parquet")

    def by(some: list[Any]) -> Callable[[], None]:
        def call() -> None:
            out.unlink(missing_ok=True)
            predictor._folds = some
            predictor.predict_file(str(table), out)

        return call

    timed({"one model": by(every[:1]), f"{len(every)} models": by(every)}, rounds, rows)


if __name__ == "__main__":
    main()
