"""One model for all folds: what it trains on, what it leaves alone, and what it comes to."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from foldwise.commands.validate import validate as validate_command
from foldwise.condense.distill import distill
from foldwise.condense.refit import refit
from foldwise.config.load import dump_config, load_config
from foldwise.decisions.temperature import temper
from foldwise.ensemble.blend import blend
from foldwise.errors import FoldwiseError
from foldwise.evaluation.answer import chosen_of
from foldwise.members.fold import Members
from foldwise.metrics.metric import builtin_metric, evaluate
from foldwise.predictor import Predictor
from foldwise.report.one_model import lines, measured, section, stale, verdict
from foldwise.report.upkeep_terminal import in_a_line
from foldwise.run.audit import findings, seal_anew
from foldwise.run.files import to_json
from foldwise.run.folder import FITTED, ONES, STARTS, RunFolder
from foldwise.run.readers import read_json
from foldwise.run.seal import replace
from foldwise.training.update import Update
from foldwise.upkeep.standing import standing_of
from foldwise.upkeep.waste import waste_of
from foldwise.workflow import validate


def digests(run: RunFolder) -> dict[str, str]:
    """Every file of the run itself, by what it holds."""
    return {
        str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.path.rglob("*")
        if path.is_file() and path.relative_to(run.path).parts[0] not in ONES
        if path.name != ".lock"
    }


def probabilities(table: pl.DataFrame) -> np.ndarray:
    return table.select("^prob_.*$").to_numpy()


def test_it_trains_on_every_row_of_the_folds_and_on_none_of_the_holdout(run: RunFolder) -> None:
    roles = pl.read_parquet(run.folds)["role"].value_counts()
    counts = dict(zip(roles["role"], roles["count"], strict=True))
    events = run.one("refit").events()
    assert [e["rows"] for e in events if e["event"] == STARTS] == [counts["cv"]]
    assert pl.read_parquet(run.one("refit").holdout).height == counts["holdout"]


def test_it_trains_as_long_as_the_folds_found_best(run: RunFolder) -> None:
    bests = []
    for number in (1, 2):
        step = read_json(run.fold(number).trained)["best_step"]
        lines_of = map(json.loads, run.fold(number).history.read_text().splitlines())
        bests.append(next(e["epoch"] for e in lines_of if e["step"] == step and "best" in e))
    expected = int(sum(bests) / 2 + 0.5)
    history = map(json.loads, run.one("refit").history.read_text().splitlines())
    assert max(line["epoch"] for line in history) == expected
    assert read_json(run.one("refit").asked)["epochs"] == expected


def test_the_run_itself_is_left_as_it_was(plain: RunFolder, run: RunFolder) -> None:
    assert digests(run) == digests(plain)
    assert findings(run, []) == []


def test_it_is_no_work_where_it_is_done(run: RunFolder) -> None:
    files = {p: p.stat().st_mtime_ns for p in run.one("refit").path.rglob("*") if p.is_file()}
    refit(run.path)
    left = {p: p.stat().st_mtime_ns for p in run.one("refit").path.rglob("*") if p.is_file()}
    assert left == files


def test_killed_it_goes_on_and_ends_with_the_same_bytes(
    run: RunFolder, copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Update.step

    def killed(self: Update, number: int) -> None:
        if number == 7:
            raise KeyboardInterrupt
        step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Update, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            refit(copy.path)
    standing = standing_of(copy)
    assert (standing.state, standing.ones["refit"].state) == ("done", "stopped")
    assert standing.ones["refit"].saved_step == 6
    assert in_a_line(standing).endswith(
        f": done, refit: stopped, {standing.ones['refit'].share:.0%}"
    )
    with pytest.raises(FoldwiseError, match="has no model 'refit'; make it by: foldwise refit"):
        Predictor(copy.path, model="refit")
    refit(copy.path)
    assert standing_of(copy).ones["refit"].state == "done"
    events = copy.one("refit").events()
    assert [e["event"] for e in events] == [STARTS, STARTS, "training ended", FITTED]
    for name in ("holdout.parquet", "encoders.json", "members/lookup/state.json"):
        one, other = (each.one("refit").path / name for each in (run, copy))
        assert one.read_bytes() == other.read_bytes(), name
    weights = [sorted(r.one("refit").path.glob("checkpoints/*/*.safetensors")) for r in (run, copy)]
    assert [path.name for path in weights[1]] == ["model.safetensors"]
    assert weights[0][0].read_bytes() == weights[1][0].read_bytes()


def test_it_answers_by_the_weights_of_the_runs_answer(run: RunFolder, plain: RunFolder) -> None:
    table = plain.path.parents[1] / "more.csv"
    predictor = Predictor(run.path, model="refit")
    rows = predictor.read(str(table), labelled=False)
    chosen = chosen_of(read_json(run.metrics))
    alone = [Predictor(run.path, model="refit", member=name) for name in chosen.voting]
    parts = [probabilities(each.predict(rows)) for each in alone]
    weights = np.array([w for w in chosen.weights if w > 0])
    expected = blend(weights, parts, "label") if chosen.blended else parts[0]
    expected = temper(expected, chosen.decision.temperature, "class")
    np.testing.assert_allclose(probabilities(predictor.predict(rows)), expected, atol=1e-9)


@pytest.mark.parametrize("name", ONES)
def test_it_is_measured_beside_the_folds_answer_on_the_holdout(run: RunFolder, name: str) -> None:
    found = read_json(run.one(name).measured)
    metric = builtin_metric("f1_macro")
    classes = read_json(run.classes)["classes"]
    scores = {}
    for model, path in (("all", run.holdout), (name, run.one(name).holdout)):
        table = pl.read_parquet(path)
        target, prediction = (
            np.array([classes.index(label) for label in table[column]])
            for column in ("target", "prediction")
        )
        scores[model] = evaluate(metric, target, prediction, probabilities(table))
        assert found["scores"][model]["f1_macro"]["value"] == pytest.approx(scores[model])
        truth = probabilities(table)[np.arange(len(target)), target]
        loss = found["scores"][model]["log_loss"]["value"]
        assert loss == pytest.approx(-np.log(truth).mean())
    ahead = found["difference"]["f1_macro"]
    assert ahead["value"] == pytest.approx(scores[name] - scores["all"])
    assert ahead["low"] <= ahead["value"] <= ahead["high"]
    assert found["rows"] == pl.read_parquet(run.holdout).height
    assert found["ms_a_row"][name] > 0


def test_validated_anew_both_are_measured_again_and_left_as_they_were_trained(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run.path, tmp_path / "runs" / "test")
    copy = RunFolder(tmp_path / "runs" / "test")
    before = {one.path.name: read_json(one.measured) for one in copy.ones()}
    fits = {path: path.stat().st_mtime_ns for path in copy.weights()}
    validate_command(copy.path, trust_code=False, precision="bf16")
    assert "note: refit: was measured beside an earlier answer" in capsys.readouterr().err
    assert measured(copy) == []
    (first, second) = stale(copy)
    assert first == (
        f"refit: was measured beside an earlier answer of the run; foldwise refit {copy.path} "
        "measures it again"
    )
    assert f"foldwise distill {copy.path} measures it again" in second
    drawn = copy.report.read_text(encoding="utf-8")
    assert "refit: was measured beside an earlier answer of the run" in drawn
    refit(copy.path)
    distill(copy.path)
    assert stale(copy) == []
    assert {path: path.stat().st_mtime_ns for path in copy.weights()} == fits
    held = pl.read_parquet(copy.holdout)
    truth = [held[f"prob_{label}"][row] for row, label in enumerate(held["target"])]
    loss = -np.log(truth).mean()
    for result in measured(copy):
        assert result["scores"]["all"]["log_loss"]["value"] == pytest.approx(loss)
        was = before[result["model"]]["scores"]["all"]["log_loss"]["value"]
        assert was != pytest.approx(loss, abs=1e-9)
    assert findings(copy, []) == []


def answered_by(run: RunFolder, weights: dict[str, float]) -> None:
    """Let members answer as a run might have chosen."""
    metrics = read_json(run.metrics)
    metrics["answer"] |= {"weights": weights, "blended": False, "temperature": 1.0}
    replace(run.path, run.metrics, to_json(metrics))


def test_where_the_model_has_no_vote_it_is_not_trained(
    copy: RunFolder, plain: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered_by(copy, {"model": 0.0, "lookup": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(Members, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            refit(copy.path)
    with pytest.raises(FoldwiseError, match="has no model 'refit'; make it by: foldwise refit"):
        Predictor(copy.path, model="refit")
    refit(copy.path)
    one = copy.one("refit")
    assert [event["event"] for event in one.events()] == [FITTED]
    assert read_json(one.asked)["epochs"] == 0
    assert not one.trained.exists()
    assert not one.checkpoints.exists()
    assert findings(copy, []) == []
    assert standing_of(copy).ones["refit"].state == "done"

    table = pl.read_csv(plain.path.parents[1] / "table.csv")
    kept = table[pl.read_parquet(copy.folds).filter(pl.col("role") == "cv")["row"].to_list()]
    predictor = Predictor(copy.path, model="refit")
    (kind,) = kept["kind"].unique().sort().head(1)
    seen = kept.filter(pl.col("kind") == kind)["label"].value_counts()
    (answer,) = predictor.predict([{"text": "anything", "kind": kind}])
    most = seen.sort("count", descending=True)["label"][0]
    assert answer["prediction"] == most
    with pytest.raises(FoldwiseError, match=r"has no member 'model'; it has: lookup"):
        Predictor(copy.path, model="refit", member="model")

    seal_anew(copy, [])
    assert findings(copy, []) == []
    files = {p: p.stat().st_mtime_ns for p in one.path.rglob("*") if p.is_file()}
    refit(copy.path)
    assert {p: p.stat().st_mtime_ns for p in one.path.rglob("*") if p.is_file()} == files
    answered_by(copy, {"model": 1.0, "lookup": 0.0})
    told = (
        r"refit: was made with answer \['lookup'\], not \['model'\]; remove it to have it made anew"
    )
    with pytest.raises(FoldwiseError, match=told):
        refit(copy.path)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_table_that_has_changed_is_refused_with_what_can_be_done(
    copy: RunFolder, plain: RunFolder, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text((plain.path.parents[1] / "table.csv").read_text() + "new,c0,1.0,card\n")
    config = load_config(copy.config)
    placed = config.data.model_copy(update={"path": str(table)})
    replace(copy.path, copy.config, dump_config(config.model_copy(update={"data": placed})))
    told = (
        r"the table's bytes have changed \(\w+ then, \w+ now\); put them back, or train a new run "
        "on what is there now$"
    )
    with pytest.raises(FoldwiseError, match=told):
        refit(copy.path)
    with pytest.raises(FoldwiseError, match=r"now\); put them back$"):
        validate(copy.path)
    assert not copy.one("refit").path.exists()


def test_the_report_shows_both_beside_the_folds(run: RunFolder, plain: RunFolder) -> None:
    results = measured(run)
    headings, rows = lines(results, "f1_macro")
    assert headings == ["", "score", "difference", "log loss", "ECE", "ms/row"]
    assert [row[0] for row in rows] == ["all 2 folds", "refit", "distilled"]
    assert rows[0][2] == ""

    (shown,) = section(run)
    assert shown.title == "One model for all folds"
    assert "distilled" in shown.body
    assert section(plain) == []


@pytest.mark.parametrize(
    ("low", "high", "smaller", "told"),
    [
        (-0.3, -0.1, [], "f1_macro -0.200 [-0.300, -0.100]: clearly worse than the folds' answer"),
        (0.1, 0.3, [], "f1_macro +0.200 [+0.100, +0.300]: clearly better than the folds' answer"),
        (0.1, 0.3, ["f1_macro"], "f1_macro +0.200 [+0.100, +0.300]: clearly worse than"),
        (-0.1, 0.1, [], "f1_macro +0.000 [-0.100, +0.100]: no clear difference from"),
        (None, None, [], "no clear difference from the folds' answer"),
    ],
)
def test_it_is_said_whether_it_is_clearly_worse(
    low: float | None, high: float | None, smaller: list[str], told: str
) -> None:
    value = 0.0 if low is None or high is None else (low + high) / 2
    interval = {"value": value, "low": low, "high": high}
    result = {"difference": {"f1_macro": interval}, "smaller_is_better": smaller}
    assert told in verdict(result, "f1_macro")


def test_with_all_rows_it_trains_on_the_holdout_and_measures_nothing(copy: RunFolder) -> None:
    kept = pl.read_parquet(copy.folds).filter(pl.col("role") != "dropped").height
    refit(copy.path, every=True)
    one = copy.one("refit")
    events = one.events()
    assert [e["rows"] for e in events if e["event"] == STARTS] == [kept]
    assert not one.measured.exists()
    assert not one.holdout.exists()
    assert findings(copy, []) == []
    with pytest.raises(FoldwiseError, match=r"refit: was made with all True, not False; remove it"):
        refit(copy.path)


def test_a_changed_file_of_it_is_named_until_it_is_sealed_anew(
    run: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(run.path, tmp_path / "runs" / "test")
    copy = RunFolder(tmp_path / "runs" / "test")
    one = copy.one("refit")
    one.asked.write_text(one.asked.read_text().replace('"epochs": ', '"epochs": 1'))
    (line,) = findings(copy, [])
    assert line.startswith(f"{one.asked}: has changed since it was sealed (it says what the model")
    assert f"or remove {one.path} and make it anew" in line
    with pytest.raises(FoldwiseError, match="has changed since it was sealed"):
        Predictor(copy.path, model="refit")
    Predictor(copy.path)  # the folds are as they were
    seal_anew(copy, [])
    assert findings(copy, []) == []
    Predictor(copy.path, model="refit")
    copy.metrics.unlink()
    with pytest.raises(FoldwiseError, match="isn't finished any more, so the weights"):
        Predictor(copy.path, model="refit")


def test_what_a_kill_has_left_in_it_can_be_cleaned(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "runs" / "test")
    copy = RunFolder(tmp_path / "runs" / "test")
    half = copy.one("distilled").path / ".measured.json.999999.tmp"
    half.write_text("{")
    assert [item.path for item in waste_of(copy)] == [half]


def test_one_fold_by_name_is_that_fold(run: RunFolder, plain: RunFolder) -> None:
    table = str(plain.path.parents[1] / "more.csv")
    made = []
    for predictor in (Predictor(run.path, model="fold-2"), Predictor(run.path, [2])):
        assert predictor.folds == [2]
        made.append(predictor.predict(predictor.read(table, labelled=False)))
    assert made[0].equals(made[1])


@pytest.mark.parametrize(
    ("model", "folds", "told"),
    [
        ("fold-7", None, "fold 7 isn't trained; trained are: [1, 2]"),
        ("best", None, "--model best: choose all, fold-1 (or another fold), refit or distilled"),
        ("refit", [1], "--model refit: is one model; --folds chooses among all of them"),
        ("fold-1", [2], "--model fold-1: is one model; --folds chooses among all of them"),
        ("distilled", None, "has no model 'distilled'; make it by: foldwise distill"),
    ],
)
def test_a_model_that_isnt_there_is_said(
    plain: RunFolder, model: str, folds: list[int] | None, told: str
) -> None:
    with pytest.raises(FoldwiseError) as error:
        Predictor(plain.path, folds, model=model)
    assert told in str(error.value)


def test_a_run_that_isnt_finished_is_refused(copy: RunFolder) -> None:
    copy.metrics.unlink()
    with pytest.raises(FoldwiseError, match="isn't finished; go on with it first"):
        refit(copy.path)
    assert not copy.one("refit").path.exists()
