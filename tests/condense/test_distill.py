"""One model that is taught the run's answer: by what, on which rows."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from foldwise.condense import distill as module
from foldwise.condense import one as making
from foldwise.condense.distill import distill
from foldwise.condense.one import open_finished
from foldwise.config.members import MODEL
from foldwise.decisions.asked import Asked
from foldwise.errors import FoldwiseError
from foldwise.predictor import Predictor
from foldwise.run.folder import STARTS, RunFolder
from foldwise.run.readers import read_json
from foldwise.table.written import NewTable


def weights(run: RunFolder, name: str) -> dict[str, np.ndarray]:
    (path,) = run.one(name).path.glob("checkpoints/*/model.safetensors")
    found: dict[str, np.ndarray] = load_file(path)
    return found


def test_a_row_is_taught_by_its_out_of_fold_answer_and_its_label(plain: RunFolder) -> None:
    prepared = open_finished(plain.path, trust_code=False, online=False).prepared
    taught = module._taught(prepared, 0.3)
    answers = pl.read_parquet(plain.out_of_fold)
    assert answers["row"].to_list() == prepared.frame["row"].to_list()
    own = np.eye(3)[[prepared.task.classes.index(label) for label in answers["target"]]]
    expected = 0.3 * own + 0.7 * answers.select("^prob_.*$").to_numpy()
    np.testing.assert_allclose(taught, expected, atol=1e-12)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of the time."""
    monkeypatch.setattr(making, "measure", lambda *_: None)


@pytest.mark.usefixtures("unmeasured")
def test_taught_its_labels_alone_it_is_the_model_of_a_refit(
    run: RunFolder, copy: RunFolder
) -> None:
    distill(copy.path, label_share=1.0)
    one, other = weights(copy, "distilled"), weights(run, "refit")
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-5, err_msg=name)


def test_taught_the_answer_it_says_what_the_answer_says(run: RunFolder) -> None:
    refitted = weights(run, "refit")
    assert any(not np.allclose(w, refitted[name]) for name, w in weights(run, "distilled").items())
    predictor = Predictor(run.path, model="distilled")
    assert list(predictor.chosen.voting) == [MODEL]
    assert predictor.folds == []
    # The loss that taught it has weighed classes.
    assert Predictor(run.path).chosen.decision.class_weights
    assert predictor.chosen.decision.class_weights == ()


@pytest.mark.usefixtures("unmeasured")
def test_rows_without_labels_are_taught_the_answer(copy: RunFolder, plain: RunFolder) -> None:
    more = str(plain.path.parents[1] / "more.csv")
    distill(copy.path, NewTable(more))
    rows = pl.read_parquet(copy.folds).filter(pl.col("role") == "cv").height
    events = copy.one("distilled").events()
    assert [e["rows"] for e in events if e["event"] == STARTS] == [rows + 12]
    assert read_json(copy.one("distilled").asked)["unlabelled"].startswith("12 rows, ")
    told = r"distilled: was made with unlabelled '12 rows, \d+', not None; remove it"
    with pytest.raises(FoldwiseError, match=told):
        distill(copy.path)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(plain: RunFolder, share: float) -> None:
    with pytest.raises(FoldwiseError, match="must be a number from 0 to 1"):
        distill(plain.path, label_share=share)


def test_only_the_models_own_member_labels(run: RunFolder) -> None:
    with pytest.raises(FoldwiseError, match=re.escape("has no member 'lookup'; it has: model")):
        Predictor(run.path, model="distilled", member="lookup")


def test_a_task_of_ones_own_is_refused(plain: RunFolder) -> None:
    prepared = open_finished(plain.path, trust_code=False, online=False).prepared
    config = prepared.config.model_copy(update={"task": "my_parts.MyTask"})
    with pytest.raises(FoldwiseError, match=r"task my_parts\.MyTask is of your own"):
        module._check_teachable(replace(prepared, config=config))


def test_sets_follow_from_its_own_answers_to_the_holdout(run: RunFolder) -> None:
    predictor = Predictor(run.path, model="distilled")
    found = predictor.decide(Asked(abstain=0.34, sets=0.8))
    held = pl.read_parquet(run.one("distilled").holdout)
    own = held.select(f"prob_{name}" for name in predictor.task.classes).to_numpy()
    assert found.known is not None
    assert found.known.values.tolist() == own.tolist()
    sure = held.filter(own.max(axis=1) >= 0.34)
    right = (sure["prediction"] == sure["target"]).mean()
    assert found.kept == (sure.height / held.height, right)
    (line, _) = found.told(12, 0)
    assert f"; on the holdout {sure.height / held.height:.1%} have" in line
    assert predictor.predict([{"text": "card", "kind": "c0"}])[0]["set_size"] >= 0


def test_without_a_holdout_it_decides_nothing(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "distilled" / "holdout.parquet").unlink()
    with pytest.raises(FoldwiseError, match="the run has no holdout; leave out --model distilled"):
        Predictor(tmp_path / "run", model="distilled").decide(Asked(sets=0.8))
