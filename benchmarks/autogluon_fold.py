"""Fit AutoGluon on a fold's rows and answer others: run by an environment that has it.

    PYTHON benchmarks/autogluon_fold.py FOLDER

The folder has fitted.csv, scored.csv and task.json (target, metric, numeric columns, seconds);
answers.json is written beside them. `peers.py` calls it.
"""

import json
import sys
from pathlib import Path

import pandas as pd
from autogluon.tabular import TabularPredictor


def main() -> None:
    """Fit, answer, write."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    fitted, scored = (read(folder / f"{name}.csv", task) for name in ("fitted", "scored"))
    predictor = TabularPredictor(
        task["target"], eval_metric=task["metric"], path=str(folder / "models"), verbosity=0
    )
    # Dynamic stacking fits everything twice to guard against leaks between layers: more time.
    predictor.fit(
        fitted, presets="best_quality", time_limit=task["seconds"], dynamic_stacking=False
    )
    answers = predictor.predict(scored).tolist()
    (folder / "answers.json").write_text(json.dumps(answers))


def read(path: Path, task: dict[str, object]) -> pd.DataFrame:
    """Read a table: text as written, numbers as numbers."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in task["numbers"]:
        if column in rows:
            rows[column] = pd.to_numeric(rows[column], errors="coerce")
    return rows


if __name__ == "__main__":
    main()
