"""Can one model stand for the folds'? Refit, distilled, one fold, and the mean of their weights.

    foldwise train benchmarks/one_model.yaml
    foldwise refit runs/one-model
    foldwise distill runs/one-model
    python benchmarks/one_model.py runs/one-model

RUN is finished, has a holdout, and `foldwise refit RUN` and `foldwise distill RUN` were given (what
is missing is left out). Every line is scored on the holdout: macro-F1 less that of all folds, with
a paired 95% interval over groups of near-duplicates; log loss; calibration error. First what is
answered with the run's members, then the fine-tuned model alone. The mean of the weights (Wortsman
et al. 2022) is that of the folds' best checkpoints, heads too. The lines are those of
docs/experiments.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.torch import load_file

from foldwise.commands.quiet import quiet_libraries
from foldwise.config.members import MODEL
from foldwise.evaluation.answer import answered, chosen_of
from foldwise.evaluation.bootstrap import percentiles, resample
from foldwise.evaluation.diagnostics import calibration
from foldwise.evaluation.summary import holdout_groups
from foldwise.hardware.device import build_accelerator
from foldwise.metrics.metric import builtin_metric
from foldwise.predictor import Predictor
from foldwise.preparation.build import build_task, open_run
from foldwise.preparation.prepare import Prepared, prepare
from foldwise.preparation.resolve import resolve_stored
from foldwise.run import checkpoints
from foldwise.run.folder import ONES, REFIT, RunFolder
from foldwise.run.manifests import WEIGHTS
from foldwise.run.seal import read_metrics
from foldwise.run.weights import load_weights
from foldwise.tasks.predictions import read_predictions, to_table
from foldwise.training.inference import infer


def averaged(prepared: Prepared) -> pl.DataFrame:
    """Let the mean of the fold models' weights answer the holdout."""
    folders = [prepared.run.fold(number) for number in prepared.folds]
    states = [load_file(checkpoints.pointed(folder) / WEIGHTS) for folder in folders]
    mean = {
        name: sum(state[name].double() for state in states).div(len(states)).to(tensor)  # type: ignore[union-attr]
        for name, tensor in states[0].items()
    }
    model = prepared.task.build_model()
    load_weights(model, mean)
    accelerator = build_accelerator(prepared.config.training)
    assert prepared.holdout is not None
    held, task = prepared.holdout, prepared.task
    model.to(accelerator.device).eval()
    logits, _ = infer(
        model, task.dataset(held), np.arange(held.height), task.collate, accelerator, title=None
    )
    return to_table(task, held, logits, None, None)


def answers(prepared: Prepared) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each way to answer the holdout, all folds first; what lies in the run is read."""
    run, held, task = prepared.run, prepared.holdout, prepared.task
    assert held is not None
    made = [name for name in ONES if run.one(name).holdout.exists()]
    chosen = chosen_of(read_metrics(run))
    yield "answer, all folds", read_predictions(run.holdout, task)
    for fold in map(run.fold, prepared.folds):
        paths = {name: fold.member(name).holdout for name in chosen.voting}
        paths |= {MODEL: fold.holdout}
        tables = {name: read_predictions(path, task) for name, path in paths.items()}
        yield f"answer, fold {fold.number}", answered(tables, chosen, task)
    for name in made:
        yield f"answer, {name}", read_predictions(run.one(name).holdout, task)
    yield "model alone, all folds", read_predictions(run.member(MODEL).holdout, task)
    for fold in map(run.fold, prepared.folds):
        yield f"model alone, fold {fold.number}", read_predictions(fold.holdout, task)
    if run.one(REFIT).trained.exists():  # else the model has no vote
        yield "model alone, refit", Predictor(run.path, model=REFIT, member=MODEL).predict(held)
    yield "model alone, mean of the folds' weights", averaged(prepared)


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    path = parser.parse_args().run
    quiet_libraries(online=False)
    run = RunFolder(path.resolve())
    stored, code = open_run(run, trust_code=False)
    config = resolve_stored(stored)
    task = build_task(config, code, run=run, stores=run.token_stores)
    prepared = prepare(config, code, run, task)
    assert prepared.holdout is not None, "the run has no holdout"
    groups = holdout_groups(prepared)(prepared.holdout["row"].to_numpy())
    metrics = [builtin_metric("f1_macro"), builtin_metric("log_loss")]
    first = None
    for name, table in answers(prepared):
        target, prediction, probabilities = arrays = task.to_arrays(table)
        drawn = resample(metrics, *arrays, groups, config.folds.seed)
        first = first or drawn
        ahead = drawn.draws_of("f1_macro") - first.draws_of("f1_macro")
        bounds = percentiles(ahead, 0.95)
        confidence = probabilities[np.arange(len(prediction)), prediction]
        error = calibration(confidence, prediction == target)[1]
        f1, loss = drawn.values
        print(
            f"| {name} | {f1:.3f} | {f1 - first.values[0]:+.3f} "
            f"[{bounds['low']:+.3f}, {bounds['high']:+.3f}] | {loss:.3f} | {error:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
