"""Members in a whole run: what lies on the disk, who answers, what a kill or damage leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import make_table, save_backbone
from foldwise.config.load import load_config, load_stored
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode
from foldwise.predictor import Predictor
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import prepare
from foldwise.preparation.resolve import resolve
from foldwise.run.audit import findings, seal_anew
from foldwise.run.files import write_json
from foldwise.run.folder import FITTED, RunFolder
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate, validate

NAMES = ["model", "majority", "lookup", "linear", "embedding", "network", "boosting"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Texts, a category and a number; a model that learns too little to answer alone."""
    folder = tmp_path_factory.mktemp("members")
    backbone = save_backbone(folder / "backbone")
    make_table(120).write_csv(folder / "table.csv")
    make_table(30, seed=1).write_csv(folder / "new.csv")
    return Config.model_validate(
        {
            "run": {"name": "test", "dir": str(folder / "runs"), "seed": 7},
            "data": {
                "path": str(folder / "table.csv"),
                "target": "label",
                "text": ["text"],
                "categorical": ["kind"],
                "numeric": ["amount"],
            },
            "holdout": {"path": str(folder / "new.csv")},
            "folds": {"n": 2, "duplicates": "ignore"},
            "selection": {"rows": "last"},
            "text": {"max_length": 24},
            "model": {"backbone": str(backbone), "fusion": "concat"},
            "optimizer": {"lr": 1e-3, "head_lr": 1e-3},
            "training": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32"},
            "trackers": [],
        }
    )


@pytest.fixture(scope="module")
def run(config: Config) -> RunFolder:
    """The finished run, which no test changes."""
    return cross_validate(config)


