from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.evaluation.candidates import Candidate, read_candidates
from foldwise.evaluation.compare import bootstrap_scores, compare
from foldwise.evaluation.simultaneous import row_differences
from made_runs import CLASSES, make_run, noisy

N = 300
TARGET = np.random.default_rng(0).integers(3, size=N)
FOLD = np.arange(N) % 5 + 1
SAME: dict[str, Any] = {"optimizer": {"lr": 1e-9}}


@pytest.fixture
def run(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Path]:
    """Make a finished run: its name, how often it is right, a seed; settings by keyword."""

    def make(name: str, right: float, seed: int, **changed: Any) -> Path:
        arrays = {key: changed.pop(key) for key in ("fold", "target", "groups") if key in changed}
        rest = {
            key: changed.pop(key) for key in ("held", "data_sha256", "memory") if key in changed
        }
        # Each run is a config of its own, unless it is told another rate.
        made = {"lr": 1e-5 * (1 + len(list(tmp_path.rglob("oof.parquet"))))}
        config = make_config(
            run={"name": name, "seed": seed},
            folds={"n": changed.pop("n", 5)},
            optimizer=changed.pop("optimizer", made),
            **changed,
        )
        target = arrays.get("target", TARGET)
        fold = arrays.get("fold", FOLD)
        groups = arrays.get("groups")
        made = make_run(config, target, noisy(TARGET, right, seed), fold, groups=groups, **rest)
        return made.path

    return make


def test_the_bootstrap_is_the_one_by_hand(run: Callable[..., Path]) -> None:
    groups = np.arange(N) // 2
    paths = [run("a", 0.8, 1, groups=groups), run("b", 0.6, 2, groups=groups)]
    a, b = read_candidates(paths)
    metric = next(m for m in a.metrics if m.name == "accuracy")
    values, drawn = bootstrap_scores([a, b], metric, resamples=1000)
    (found,) = row_differences(values, drawn, [1, 1], None)
    right_a, right_b = (run.arrays[1] == run.arrays[0] for run in (a, b))
    ahead = (right_a.astype(float) - right_b).reshape(-1, 2).sum(axis=1)
    rng = np.random.default_rng(7)
    draws = [ahead[rng.integers(N // 2, size=N // 2)].sum() / N for _ in range(4000)]
    assert found.value == pytest.approx(right_a.mean() - right_b.mean())
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.012)


def test_a_clear_winner_is_named_whichever_stands_first(run: Callable[..., Path]) -> None:
    weak, strong = run("weak", 0.5, 1), run("strong", 0.9, 2)
    for paths in ([weak, strong], [strong, weak]):
        assert (
            compare(read_candidates(paths), resamples=300).verdict
            == "verdict: strong better than weak"
        )


def test_runs_that_differ_in_their_seed_alone_have_nothing_to_choose_between(
    run: Callable[..., Path],
) -> None:
    runs = [run(f"seed-{seed}", 0.5 + 0.4 * seed, seed, **SAME) for seed in range(2)]
    found = compare(read_candidates(runs), "accuracy", resamples=300)
    assert found.verdict == "verdict: no clear difference"
    assert len(found.pairs) == 1
    spread = np.std([r.scores["oof"]["accuracy"]["value"] for r in found.ranked], ddof=1)
    assert found.notes[-1] == (
        "The runs differ in run.seed alone, so what lies between them is chance: another run.seed "
        f"moves accuracy by {spread:.3f} (standard deviation, from 1 more run than configs)."
    )


def test_two_seeds_of_each_config_are_compared_by_their_mean_with_their_noise(
    run: Callable[..., Path],
) -> None:
    a = [run("a-1", 0.95, 1, **SAME), run("a-2", 0.95, 2, **SAME)]
    other = {"optimizer": {"lr": 9e-9}}
    b = [run("b-1", 0.5, 3, **other), run("b-2", 0.5, 4, **other)]
    found = compare(read_candidates([a[0], b[0], b[1], a[1]]), "accuracy", resamples=300)
    assert [config.name for config in found.contenders] == ["a-1, a-2", "b-1, b-2"]
    scores = {r.name: r.scores["oof"]["accuracy"]["value"] for r in found.ranked}
    ahead = np.mean([scores["a-1"], scores["a-2"]]) - np.mean([scores["b-1"], scores["b-2"]])
    assert found.pairs[0].rows.value == pytest.approx(ahead)
    assert found.noise is not None
    assert found.noise.degrees == 2
    assert found.notes == [
        f"Seed noise is in both intervals: another run.seed moves accuracy by "
        f"{math.sqrt(found.noise.rows):.3f} (standard deviation, from 2 more runs than configs)."
    ]
    assert found.verdict == "verdict: a-1, a-2 better than b-1, b-2"
    alone = compare(read_candidates([a[0], b[0]]), "accuracy", resamples=300)
    assert alone.notes == [
        "Seed noise is unknown: no config was run with two seeds. Train each again with another "
        "run.seed and run.name, and compare all of them."
    ]


def test_runs_of_other_code_or_of_the_same_seed_are_not_seeds_of_one_config(
    run: Callable[..., Path],
) -> None:
    a, b = read_candidates([run("a", 0.9, 1, **SAME), run("b", 0.6, 2, **SAME)])
    b = replace(b, origin=("other code", None))
    assert compare([a, b], resamples=300).noise is None
    twin = replace(read_candidates([run("c", 0.6, 1, **SAME)])[0], origin=a.origin)
    found = compare([a, twin], resamples=300)
    assert (found.noise, found.verdict) == (None, "verdict: a better than c")


def test_two_folds_cannot_decide_and_say_so(run: Callable[..., Path]) -> None:
    fold = np.arange(N) % 2 + 1
    runs = [run("weak", 0.4, 1, fold=fold, n=2), run("strong", 0.95, 2, fold=fold, n=2)]
    found = compare(read_candidates(runs), resamples=300)
    assert found.verdict == "verdict: no clear difference"
    assert found.pairs[0].folds.value > 0.3
    assert found.pairs[0].rows.clear
    assert found.notes[0] == (
        "Two folds can't decide: the spread between folds is not to be told from so few. Give "
        "folds.n: 5, or 3 and folds.repeats: 2, and train again."
    )


def test_equal_models_seldom_make_a_winner(run: Callable[..., Path]) -> None:
    # Both rows and folds vary at random, so no pair has a true difference.
    base = read_candidates([run("a", 0.7, 1)])[0]
    wins = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        target = rng.integers(3, size=N)
        pair = [
            _with(base, f"m{i}", target, noisy(target, 0.7, 1000 + 2 * seed + i)) for i in (0, 1)
        ]
        wins += compare(pair, "accuracy", resamples=200).verdict != "verdict: no clear difference"
    assert wins <= 3


def _with(base: Candidate, name: str, target: np.ndarray, probabilities: np.ndarray) -> Candidate:
    right = probabilities.argmax(axis=1) == target
    folds = {str(k): {"accuracy": float(right[k == FOLD].mean())} for k in range(1, 6)}
    scores = {"folds": folds, "oof": {"accuracy": {"value": float(right.mean())}}}
    table = base.out_of_fold.with_columns(
        target=np.array(CLASSES)[target], prediction=np.array(CLASSES)[probabilities.argmax(axis=1)]
    )
    arrays = target, probabilities.argmax(axis=1), probabilities
    return replace(base, name=name, scores=scores, arrays=arrays, out_of_fold=table)


def test_where_less_is_better_the_lower_run_wins(run: Callable[..., Path]) -> None:
    metrics = {"metrics": ["f1_macro", "log_loss"]}
    paths = [run("weak", 0.5, 1, **metrics), run("strong", 0.95, 2, **metrics)]
    found = compare(read_candidates(paths), "log_loss", resamples=300)
    assert found.verdict == "verdict: strong better than weak"
    assert found.pairs[0].rows.value > 0


def test_several_runs_are_ranked_and_their_intervals_hold_together(
    run: Callable[..., Path],
) -> None:
    paths = [run("low", 0.4, 1), run("high", 0.9, 2), run("middle", 0.7, 3)]
    found = compare(read_candidates(paths), resamples=300)
    assert [candidate.name for candidate in found.ranked] == ["high", "middle", "low"]
    assert [pair.other for pair in found.pairs] == ["middle", "low"]
    assert found.notes[0] == (
        "The intervals of a column hold for all 3 pairs of 3 together with 95%, so for the best "
        "too, which these scores picked."
    )
    alone = compare(found.ranked[:2], resamples=300).pairs[0]
    for wide, narrow in ((found.pairs[0].rows, alone.rows), (found.pairs[0].folds, alone.folds)):
        assert wide.value == narrow.value
    assert found.pairs[0].rows.low < alone.rows.low
    assert found.verdict == "verdict: high better than middle"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fold": np.roll(FOLD, 1)}, "300 of 300 rows lie in another fold"),
        ({"data_sha256": "e" * 64}, "they were made from different tables"),
        ({"target": (TARGET + (np.arange(N) < 7)) % 3}, "7 of 300 rows have another target"),
    ],
)
def test_runs_on_other_folds_are_refused(
    run: Callable[..., Path], changed: dict[str, Any], message: str
) -> None:
    paths = [run("a", 0.7, 1), run("b", 0.7, 1, **changed)]
    with pytest.raises(FoldwiseError) as refused:
        compare(read_candidates(paths))
    assert str(refused.value) == (
        f"a and b can't be compared: {message}. Only scores of the same rows in the same folds "
        "can be paired; run one again with the other's data and folds"
    )


