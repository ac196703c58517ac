from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from foldwise.config.load import diff_configs, dump_config, load_config
from foldwise.config.schema import Config
from foldwise.config.search import Sweep
from foldwise.errors import FoldwiseError
from foldwise.sweep.variants import draw, expand, find_configs, variant_name


@pytest.fixture
def write(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, sweep: str = "") -> Path:
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        text = dump_config(make_config(run={"name": name})).replace("sweep: null\n", "")
        path.write_text(text + sweep)
        return path

    return make


def test_a_grid_is_every_combination(write: Callable[..., Path]) -> None:
    grid = "{optimizer.lr: [1.0e-4, 3.0e-4], model.pooling: [mean, cls]}"
    path = write("base", f"sweep: {{grid: {grid}}}")
    variants = expand([path])
    assert [variant.name for variant in variants] == [
        "base-lr-0.0001-pooling-mean",
        "base-lr-0.0001-pooling-cls",
        "base-lr-0.0003-pooling-mean",
        "base-lr-0.0003-pooling-cls",
    ]
    assert [v.config.model.pooling.name for v in variants] == ["mean", "cls", "mean", "cls"]
    assert all(v.config.sweep is None for v in variants)
    plain = load_config(path, ["sweep=null"])
    assert diff_configs(plain, variants[0].config, ignore=("run.name",)) == [
        "optimizer.lr: 0.003 -> 0.0001"
    ]


def test_random_draws_follow_the_seed_and_stay_inside() -> None:
    space = {
        "a": {"low": 1e-5, "high": 1e-3, "log": True},
        "b": {"low": 2.0, "high": 5.0, "whole": True},
        "c": ["x", "y"],
    }
    sweep = Sweep.model_validate({"random": space, "trials": 200, "seed": 1})
    drawn = list(draw(sweep))
    assert drawn == list(draw(sweep))
    other = Sweep.model_validate({"random": space, "trials": 200, "seed": 2})
    assert drawn != list(draw(other))
    rates = [values["a"] for values in drawn]
    assert min(rates) >= 1e-5
    assert max(rates) <= 1e-3
    assert 0.35 < sum(rate < 1e-4 for rate in rates) / len(rates) < 0.65  # even in the logarithm
    assert {values["b"] for values in drawn} == {2, 3, 4, 5}
    assert {values["c"] for values in drawn} == {"x", "y"}


def test_equal_draws_are_made_once() -> None:
    sweep = Sweep.model_validate({"random": {"a": [1, 2]}, "trials": 50})
    assert sorted(values["a"] for values in draw(sweep)) == [1, 2]


def test_names_are_legal_and_different_however_long() -> None:
    values = {"data.text": ["a long column", "/and: another"], "model.head": {"hidden": [64] * 40}}
    name = variant_name("base", values)
    other = variant_name("base", {**values, "model.head": {"hidden": [64] * 39 + [65]}})
    assert name != other
    assert max(len(name), len(other)) <= 100
    assert variant_name("b", {"data.text": ["a b", "c/d"]}) == "b-text-a-b-c-d"


def test_every_variant_is_checked_before_any_runs(write: Callable[..., Path]) -> None:
    path = write("base", "sweep: {grid: {optimizer.lr: [0.1, fast]}}")
    with pytest.raises(FoldwiseError, match=r"optimizer.lr: must be a number above 0, auto or"):
        expand([path])
    path = write("other", "sweep: {grid: {optimizer.wieght_decay: [0.1]}}")
    with pytest.raises(FoldwiseError, match=r"unknown key; did you mean 'weight_decay'\?"):
        expand([path])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{}", "give either grid or random"),
        ("{grid: {}}", "names no key"),
        ("{random: {optimizer.lr: {low: 1.0, high: 0.5}}}", "must be below high, 0.5"),
        ("{random: {optimizer.lr: {low: 0.0, high: 0.5, log: true}}}", "must be above 0 where log"),
    ],
)
def test_a_section_that_says_nothing_is_refused(
    write: Callable[..., Path], section: str, message: str
) -> None:
    with pytest.raises(FoldwiseError, match=message):
        expand([write("base", f"sweep: {section}")])


def test_folders_and_files_are_configs(write: Callable[..., Path], tmp_path: Path) -> None:
    a, b = write("a"), write("b")
    assert find_configs([a.parent]) == [a, b]
    assert find_configs([b, a, b]) == [b, a]
    assert [variant.name for variant in expand([a, b])] == ["a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FoldwiseError, match=r"holds no \.yaml file"):
        find_configs([tmp_path / "empty"])
    with pytest.raises(FoldwiseError, match="no such file or folder"):
        find_configs([tmp_path / "no.yaml"])


def test_two_configs_of_one_name_are_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    a = write("a")
    other = tmp_path / "copy.yaml"
    other.write_bytes(a.read_bytes())
    with pytest.raises(FoldwiseError, match="both name the run"):
        expand([a, other])
