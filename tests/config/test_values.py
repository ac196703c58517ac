"""Configs and overrides as Python values: the same rules as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError

VALUES: dict[str, Any] = {
    "run": {"name": "test"},
    "data": {"path": "table.csv", "target": "label", "text": ["text"]},
    "training": {"epochs": 2, "batch_size": 8},
}
YAML = """
run: {name: test}
data: {path: table.csv, target: label, text: [text]}
training: {epochs: 2, batch_size: 8}
"""


def messages(config: Any, overrides: Any = ()) -> list[str]:
    with pytest.raises(FoldwiseError) as caught:
        load_config(config, overrides)
    return str(caught.value).splitlines()


def test_a_dict_is_the_config_that_its_yaml_is(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(YAML)
    assert load_config(VALUES) == load_config(tmp_path / "config.yaml")
    assert load_config(str(tmp_path / "config.yaml")) == load_config(VALUES)


def test_a_config_is_itself() -> None:
    config = load_config(VALUES)
    assert load_config(config) is config
    assert load_config(config, {"training.epochs": 2}) == config


@pytest.mark.parametrize(
    "overrides",
    [
        {"training.epochs": 3, "optimizer.lr": 1e-5},
        {"training": {"epochs": 3}, "optimizer": {"lr": np.float64(1e-5)}},
        ["training.epochs=3", "optimizer.lr=1e-5"],
        {"training": {"epochs": np.int64(3)}, "optimizer.lr": 1e-5},
    ],
)
@pytest.mark.parametrize("config", [VALUES, Config.model_validate(VALUES)], ids=["dict", "Config"])
def test_overrides_are_dotted_or_nested_or_texts(config: Any, overrides: Any) -> None:
    found = load_config(config, overrides)
    assert (found.training.epochs, found.training.batch_size) == (3, 8)
    assert found.optimizer.lr == 1e-5
    assert found.data.text == ["text"]


def test_values_are_taken_as_they_are_not_as_yaml() -> None:
    values = VALUES | {"data": {"path": Path("a b.csv"), "target": "no", "text": ("1e5", "x: y")}}
    found = load_config(values, {"loss": {"class_weights": {"true": 2.0, "1": 1, "a.b": 3}}})
    assert found.data.path == "a b.csv"
    assert (found.data.target, found.data.text) == ("no", ["1e5", "x: y"])
    assert found.loss.class_weights == {"true": 2.0, "1": 1, "a.b": 3}


def test_null_overrides_a_section() -> None:
    config = load_config(VALUES, {"holdout": {"fraction": 0.1}})
    assert config.holdout is not None
    assert load_config(config, {"holdout": None}).holdout is None


def test_every_problem_names_where_it_was_given() -> None:
    assert messages(VALUES | {"trainig": {}}, {"training.epochs": "3", "data.txt": 1}) == [
        "config: trainig: unknown key; did you mean 'training'? (valid: "
        + ", ".join(["extends", *Config.model_fields])
        + ")",
        "overrides: data.txt: unknown key; did you mean 'text'? (valid: "
        + ", ".join(type(Config.model_validate(VALUES).data).model_fields)
        + ")",
        "overrides: training.epochs: must be a whole number of 1 or more, or auto, got '3'; "
        "write a plain "
        "number, without quotes",
    ]


def test_what_no_config_can_hold_is_told() -> None:
    assert messages({"run": {"name": object}})[0].startswith("config: can't hold ")
    assert messages(3) == ["config: must be a path, a dict or a Config, not int"]
    assert messages(VALUES, {"extends": "a.yaml"}) == [
        "overrides: extends can only be written in the config file"
    ]


def test_a_dict_extends_a_file_and_names_code(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(YAML)
    (tmp_path / "my_parts.py").write_text("")
    found = load_config(
        {"extends": "base.yaml", "training": {"epochs": 5}, "code": ["my_parts.py"]}
    )
    assert (found.training.epochs, found.training.batch_size) == (5, 8)
    assert found.code == [str(tmp_path / "my_parts.py")]