def test_the_keys_behind_other_folds_are_named(run: Callable[..., Path]) -> None:
    a = run("a", 0.7, 1)
    config = {"fold": np.roll(FOLD, 1), "data": {"sample": 300}}
    with pytest.raises(FoldwiseError, match=r"another fold \(their configs differ in: data.sample"):
        compare(read_candidates([a, run("b", 0.7, 1, **config)]))


def test_unfinished_missing_and_repeated_runs_are_refused(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    path = run("a", 0.7, 1)
    with pytest.raises(FoldwiseError, match="given twice"):
        read_candidates([path, path])
    with pytest.raises(FoldwiseError, match="not a run folder"):
        read_candidates([path, tmp_path])
    (path / "metrics.json").unlink()
    with pytest.raises(FoldwiseError, match="not finished"):
        read_candidates([path])
    with pytest.raises(FoldwiseError, match="compare needs two runs or more"):
        compare([])


def test_an_unknown_metric_is_refused(run: Callable[..., Path]) -> None:
    candidates = read_candidates([run("a", 0.7, 1), run("b", 0.7, 2)])
    with pytest.raises(FoldwiseError) as refused:
        compare(candidates, "f2")
    names = ", ".join(metric.name for metric in candidates[0].metrics)
    assert str(refused.value) == f"--metric f2: not among the metrics that all runs show: {names}"


def test_cost_is_read_from_the_run(run: Callable[..., Path]) -> None:
    candidate, older = read_candidates([run("a", 0.7, 1), run("old", 0.7, 2, memory=None)])
    assert candidate.cost.training_s == 300
    assert candidate.cost.memory_bytes == 2**30
    assert candidate.cost.trainable == 600_000
    assert older.cost.memory_bytes is None
