"""The run's answer: made-up members in, weights out, that hang on no target of the row's fold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from foldwise.config.schema import Config
from foldwise.decisions.decision import Decision
from foldwise.ensemble.choose import Chosen
from foldwise.errors import FoldwiseError
from foldwise.evaluation.answer import answer, answered, chosen_of, judged_by, mean_answer
from foldwise.metrics.metric import evaluate
from foldwise.parts.usercode import UserCode
from foldwise.tasks.multiclass import Multiclass
from foldwise.tasks.multilabel import Multilabel
from foldwise.tasks.ordinal import Ordinal
from foldwise.tasks.predictions import values_of, values_to_table
from foldwise.tasks.regression import Regression

CLASSES = ["a", "b", "c"]
N = 900


def prepared(
    metric: str = "f1_macro",
    folds: int = 3,
    task: str = "multiclass",
    decided: bool = False,
    metrics: list[str] | None = None,
) -> Any:
    """A run of N rows, as far as an answer needs it."""
    values: dict[str, Any] = {
        "run": {"name": "made"},
        "task": task,
        "data": {"path": "a.csv", "target": "label", "text": ["text"]},
        "folds": {"n": 3},
        "selection": {"metric": metric},
        "calibration": "temperature" if decided else "none",
        "thresholds": "auto" if decided else "half",
    }
    if metrics is not None:
        values["metrics"] = metrics
    config = Config.model_validate(values)
    kinds = {"regression": Regression, "multilabel": Multilabel, "ordinal": Ordinal}
    kind = kinds.get(task, Multiclass)
    made: Any = kind(config, UserCode())
    made.classes = CLASSES
    return SimpleNamespace(
        config=config,
        task=made,
        folds=list(range(1, folds + 1)),
        assignment=SimpleNamespace(groups=lambda rows: rows),
    )


def guesses(target: np.ndarray, right: float, seed: int) -> np.ndarray:
    """Probabilities whose largest is the target's in a share `right` of the rows."""
    rng = np.random.default_rng(seed)
    other = (target + rng.integers(1, 3, len(target))) % 3
    guess = np.where(rng.random(len(target)) < right, target, other)
    values = 0.2 + 0.3 * rng.random((len(target), 3))
    values[np.arange(len(target)), guess] += 0.5
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def table(run: Any, target: np.ndarray, values: np.ndarray, folds: int = 3) -> pl.DataFrame:
    """A member's out-of-fold table of N rows."""
    parts = []
    for fold in range(1, folds + 1):
        rows = np.flatnonzero(np.arange(N) % folds == fold - 1)
        label: Any = target[rows]
        if target.ndim == 2:
            label = run.task.joined(target[rows] == 1)
        elif target.dtype.kind == "i":
            label = [CLASSES[i] for i in target[rows]]
        frame = pl.DataFrame({"row": rows, "label": label})
        parts.append(values_to_table(run.task, frame, values[rows], 1, fold))
    return pl.concat(parts).sort("repeat", "row")


def members(run: Any, target: np.ndarray, shown: np.ndarray | None = None) -> dict[str, Any]:
    """Three members that err apart; `shown` replaces the targets that the tables tell."""
    told = target if shown is None else shown
    shares = {"model": 0.65, "linear": 0.6, "boosting": 0.6}
    return {
        name: table(run, told, guesses(target, right, seed))
        for seed, (name, right) in enumerate(shares.items())
    }


@pytest.fixture
def target() -> np.ndarray:
    """N class ids."""
    return np.random.default_rng(5).integers(0, 3, N)


def accuracy(found: pl.DataFrame) -> float:
    return float((found["target"] == found["prediction"]).mean())


def rare_class(seed: int) -> np.ndarray:
    """N class ids, one in thirteen of the rarest."""
    return np.random.default_rng(seed).choice(3, N, p=[0.72, 0.2, 0.08])


def unsure(target: np.ndarray) -> dict[str, np.ndarray]:
    """Two members' right probabilities, of classes that are hard to tell apart."""
    shares = np.bincount(target, minlength=3) / len(target)
    made = {}
    for seed, name in enumerate(("model", "linear")):
        scores = np.random.default_rng(seed).normal(size=(len(target), 3))
        scores[np.arange(len(target)), target] += 1.0
        powers = np.exp(scores) * shares
        made[name] = powers / powers.sum(axis=1, keepdims=True)
    return made