@pytest.fixture
def copy(run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy that a test may change, with the caches beside it."""
    shutil.copytree(run.path.parent, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "test")


def probabilities(table: pl.DataFrame) -> np.ndarray:
    return table.select("^prob_.*$").to_numpy()


def test_every_member_has_its_scores_and_its_tables(run: RunFolder) -> None:
    metrics = read_json(run.metrics)
    assert sorted(metrics["members"]) == sorted(NAMES)
    assert list(metrics["baselines"]) == ["majority", "lookup", "linear"]
    oof = pl.read_parquet(run.out_of_fold)
    for name, entry in metrics["members"].items():
        own = pl.read_parquet(run.member(name).out_of_fold)
        assert own.columns == oof.columns
        assert own["row"].to_list() == oof["row"].to_list()
        right = (own["target"] == own["prediction"]).mean()
        assert entry["oof"]["accuracy"]["value"] == pytest.approx(right, abs=1e-9)
        assert entry["bytes"] > 0
    assert set(metrics["answer"]["weights"]) == set(NAMES) - {"majority"}
    assert metrics["members"]["lookup"]["columns"] == ["kind"]


def test_a_run_keeps_the_states_of_tokens_beside_its_vectors(run: RunFolder) -> None:
    assert load_config(run.config).model.embedding == "tokens"
    vectors = {path.stem for path in run.embeddings.glob("*.safetensors")}
    assert len(vectors) == 2  # of the table, and of the holdout
    assert {path.stem for path in run.embeddings.glob("*.states")} == vectors
    assert read_json(run.fold(1).member("network").state)["attention"]


def test_the_top_of_the_scores_is_the_answers(run: RunFolder) -> None:
    metrics = read_json(run.metrics)
    oof = pl.read_parquet(run.out_of_fold)
    right = (oof["target"] == oof["prediction"]).mean()
    assert metrics["oof"]["accuracy"]["value"] == pytest.approx(right, abs=1e-9)
    best = max(entry["oof"]["f1_macro"]["value"] for entry in metrics["members"].values())
    assert metrics["oof"]["f1_macro"]["value"] > best - 0.05
    assert metrics["members"]["model"]["oof"]["f1_macro"]["value"] < best - 0.1


@pytest.mark.parametrize("name", [None, *NAMES])
def test_a_run_folder_alone_predicts_as_it_was_scored(
    name: str | None, run: RunFolder, config: Config, tmp_path: Path
) -> None:
    moved = RunFolder(tmp_path / "elsewhere")
    shutil.copytree(run.path, moved.path)
    text = moved.config.read_text()
    assert str(config.model.backbone) in text
    predictor = Predictor(moved.path, member=name)
    frame = predictor.read(str(config.holdout and config.holdout.path), labelled=False)
    expected = pl.read_parquet(run.holdout if name is None else run.member(name).holdout)
    found = predictor.predict(frame)
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-6)


def test_rows_that_are_read_some_at_a_time_are_predicted_as_all_at_once(
    run: RunFolder, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(run.path)
    frame = predictor.read(str(config.holdout and config.holdout.path), labelled=False)
    monkeypatch.setattr("foldwise.prediction.fitted._READ", 7)
    found = predictor.predict(frame)
    assert found["row"].to_list() == frame["row"].to_list()
    expected = pl.read_parquet(run.holdout)
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-6)


def test_a_run_from_before_there_was_a_choice_of_vectors_goes_on_without(run: RunFolder) -> None:
    stored = load_stored(run.config)
    before = stored.model_copy(
        update={"model": stored.model.model_copy(update={"embedding": "auto"})}
    )
    before, code = resolve(before, like=before), UserCode(before.code)
    task = build_task(before, code, stores=run.token_stores)
    assert prepare(before, code, run, task).config.model.embedding == "auto"


def test_a_member_that_the_run_has_not_is_named(run: RunFolder) -> None:
    with pytest.raises(FoldwiseError, match="has no member 'liner'; it has: model, boosting, emb"):
        Predictor(run.path, member="liner")


def test_what_a_kill_left_undone_is_done_again_to_the_same_bytes(copy: RunFolder) -> None:
    folder = copy.fold(2).member("boosting")
    kept = copy.fold(2).member("linear")
    before = {p: p.read_bytes() for p in (copy.out_of_fold, copy.metrics, folder.arrays)}
    stamp = kept.arrays.stat().st_mtime_ns
    folder.state.unlink()
    folder.predictions.write_bytes(b"half")
    copy.metrics.unlink()
    validate(copy.path)
    assert {path: path.read_bytes() for path in before} == before
    assert kept.arrays.stat().st_mtime_ns == stamp  # sound, so not fitted again
    fitted = [event for event in copy.events() if event["event"] == FITTED]
    assert [(e["member"], e["fold"]) for e in fitted[12:]] == [("boosting", 2)]
    assert findings(copy, []) == []


def test_a_damaged_member_is_named_before_it_predicts(copy: RunFolder) -> None:
    path = copy.fold(1).member("linear").arrays
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(FoldwiseError, match=r"members/linear/arrays\.safetensors: has changed"):
        Predictor(copy.path, member="linear")


def answering(weights: Any, blended: bool = True) -> Callable[[RunFolder], Path]:
    """Let metrics.json say that these members answer."""

    def spoil(run: RunFolder) -> Path:
        metrics = read_json(run.metrics)
        metrics["answer"] |= {"weights": weights, "blended": blended}
        write_json(run.metrics, metrics)
        return run.metrics

    return spoil


def state_of(name: str, **changed: Any) -> Callable[[RunFolder], Path]:
    """Let a member answer alone whose state.json says something else."""

    def spoil(run: RunFolder) -> Path:
        answering({name: 1.0}, blended=False)(run)
        path = run.fold(2).member(name).state
        write_json(path, {**read_json(path), **changed})
        return path

    return spoil


def arrays_of(name: str, other: str) -> Callable[[RunFolder], Path]:
    """Let a member answer alone that has the arrays of another one."""

    def spoil(run: RunFolder) -> Path:
        answering({name: 1.0}, blended=False)(run)
        shutil.copyfile(run.fold(1).member(other).arrays, run.fold(1).member(name).arrays)
        return run.fold(1).member(name).path

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        answering({}),
        answering({"model": 0.0, "linear": 0.0}),
        answering({"linear": -1.0}),
        answering({"nobody": 1.0}),
        answering({"../linear": 1.0}),
        answering(["model"]),
        answering({"model": "much"}),
        state_of("linear", model=5),
        state_of("lookup", column="amount"),
        state_of("lookup", values=["c0", "c0"]),
        state_of("embedding", features=[]),
        state_of("boosting", categories=7),
        arrays_of("linear", "lookup"),
        arrays_of("boosting", "linear"),
        arrays_of("embedding", "linear"),
        state_of("network", features=[]),
        arrays_of("network", "linear"),
    ],
)
def test_a_run_whose_sender_made_up_members_is_refused_by_name(
    spoil: Callable[[RunFolder], Path], copy: RunFolder
) -> None:
    path = spoil(copy)
    seal_anew(copy, [])
    with pytest.raises(FoldwiseError) as refused:
        Predictor(copy.path)
    assert str(path) in str(refused.value)


def test_vectors_are_computed_once_and_anew_where_they_are_damaged(
    copy: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from foldwise.members import frozen

    passes: list[int] = []
    infer = frozen.infer

    def counted(*arguments: Any, **named: Any) -> Any:
        passes.append(1)
        return infer(*arguments, **named)

    monkeypatch.setattr(frozen, "infer", counted)
    before = copy.metrics.read_bytes()
    for number in (1, 2):
        copy.fold(number).member("embedding").state.unlink()
    validate(copy.path)
    assert passes == []
    for path in copy.embeddings.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    copy.fold(1).member("embedding").state.unlink()
    validate(copy.path)
    assert len(passes) == 2  # of the table, and of the holdout
    assert "not as it was written; made anew" in capsys.readouterr().err
    assert copy.metrics.read_bytes() == before


def test_a_run_of_the_model_alone_fits_and_keeps_nothing_else(
    make_config: Callable[..., Config],
) -> None:
    run = cross_validate(make_config(folds={"n": 2}, trackers=[]))
    assert not (run.fold(1).path / "members").exists()
    assert not run.embeddings.exists()
    metrics = read_json(run.metrics)
    alone = {"weights": {"model": 1.0}, "blended": False, "temperature": 1.0}
    assert metrics["answer"] == {
        **alone,
        "adds": {},
        "folds": {"1": alone, "2": alone},
        "calibration": None,
        "thresholds_add": None,
        "class_weights_add": None,
        "cutoffs_add": None,
        "sets": metrics["answer"]["sets"],
    }
    assert pl.read_parquet(run.out_of_fold).equals(pl.read_parquet(run.member("model").out_of_fold))


OWN = """
import numpy as np

class Flat:
    def __init__(self, n_outputs, value={value}):
        self.n_outputs, self.value = n_outputs, value
    def fit(self, rows, target, inner):
        pass
    def predict(self, rows):
        return np.full((rows.height, self.n_outputs), self.value)
    def state(self):
        return {{}}
    def load_state(self, state):
        pass
"""


@pytest.mark.parametrize(
    ("code", "line", "told"),
    [
        (OWN.format(value=0.5), "my_parts.Flat", "predicts probabilities that don't sum to 1"),
        (OWN.format(value="float('nan')"), "my_parts.Flat", "predicts values that aren't finite"),
        (OWN.format(value=2.0), "my_parts.Flat", "which are no probabilities"),
        ("class Flat:\n    pass\n", "my_parts.Flat", "has no fit, predict, state, load_state"),
        (OWN.format(value=0.5), "{name: my_parts.Flat, width: 3}", "takes no 'width'"),
    ],
)
def test_a_member_of_ones_own_that_is_none_is_told_what_it_lacks(
    code: str, line: str, told: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    (tmp_path / "my_parts.py").write_text(code, "utf-8")
    base = make_config(folds={"n": 2, "run": [1]}, training={"epochs": 1}, trackers=[])
    text = base.model_copy(update={"code": ["my_parts.py"]}).model_dump_json()
    (tmp_path / "base.yaml").write_text(text, "utf-8")
    (tmp_path / "config.yaml").write_text(f"extends: base.yaml\nensemble: [model, {line}]\n")
    with pytest.raises(FoldwiseError, match="ensemble") as refused:
        cross_validate(load_config(tmp_path / "config.yaml"))
    assert told in str(refused.value)


BY_LENGTH = """
import numpy as np

class ByLength:
    reads_embedding = reads_tokens = True
    def fit(self, rows, target, inner, tokens):
        assert len(tokens) == rows.height == len(target)
        self.most = int(tokens.lengths.max())
    def predict(self, rows, tokens):
        share = np.minimum(tokens.lengths / self.most, 1)
        return np.stack([share, 1 - share, 0 * share], axis=1)
    def state(self):
        return {"most": self.most}
    def load_state(self, state):
        self.most = state["most"]
"""


def test_a_member_of_ones_own_is_given_the_states_of_tokens_of_each_row(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    (tmp_path / "my_parts.py").write_text(BY_LENGTH, "utf-8")
    base = make_config(folds={"n": 2}, training={"epochs": 1}, trackers=[])
    text = base.model_copy(update={"code": ["my_parts.py"]}).model_dump_json()
    (tmp_path / "base.yaml").write_text(text, "utf-8")
    line = "ensemble: [model, my_parts.ByLength]"
    (tmp_path / "config.yaml").write_text(f"extends: base.yaml\n{line}\n")
    run = cross_validate(load_config(tmp_path / "config.yaml"))
    assert load_config(run.config).model.embedding == "tokens"
    most = read_json(run.fold(1).member("my_parts.ByLength").state)["most"]
    assert most == base.text.max_length
    table = pl.read_csv(str(base.data.path))
    tokens = np.minimum(table["text"].str.split(" ").list.len().to_numpy() + 2, most)
    oof = pl.read_parquet(run.member("my_parts.ByLength").out_of_fold)
    found = probabilities(oof).max(axis=1)
    share = tokens[oof["row"].to_numpy()] / most
    np.testing.assert_allclose(found, np.maximum(share, 1 - share), atol=1e-6)
    predictor = Predictor(run.path, member="my_parts.ByLength", trust_code=True)
    new = predictor.predict(table.select("text").head(9))
    share = tokens[:9] / most
    np.testing.assert_allclose(
        probabilities(new).max(axis=1), np.maximum(share, 1 - share), atol=1e-6
    )


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (["model", "linear", "linear"], "linear is listed twice"),
        (["model", "lookup"], "lookup needs a category"),
    ],
)
def test_a_list_that_fits_no_table_is_refused(
    value: list[str], told: str, make_config: Callable[..., Config]
) -> None:
    with pytest.raises(ValueError, match=told):
        make_config(ensemble=value)
