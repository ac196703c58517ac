"""Trees of our own walk as LightGBM's do, and damaged ones are refused before they are walked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy.special import expit, softmax

from foldwise.errors import FoldwiseError
from foldwise.members.boosting import Boosting
from foldwise.members.store import ARRAYS, STATE, restore, save_state
from foldwise.members.trees import Trees
from members.test_members import COLUMNS, as_kind, fitted, table


def matrix(rows: int, seed: int, *, gaps: bool) -> np.ndarray:
    """Two columns of categories, one with hundreds of them, and four of numbers."""
    random = np.random.default_rng(seed)
    made = random.normal(size=(rows, 6))
    made[:, 0], made[:, 1] = random.integers(0, 5, rows), random.integers(0, 255, rows)
    made[:, 5] = np.round(made[:, 5])  # ties with the thresholds
    if gaps:
        made[random.random(made.shape) < 0.2] = np.nan
    return made


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("objective", ["multiclass", "binary", "regression"])
def test_scores_are_lightgbms(objective: str, gaps: bool) -> None:
    train, new = matrix(2000, 0, gaps=gaps), matrix(500, 1, gaps=True)
    filled = np.nan_to_num(train)
    target = (filled[:, 2] > 0) + (filled[:, 1] % 7 < 3) * (filled[:, 5] > filled[:, 0] - 2)
    target = np.minimum(target, 1) if objective == "binary" else target
    settings = {"objective": objective, "num_leaves": 31, "min_data_in_leaf": 5, "verbosity": -1}
    settings |= {
        "cat_smooth": 1.0,
        "min_data_per_group": 5,
        "num_threads": 1,
        "max_cat_to_onehot": 2,
    }
    if objective == "multiclass":
        settings["num_class"] = 3
    data = lightgbm.Dataset(train, target.astype(float), categorical_feature=[0, 1])
    model = lightgbm.train(settings, data, 40)
    trees = Trees.from_text(model.model_to_string())
    assert trees.count == model.num_trees()
    assert len(trees.arrays["categories"])  # categories were split
    link = {"multiclass": lambda s: softmax(s, axis=1), "binary": expit}.get(objective, np.asarray)
    for rows in (train, new, np.full((3, 6), np.nan), new * 1e300 * [0, 0, 1, 1, 1, 1]):
        expected = np.asarray(model.predict(rows)).reshape(len(rows), -1)
        np.testing.assert_allclose(link(trees.scores(rows)), expected, rtol=1e-9, atol=1e-9)


def test_a_model_without_a_split_is_its_mean() -> None:
    data = lightgbm.Dataset(np.ones((50, 1)), np.arange(50.0))
    model = lightgbm.train({"objective": "regression", "verbosity": -1}, data, 3)
    trees = Trees.from_text(model.model_to_string())
    np.testing.assert_allclose(
        trees.scores(np.zeros((2, 1)))[:, 0], model.predict(np.zeros((2, 1)))
    )


def test_many_rows_are_walked_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    member, train, _ = fitted("boosting", "label")
    whole = member.predict(train)
    monkeypatch.setattr("foldwise.members.trees._CELLS", 1)
    assert member.predict(train).tobytes() == whole.tobytes()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boosting")
    train, target = table(200)
    train = train.with_columns(amount=target.astype(float))
    member = Boosting("label", 3, COLUMNS, seed=0)
    member.fit(train, target, np.arange(200) % 8 == 0)
    save_state(folder, member.state())
    return folder


def restored(folder: Path) -> Boosting:
    member = Boosting("label", 3, COLUMNS, seed=0)
    restore(member, folder)
    return member


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("feature", 0, 10_000),
        ("feature", 0, -1),
        ("left", 0, 0),  # an endless walk
        ("left", 0, 2_000_000_000),
        ("right", 0, -2_000_000_000),
        ("root", 0, 2_000_000_000),
        ("value", 0, np.nan),
        ("threshold", 0, np.inf),
        ("decision", 0, 255),
    ],
)
def test_a_tree_that_leads_out_of_itself_is_refused(
    state: Path, tmp_path: Path, name: str, place: int, value: Any
) -> None:
    arrays = load_file(state / ARRAYS)
    key = f"models/0/{name}"
    arrays[key] = arrays[key].copy()
    arrays[key][place] = value
    save_file(arrays, tmp_path / ARRAYS)
    (tmp_path / STATE).write_bytes((state / STATE).read_bytes())
    with pytest.raises(FoldwiseError, match=r"state\.json: not the state of a Boosting"):
        restored(tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mutated_trees_are_refused_or_walked_to_an_end(state: Path, data: st.DataObject) -> None:
    whole = restored(state).models[0]
    arrays = {name: array.copy() for name, array in whole.arrays.items()}
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from([name for name in arrays if arrays[name].size]))
        if data.draw(st.booleans()):
            arrays[name] = arrays[name][: data.draw(st.integers(0, len(arrays[name])))]
        if arrays[name].size:
            at = data.draw(st.integers(0, arrays[name].size - 1))
            arrays[name].flat[at] = data.draw(st.integers(0, 255))
    try:
        trees = Trees.from_state({"outputs": 3, **arrays}, width=50, outputs=3)
    except ValueError:
        return
    assert np.isfinite(trees.scores(np.random.default_rng(0).normal(size=(20, 50)))).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("file", [ARRAYS, STATE])
def test_a_file_that_was_cut_off_is_named(
    state: Path, tmp_path: Path, file: str, share: float
) -> None:
    for name in (ARRAYS, STATE):
        content = (state / name).read_bytes()
        kept = int(len(content) * share) if name == file else len(content)
        (tmp_path / name).write_bytes(content[:kept])
    with pytest.raises(FoldwiseError, match=file.replace(".", r"\.")):
        restored(tmp_path)


def test_trees_of_more_classes_than_the_run_has_are_refused(tmp_path: Path) -> None:
    member, _, _ = fitted("boosting", "label")
    save_state(tmp_path, member.state())
    with pytest.raises(FoldwiseError, match="not the state of a Boosting"):
        restore(Boosting("label", 2, COLUMNS, seed=0), tmp_path)
    assert as_kind("label", np.arange(3))[1] == 3