def test_rare_classes_are_named_from_smaller_probabilities_where_a_mean_over_classes_judges() -> (
    None
):
    target = rare_class(6)
    values = unsure(target)
    found = {}
    for metric in ("log_loss", "auroc_macro", "f1_macro", "balanced_accuracy"):
        run = prepared(metric, metrics=[metric], decided=True)
        tables = {name: table(run, target, made) for name, made in values.items()}
        found[metric] = answer(run, tables)
        probabilities = found[metric].out_of_fold.select("^prob_.*$")
        assert probabilities.equals(found["log_loss"].out_of_fold.select("^prob_.*$"))
    for metric in ("log_loss", "auroc_macro"):
        assert found[metric].chosen.decision.class_weights == ()
        assert "class_weights" not in found[metric].as_json()
    rows = np.bincount(target)
    weights = found["balanced_accuracy"].chosen.decision.class_weights
    assert weights == pytest.approx(rows.max() / rows)
    f1 = found["f1_macro"]
    assert f1.chosen.decision.class_weights == pytest.approx(np.sqrt(rows.max() / rows))
    made = values_of(f1.out_of_fold)
    named = f1.out_of_fold["prediction"].to_list()
    assert named != [CLASSES[i] for i in made.argmax(axis=1)]
    for metric in ("f1_macro", "balanced_accuracy"):
        run = prepared(metric, metrics=[metric], decided=True)
        arrays = run.task.to_arrays(found[metric].out_of_fold)
        most = made.argmax(axis=1)
        gain = evaluate(run.task.metrics()[0], *arrays)
        gain -= evaluate(run.task.metrics()[0], arrays[0], most, made)
        told = found[metric].as_json()
        assert gain > 0.02
        assert told["class_weights_add"] == pytest.approx(gain)
        assert told["thresholds_add"] is None
        assert list(told["class_weights"]) == CLASSES
        assert chosen_of({"answer": told}).decision == found[metric].chosen.decision


def test_the_most_probable_class_is_named_where_that_is_asked_for_or_one_member_answers() -> None:
    target = rare_class(6)
    values = unsure(target)
    run = prepared()  # thresholds: half
    tables = {name: table(run, target, made) for name, made in values.items()}
    made = answer(run, tables)
    assert made.chosen.blended
    assert made.chosen.decision == Decision()
    # What a member adds is counted in labels that are named as the answer's are.
    assert answer(prepared(decided=True), tables).adds != made.adds
    most = values_of(made.out_of_fold).argmax(axis=1)
    assert made.out_of_fold["prediction"].to_list() == [CLASSES[i] for i in most]
    one = answer(prepared(decided=True), {"model": tables["model"]})
    assert one.chosen.decision.class_weights == ()
    assert one.out_of_fold["prediction"].equals(tables["model"]["prediction"])


def test_the_class_weights_of_a_row_hang_on_no_target_of_its_own_fold() -> None:
    target = rare_class(6)
    values = unsure(target)
    other = np.where(np.arange(N) % 3 == 0, 2, target)
    run = prepared(decided=True)
    first, second = (
        answer(run, {name: table(run, shown, made) for name, made in values.items()})
        for shown in (target, other)
    )
    assert first.of_folds[1].decision == second.of_folds[1].decision
    assert first.of_folds[2].decision != second.of_folds[2].decision
    own = pl.col("fold") == 1
    predictions = [each.out_of_fold.filter(own)["prediction"] for each in (first, second)]
    assert predictions[0].equals(predictions[1])


