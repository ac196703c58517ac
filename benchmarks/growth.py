"""How time and memory grow with the table: read, deduplicated, split and tokenized.

    python benchmarks/growth.py [--rows 10000 50000 100000] [--source src] [--folder DIR]

Rows of 100 made-up words are written to a CSV file: 60,000 words by Zipf's law,
sentences, capitals and numbers, eight classes; one row in fifty is another's twin but for two words
and one in a hundred its copy. Each size is prepared in a process of its own, as `foldwise train`
does before its first fold: `reading` to the table without missing values, `duplicates` in it,
`splitting` to a holdout and five folds, `tokenizing` by all-MiniLM-L6-v2 into the token store.
Printed are each step's seconds, in brackets those of all cores' work, the same for a row, the
largest resident set, which counts pages of mapped files too, and the largest part of it that is the
process's own: pages of files go when memory is short. `--source` puts another tree's `src` first,
to set an older state of the code beside this one; `--parquet` prepares the same rows in Parquet.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

WORDS, VOCABULARY, CLASSES = 100, 60_000, 8
TWINS, COPIES = 0.02, 0.01
BATCH, BASE = 10_000, 1_000_000
STEPS = ("reading", "duplicates", "splitting", "tokenizing")
NAME = "sentence-transformers/all-MiniLM-L6-v2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000, 100_000])
    parser.add_argument("--source", type=Path, help="another tree's src")
    parser.add_argument("--folder", type=Path, help="where tables are kept, to be used again")
    parser.add_argument("--parquet", action="store_true", help="the same rows in Parquet")
    parser.add_argument("--child", type=Path, nargs=2)
    options = parser.parse_args()
    if options.child:
        prepare(*options.child)
        return
    titles = "".join(f"{step:>16}" for step in STEPS)
    print(f"{'rows':>9}{titles}{'all':>16}{'ms/row':>15}{'peak, MiB':>11}{'own, MiB':>10}")
    environment = dict(os.environ)
    if options.source:
        paths = [str(options.source.resolve()), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            table = (options.folder or Path(folder)) / f"rows-{rows}.csv"
            if not table.exists():
                write_table(Path(folder) / "table.csv", rows)
                (Path(folder) / "table.csv").rename(table)
            if options.parquet:
                csv, table = table, table.with_suffix(".parquet")
                if not table.exists():
                    pl.scan_csv(csv).sink_parquet(table)
            command = [sys.executable, __file__, "--child", str(table), folder]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env=environment
            )
        told = json.loads(done.stdout.splitlines()[-1])
        steps = [told[step] for step in STEPS]
        whole = [sum(seconds) for seconds in zip(*steps, strict=True)]
        pairs = "".join(f"{wall:>9.1f} ({cpu:4.0f})" for wall, cpu in [*steps, whole])
        each = f" ({1000 * whole[1] / rows:.3f})"
        memory = f"{told['peak']:>11}{told['own']:>10}"
        print(
            f"{rows:>9}{pairs}{1000 * whole[0] / rows:>8.3f}{each}{memory}"
            f"   {told['groups']} groups, {told['tokens']} tokens",
            flush=True,
        )


def write_table(path: Path, rows: int) -> None:
    """Write made-up rows: the same ones for the same number.

    Beyond BASE the first BASE rows come again with their words in another order, which leaves no
    3-gram as it was and twins alike: drawn anew they would take longer than what is measured.
    """
    rng = np.random.default_rng(0)
    vocabulary = np.array(_vocabulary(rng), dtype=object)
    zipf = 1 / (np.arange(1, VOCABULARY + 1) + 2.7)
    edges = np.cumsum(zipf / zipf.sum())
    last: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        file.write("label,text\n")
        for start in range(0, min(rows, BASE), BATCH):
            size = min(BATCH, rows - start)
            drawn = np.searchsorted(edges, rng.random((size, WORDS))).clip(max=VOCABULARY - 1)
            label = rng.integers(0, CLASSES, size)
            kind, place = rng.random(size), rng.integers(0, 1 << 30, (size, 3))
            texts = [
                _text(list(line), ends)
                for line, ends in zip(vocabulary[drawn], rng.random((size, WORDS)), strict=True)
            ]
            for at in range(size):
                if last and kind[at] < TWINS + COPIES:
                    words = last[place[at, 0] % len(last)].split(" ")
                    if kind[at] < TWINS:
                        words[place[at, 1] % WORDS] = f"twin{start + at}"
                        words[place[at, 2] % WORDS] = f"sister{start + at}"
                    texts[at] = " ".join(words)
            last = texts
            file.writelines(
                f'class {number},"{text}"\n' for number, text in zip(label, texts, strict=True)
            )
    for start in range(BASE, rows, BASE):
        step = start // BASE + 1
        with path.open(encoding="utf-8") as first, path.open("a", encoding="utf-8") as file:
            for line in islice(first, 1, 1 + min(BASE, rows - start)):
                label_of, _, text = line.rstrip("\n").partition(",")
                words = text.strip('"').split(" ")
                mixed = [word for at in range(step) for word in words[at::step]]
                file.write(f'{label_of},"{" ".join(mixed)}"\n')


def _vocabulary(rng: np.random.Generator) -> list[str]:
    # The backbone's own words, which it numbers about by frequency, then pairs of them as one word.
    from foldwise.models.resolve import resolve_backbone

    written = (resolve_backbone(NAME).folder / "tokenizer.json").read_text(encoding="utf-8")
    known = json.loads(written)["model"]["vocab"]
    words = [word for word in sorted(known, key=known.get) if re.fullmatch("[a-z]{2,}|a|i", word)]
    pairs = rng.integers(0, len(words), (VOCABULARY - len(words), 2))
    return words + [words[first] + words[second] for first, second in pairs]


def _text(words: list[str], ends: np.ndarray) -> str:
    # Sentences of about twelve words, a comma here and there, a number in place of a word.
    words[0] = words[0].capitalize()
    for at in np.flatnonzero(ends < 0.16):
        if ends[at] < 0.02:
            words[at] = str(int(ends[at] * 1e7) % 5000)
        elif ends[at] < 0.08:
            words[at] += ","
        else:
            words[at] += "."
            if at + 1 < len(words):
                words[at + 1] = words[at + 1].capitalize()
    return " ".join(words)


def prepare(table: Path, folder: Path) -> None:
    """Prepare a table as a run in the folder does, and print what each step took."""
    import foldwise.preparation.rows as steps
    from foldwise.config.schema import Config
    from foldwise.parts.usercode import UserCode
    from foldwise.preparation.build import build_task
    from foldwise.preparation.resolve import resolve
    from foldwise.run.folder import RunFolder

    config = resolve(
        Config.model_validate(
            {
                "run": {"name": "growth", "dir": str(folder / "runs")},
                "data": {"path": str(table), "target": "label", "text": ["text"]},
                "holdout": {"fraction": 0.1},
                "selection": {"rows": "inner"},
                "text": {"max_length": 128},
                "model": {"backbone": NAME},
                "training": {"device": "cpu", "precision": "float32"},
            }
        )
    )
    code, run = UserCode(config.code), RunFolder(folder / "runs" / "growth")
    task = build_task(config, code, stores=run.token_stores)
    took: dict[str, tuple[float, float]] = {}
    searching = "group_texts" if hasattr(steps, "group_texts") else "find_duplicates"  # older
    find = getattr(steps, searching)

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        started, before = time.monotonic(), _cpu_s()
        yield
        took[step] = time.monotonic() - started, _cpu_s() - before

    def find_timed(*given: Any) -> Any:
        with timed("duplicates"):
            return find(*given)

    setattr(steps, searching, find_timed)
    own = most_of_its_own()
    given = {"stores": run.token_stores}
    if "stores" not in inspect.signature(steps.read_rows).parameters:  # an older state
        given = {}
    with timed("reading"):
        read = steps.read_rows(config, task, **given)
    with timed("splitting"):
        rows = steps.split_rows(read, config, code, run, task)
    del read
    both, within = took["splitting"], took["duplicates"]
    took["splitting"] = both[0] - within[0], both[1] - within[1]
    with timed("tokenizing"):
        task.fit_target(rows.frame)
        dataset = task.dataset(rows.frame)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    counts = {"groups": rows.counts["groups"], "tokens": int(dataset.tokens.sum())}
    print(json.dumps({**took, "peak": peak, "own": own[0], **counts}))


def most_of_its_own() -> list[int]:
    """Watch the memory that is this process's own; the list's one entry is the most so far, MiB."""
    most = [0]

    def watch() -> None:
        while True:
            told = Path("/proc/self/status").read_text(encoding="ascii")
            found = re.search(r"RssAnon:\s+(\d+) kB", told)
            most[0] = max(most[0], int(found[1]) // 1024 if found else 0)
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()
    return most


def _cpu_s() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    main()
