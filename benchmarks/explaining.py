"""Do the words that an explanation names move the answer more than random ones?

Rows of the run's holdout are credited, and the words that are named taken out of them, as
`foldwise explain` does (foldwise/explanation/removal.py says how it is compared). With
--occlusion the same words are credited by leaving each out of the whole answer, as a reference:
that asks the very question that the check asks, one word at a time.

    python benchmarks/explaining.py RUN DATA --model fold-1 [--member model] [--occlusion]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from foldwise.explanation.aim import Aim, aims_of
from foldwise.explanation.answered import Variant, answers, varied
from foldwise.explanation.credit import Credit, Creditor, cells_without
from foldwise.explanation.effort import Effort
from foldwise.explanation.explained import Removal
from foldwise.explanation.removal import check_removal
from foldwise.predictor import Predictor
from foldwise.tasks.predictions import values_of

GROUP = 4
EFFORT = Effort(random=10)


def holdout_rows(predictor: Predictor, data: str, n: int) -> pl.DataFrame:
    folds = pl.read_parquet(predictor.run.folds)
    held = folds.filter(pl.col("role") == "holdout")["row"].unique()
    frame = predictor.read(data, labelled=False)
    return frame.filter(pl.col("row").is_in(held.to_list())).sample(n, seed=EFFORT.seed)


def by_occlusion(
    predictor: Predictor, rows: pl.DataFrame, aims: Sequence[Aim], credits: Sequence[Credit]
) -> list[Credit]:
    """Credit each word by how much the answer falls without it, wherever it stands."""
    variants, of = [], []
    for row, credit in enumerate(credits):
        for kind in {word.kind for word in credit.words}:
            gone = [word for word in credit.words if word.kind == kind]
            cells = cells_without(rows, row, gone)
            variants.append(Variant(row, cells))
            of.append((row, kind))
    full, made = (answers(predictor, each, EFFORT) for each in (rows, varied(rows, variants)))
    found = [np.zeros(len(credit.words)) for credit in credits]
    for (row, kind), line in zip(of, made, strict=True):
        at = [i for i, word in enumerate(credits[row].words) if word.kind == kind]
        fall = full[row, aims[row].output] - line[aims[row].output]
        found[row][at] = fall / len(at)
    return [
        Credit(c.words, values, c.read, 0.0, [], 0)
        for c, values in zip(credits, found, strict=True)
    ]


def told(name: str, tests: Sequence[Removal | None]) -> str:
    done = [test for test in tests if test is not None]
    if not done:
        return f"{name}: nothing to check"
    passed = sum(test.passed for test in done)
    error = (passed / len(done) * (1 - passed / len(done)) / len(done)) ** 0.5
    clear = [test for test in done if abs(test.every) > 0.05]
    of_clear = sum(test.passed for test in clear) / max(len(clear), 1)
    return (
        f"{name}: {passed} of {len(done)} pass ({passed / len(done):.3f} +- {error:.3f}), "
        f"{len(tests) - len(done)} too short; named move "
        f"{np.mean([test.named for test in done]):.3f}, random "
        f"{np.mean([test.random for test in done]):.3f}; the words of most credit alone: "
        f"{np.mean([test.shaded > test.random for test in done]):.3f} pass, move "
        f"{np.mean([test.shaded for test in done]):.3f}; where all words together move over 0.05: "
        f"{of_clear:.3f} of {len(clear)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--model", default="all")
    parser.add_argument("--member")
    parser.add_argument("--occlusion", action="store_true")
    asked = parser.parse_args()
    predictor = Predictor(asked.run, model=asked.model, member=asked.member)
    rows = holdout_rows(predictor, asked.data, asked.rows)
    task: Any = predictor.task
    creditor = Creditor(predictor, EFFORT)
    ours: list[Removal | None] = []
    reference: list[Removal | None] = []
    credits: list[Credit] = []
    begun = time.perf_counter()
    for start in range(0, rows.height, GROUP):
        part = rows[start : start + GROUP]
        answer = predictor.predict(part)
        full = values_of(answer)
        labels = answer["prediction"].to_list()
        aims = [aims_of(task, line, said, 1)[0] for line, said in zip(full, labels, strict=True)]
        found = creditor.credit(part, aims)
        credits += found
        ours += check_removal(predictor, part, aims, found, full, EFFORT)
        if asked.occlusion:
            occluded = by_occlusion(predictor, part, aims, found)
            reference += check_removal(predictor, part, aims, occluded, full, EFFORT)
        print(f"{start + part.height} rows, {time.perf_counter() - begun:.0f} s", flush=True)
        print(told("named by credit", ours), flush=True)
        if asked.occlusion:
            print(told("named by occlusion", reference), flush=True)
    paths = [path for credit in credits for path in credit.paths]
    if paths:
        steps = sorted(path.steps for path in paths)
        off = [abs(path.delta) / max(abs(path.end - path.start), 1.0) for path in paths]
        print(
            f"paths: {len(paths)}, steps {steps[0]} to {steps[-1]}, median "
            f"{steps[len(steps) // 2]}; sums off by {np.median(off):.4f} in the median, "
            f"{max(off):.4f} at most, {sum(not path.near for path in paths)} not near"
        )


if __name__ == "__main__":
    main()