def test_new_rows_are_named_by_class_weights_on_the_mean_of_tempered_folds() -> None:
    run = prepared(decided=True)
    decision = Decision(2.0, class_weights=(1.0, 1.0, 3.0))
    chosen = Chosen(("model", "linear"), np.array([0.5, 0.5]), True, {}, decision)
    target = np.zeros(N, dtype=np.int64)
    folds = []
    for p in (0.8, 0.6):
        made = table(run, target, np.tile([p, 0.05, 0.95 - p], (N, 1)))
        folds.append({"model": made, "linear": made})
    found = mean_answer(folds, chosen, run.task)
    roots = np.sqrt([[0.8, 0.05, 0.15], [0.6, 0.05, 0.35]])
    mean = (roots / roots.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(values_of(found)[0], mean)
    assert mean.argmax() == 0
    assert found["prediction"][0] == "c"
    assert 3 * mean[2] > mean[0]


def test_an_order_is_named_by_the_median_of_weighed_probabilities() -> None:
    run = prepared("f1_macro", task="ordinal", decided=True)
    target = rare_class(6)
    tables = {name: table(run, target, made) for name, made in unsure(target).items()}
    found = answer(run, tables)
    weights = np.array(found.chosen.decision.class_weights)
    assert weights.max() > 1
    seen = values_of(found.out_of_fold) * np.array(
        [found.of_folds[fold].decision.class_weights for fold in found.out_of_fold["fold"]]
    )
    above = seen[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] / seen.sum(axis=1, keepdims=True)
    median = (above > 0.5).sum(axis=1)
    assert found.out_of_fold["prediction"].to_list() == [CLASSES[i] for i in median]


def test_members_that_err_apart_are_blended_and_the_blend_is_better(target: np.ndarray) -> None:
    run = prepared()
    tables = members(run, target)
    found = answer(run, tables)
    assert found.chosen.blended
    assert found.chosen.voting == ("model", "linear", "boosting")
    assert accuracy(found.out_of_fold) > max(map(accuracy, tables.values())) + 0.02
    assert found.out_of_fold.columns == tables["model"].columns
    assert set(found.of_folds) == {1, 2, 3}
    assert all(gain > 0 for gain in found.adds.values())


def test_no_rows_answer_hangs_on_the_targets_of_its_own_fold(target: np.ndarray) -> None:
    run = prepared()
    other = target.copy()
    of_first = np.arange(N) % 3 == 0
    other[of_first] = (other[of_first] + 1) % 3
    values = pl.col("^(prediction|prob_.*)$")
    first, second = (
        answer(run, members(run, target, shown)).out_of_fold.filter(pl.col("fold") == 1)
        for shown in (target, other)
    )
    assert first["target"].to_list() != second["target"].to_list()
    assert first.select(values).equals(second.select(values))


def test_where_the_others_know_nothing_the_model_answers_to_the_last_bit(
    target: np.ndarray,
) -> None:
    run = prepared()
    sure = table(run, target, guesses(target, 0.97, 0))
    noise = table(run, target, guesses(target, 1 / 3, 1))
    found = answer(run, {"model": sure, "linear": noise})
    assert accuracy(found.out_of_fold) >= accuracy(sure) - 0.01
    if not found.chosen.blended:
        assert found.chosen.single == "model"
    # A model's logits aren't the logarithms of its probabilities, as a blend's are.
    own = sure.with_columns(pl.col("^logit_.*$") + 1)
    chosen = Chosen(("model", "linear"), np.array([1.0, 0.0]), False, {})
    assert answered({"model": own, "linear": noise}, chosen, run.task).equals(own)
    alone = answer(run, {"model": sure})
    assert alone.out_of_fold.equals(sure)
    assert alone.as_json()["weights"] == {"model": 1.0}


def test_a_run_of_one_fold_is_answered_by_parts_that_keep_their_targets_out(
    target: np.ndarray,
) -> None:
    run = prepared(folds=1)
    shares = {"model": 0.65, "linear": 0.6}
    tables = {
        name: table(run, target, guesses(target, right, seed), folds=1)
        for seed, (name, right) in enumerate(shares.items())
    }
    found = answer(run, tables)
    assert len(found.of_folds) > 1
    assert found.out_of_fold["row"].to_list() == list(range(N))


def test_numbers_are_answered_with_a_weighted_mean() -> None:
    run = prepared("rmse", task="regression")
    rng = np.random.default_rng(0)
    truth = rng.normal(10, 3, N)
    tables = {
        name: table(run, truth, (truth + rng.normal(0, 2, N))[:, None])
        for name in ("model", "linear")
    }
    found = answer(run, tables)
    errors = [
        float(((t["prediction"] - t["target"]) ** 2).mean() ** 0.5)
        for t in (found.out_of_fold, *tables.values())
    ]
    assert errors[0] < 0.8 * min(errors[1:])
    assert found.chosen.weights.sum() == pytest.approx(1)


def test_the_answer_to_new_rows_is_blended_in_each_fold_and_then_averaged(
    target: np.ndarray,
) -> None:
    run = prepared()
    chosen = answer(run, members(run, target)).chosen
    folds = [
        {
            name: table(run, target, guesses(target, 0.6, 10 * k + i))
            for i, name in enumerate(chosen.names)
        }
        for k in range(2)
    ]
    found = mean_answer(folds, chosen, run.task)
    names = [f"prob_{name}" for name in CLASSES]
    mean = np.mean(
        [answered(tables, chosen, run.task).select(names).to_numpy() for tables in folds], axis=0
    )
    np.testing.assert_allclose(found.select(names).to_numpy(), mean)
    assert found["fold"].null_count() == N


def test_a_run_from_before_there_were_members_answers_with_its_model() -> None:
    chosen = chosen_of({"oof": {}})
    assert (chosen.voting, chosen.blended) == (("model",), False)


def test_a_loss_judges_no_answer_the_first_metric_does() -> None:
    run = prepared("loss")
    assert judged_by(run.config, run.task.metrics()).name == "f1_macro"
    assert judged_by(prepared("accuracy").config, run.task.metrics()).name == "accuracy"


def test_the_metric_that_picks_the_epoch_judges_the_answer_though_metrics_leaves_it_out() -> None:
    run = prepared("mcc", metrics=["accuracy", "f1_macro"])
    assert [metric.name for metric in run.task.metrics()] == ["accuracy", "f1_macro", "mcc"]
    assert judged_by(run.config, run.task.metrics()).name == "mcc"
    by_errors = prepared("rmse", task="regression", metrics=["mae"])
    assert [metric.name for metric in by_errors.task.metrics()] == ["mae", "rmse"]


def sharpened(values: np.ndarray, by: float) -> np.ndarray:
    """Probabilities that are surer than they should be."""
    powers = values**by
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def calibrated(target: np.ndarray, seed: int, classes: int = 3) -> np.ndarray:
    """Probabilities that come true as often as they say."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(len(target), classes))
    scores[np.arange(len(target)), target] += 1
    return sharpened(np.exp(scores - scores.max(axis=1, keepdims=True)), 1)


def test_a_model_that_is_too_sure_is_tempered_and_its_labels_stay(target: np.ndarray) -> None:
    run = prepared(decided=True)
    raw = table(run, target, sharpened(calibrated(target, 0), 3))
    found = answer(run, {"model": raw})
    assert found.chosen.decision.temperature == pytest.approx(3, rel=0.15)
    assert found.out_of_fold["prediction"].equals(raw["prediction"])
    changed = found.as_json()["calibration"]
    assert changed["log_loss"]["after"] < changed["log_loss"]["before"] - 0.2
    assert changed["ece"]["after"] < 0.5 * changed["ece"]["before"]
    assert changed["ece"]["after"] < 3 * changed["ece"]["by_chance"]
    assert chosen_of({"answer": found.as_json()}).decision == found.chosen.decision


def test_a_rows_temperature_hangs_on_no_target_of_its_own_fold(target: np.ndarray) -> None:
    run = prepared(decided=True)
    other = target.copy()
    of_first = np.arange(N) % 3 == 0
    other[of_first] = (other[of_first] + 1) % 3
    values = sharpened(calibrated(target, 0), 3)
    first, second = (answer(run, {"model": table(run, shown, values)}) for shown in (target, other))
    assert first.of_folds[1].decision == second.of_folds[1].decision
    assert first.of_folds[2].decision != second.of_folds[2].decision
    own = pl.col("fold") == 1
    probabilities = pl.col("^prob_.*$")
    assert (
        first.out_of_fold.filter(own)
        .select(probabilities)
        .equals(second.out_of_fold.filter(own).select(probabilities))
    )


def test_tempered_orders_keep_their_median_label() -> None:
    run = prepared("mae", task="ordinal", decided=True)
    target = np.random.default_rng(3).integers(0, 3, N)
    raw = table(run, target, sharpened(calibrated(target, 0), 3))
    found = answer(run, {"model": raw})
    assert found.chosen.decision.temperature > 1.5
    assert found.out_of_fold["prediction"].equals(raw["prediction"])
    assert found.calibration is not None
    assert found.calibration["log_loss"]["after"] < found.calibration["log_loss"]["before"] - 0.2


def ratings(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """N ranks of five, most of them the highest, and two members' right probabilities of them."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=N)
    steps = np.array([-1.6, -1.0, -0.6, 0.0])
    target = np.searchsorted(steps, latent)
    made = {}
    for name in ("model", "linear"):
        seen = (latent + rng.normal(size=N)) / 2  # the latent's mean, given what is seen
        above = norm.cdf((seen[:, None] - steps) / np.sqrt(0.5))
        edges = np.ones((N, 1))
        made[name] = -np.diff(np.hstack([edges, above, 0 * edges]), axis=1)
    return target, made


def ordered(metric: str, **changed: Any) -> Any:
    run = prepared(metric, task="ordinal", decided=True, **changed)
    run.task.classes = list("12345")
    return run


def rated(run: Any, target: np.ndarray, values: np.ndarray) -> pl.DataFrame:
    return pl.concat(
        values_to_table(
            run.task,
            pl.DataFrame({"row": rows, "label": [run.task.classes[i] for i in target[rows]]}),
            values[rows],
            1,
            fold,
        )
        for fold in (1, 2, 3)
        for rows in [np.flatnonzero(np.arange(N) % 3 == fold - 1)]
    ).sort("repeat", "row")


def test_ordered_labels_are_named_by_cutoffs_where_quadratic_kappa_judges() -> None:
    target, values = ratings(0)
    run = ordered("quadratic_kappa")
    tables = {name: rated(run, target, made) for name, made in values.items()}
    for given in (tables, {"model": tables["model"]}):
        found = answer(run, given)
        told = found.as_json()
        assert list(told["cutoffs"]) == list("2345")
        assert chosen_of({"answer": told}).decision == found.chosen.decision
        rank, named, made = run.task.to_arrays(found.out_of_fold)
        median = (made[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] > 0.5).sum(axis=1)
        metric = run.task.metrics()[0]
        gain = evaluate(metric, rank, named, made) - evaluate(metric, rank, median, made)
        assert gain > 0.02
        assert told["cutoffs_add"] == pytest.approx(gain)
        assert named.std() == pytest.approx(rank.std(), rel=0.05)
        assert named.mean() == pytest.approx(rank.mean(), abs=0.1)
    by_distance = ordered("mae")
    tables = {name: rated(by_distance, target, made) for name, made in values.items()}
    assert answer(by_distance, tables).chosen.decision.cutoffs == ()


def test_a_rows_cutoffs_hang_on_no_target_of_its_own_fold() -> None:
    target, values = ratings(0)
    other = np.where(np.arange(N) % 3 == 0, 0, target)
    run = ordered("quadratic_kappa")
    first, second = (
        answer(run, {name: rated(run, shown, made) for name, made in values.items()})
        for shown in (target, other)
    )
    assert first.of_folds[1].decision == second.of_folds[1].decision
    assert first.of_folds[2].decision != second.of_folds[2].decision


def test_new_rows_are_named_by_cutoffs_on_the_mean_of_folds() -> None:
    run = prepared("quadratic_kappa", task="ordinal", decided=True)
    decision = Decision(cutoffs=(0.55, 0.75))
    chosen = Chosen(("model",), np.ones(1), False, {}, decision)
    target = np.zeros(N, dtype=np.int64)
    shown = ([0.5, 0.4, 0.1], [0.5, 0.3, 0.2])
    folds = [{"model": table(run, target, np.tile(p, (N, 1)))} for p in shown]
    # Mean ranks of 0.6 and 0.7; the median of both is the lowest label.
    assert [answered(each, chosen, run.task)["prediction"][0] for each in folds] == ["b", "b"]
    assert mean_answer(folds, chosen, run.task)["prediction"][0] == "b"
    high = Chosen(("model",), np.ones(1), False, {}, Decision(cutoffs=(0.1, 0.65)))
    assert mean_answer(folds, high, run.task)["prediction"][0] == "c"
    wrong = Chosen(("model",), np.ones(1), False, {}, Decision(cutoffs=(0.1, 0.65, 0.7)))
    with pytest.raises(FoldwiseError, match="has 3 cutoffs for 3 labels"):
        answered(folds[0], wrong, run.task)


def rare_labels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sets of three labels, one in twelve each, and probabilities that know them a little."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(-3, 1.3, size=(N, 3))
    values = 1 / (1 + np.exp(-scores))
    return (rng.random((N, 3)) < values).astype(np.int64), values


def test_rare_labels_are_named_from_less_than_a_half_where_f1_judges() -> None:
    target, values = rare_labels(0)
    run = prepared(task="multilabel", decided=True)
    found = answer(run, {"model": table(run, target, values)})
    assert set(found.as_json()["thresholds"]) == set(CLASSES)
    assert max(found.chosen.decision.thresholds) < 0.4
    metric = run.task.metrics()[0]
    arrays = run.task.to_arrays(found.out_of_fold)
    at_half = (values >= 0.5).astype(np.int64)
    gain = evaluate(metric, *arrays) - evaluate(metric, arrays[0], at_half, values)
    assert gain > 0.1
    assert found.as_json()["thresholds_add"] == pytest.approx(gain)
    by_accuracy = prepared("subset_accuracy", task="multilabel", decided=True)
    left = answer(by_accuracy, {"model": table(run, target, values)})
    assert left.chosen.decision.thresholds == ()


def test_a_rows_thresholds_hang_on_no_label_of_its_own_fold() -> None:
    target, values = rare_labels(0)
    other = target.copy()
    of_first = np.arange(N) % 3 == 0
    other[of_first] = 1 - other[of_first]
    run = prepared(task="multilabel", decided=True)
    first, second = (answer(run, {"model": table(run, shown, values)}) for shown in (target, other))
    own = pl.col("fold") == 1
    predictions = [f.out_of_fold.filter(own)["prediction"] for f in (first, second)]
    assert predictions[0].equals(predictions[1])
    assert first.of_folds[2].decision != second.of_folds[2].decision


def test_new_rows_are_named_by_thresholds_on_the_mean_of_tempered_folds() -> None:
    run = prepared(task="multilabel", decided=True)
    decision = Decision(2.0, (0.3, 0.3, 0.3))
    chosen = Chosen(("model",), np.ones(1), False, {}, decision)
    target = np.zeros((N, 3), dtype=np.int64)
    folds = [{"model": table(run, target, np.full((N, 3), p))} for p in (0.05, 0.2)]
    found = mean_answer(folds, chosen, run.task)
    odds = [np.sqrt(p / (1 - p)) for p in (0.05, 0.2)]
    mean = np.mean([odd / (1 + odd) for odd in odds])
    assert found["prob_a"][0] == pytest.approx(mean)
    assert found["prediction"][0] == ("" if mean < 0.3 else "a;b;c")
    sure = Chosen(("model",), np.ones(1), False, {}, Decision(1.0, (0.1, 0.5, 0.12)))
    assert mean_answer(folds, sure, run.task)["prediction"][0] == "a;c"


def test_thresholds_that_arent_one_a_label_are_refused() -> None:
    run = prepared(task="multilabel", decided=True)
    target, values = rare_labels(0)
    chosen = Chosen(("model",), np.ones(1), False, {}, Decision(1.0, (0.3, 0.3)))
    with pytest.raises(FoldwiseError, match="has 2 thresholds for 3 labels"):
        answered({"model": table(run, target, values)}, chosen, run.task)


def test_class_weights_that_arent_one_a_class_are_refused() -> None:
    run = prepared(decided=True)
    target = rare_class(6)
    chosen = Chosen(("model",), np.ones(1), False, {}, Decision(class_weights=(1.0, 2.0)))
    with pytest.raises(FoldwiseError, match="has 2 class weights for 3 labels"):
        answered({"model": table(run, target, unsure(target)["model"])}, chosen, run.task)
