"""The generated reference and JSON Schema say what load_config does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from foldwise.config.grammar import BUILTIN
from foldwise.config.load import load_config
from foldwise.config.reference import config_reference, field_at, json_schema, type_words
from foldwise.config.schema import Config

jsonschema = pytest.importorskip("jsonschema")

RUN = "run: {name: x}\n"
DATA = "data: {path: synthetic, target: t, text: [a]}\n"


def schema_accepts(text: str) -> bool:
    validator: Any = jsonschema.Draft202012Validator(json.loads(json_schema()))
    return bool(validator.is_valid(yaml.safe_load(text)))


def test_docs_config_md_is_what_the_schema_says() -> None:
    written = Path(__file__).parents[2] / "docs" / "config.md"
    assert written.read_text(encoding="utf-8") == config_reference(), (
        "stale: python -m foldwise.config.reference > docs/config.md"
    )


def test_the_module_prints_the_reference() -> None:
    run = [sys.executable, "-W", "error", "-m", "foldwise.config.reference"]
    printed = subprocess.run(run, capture_output=True, check=True).stdout
    assert printed.decode() == config_reference()


def test_the_reference_has_a_row_for_every_key_of_every_section() -> None:
    rows = config_reference()
    for key in ("run", "code", "data", "metrics"):
        assert f"`{key}`" in rows
    for heading in ("## `data`", "### `data.missing`", "### `model.head`", "## `training`"):
        assert f"\n{heading}\n" in rows
    n_keys = sum(line.startswith(("| `", "| [`")) for line in rows.split("\n"))
    nested = json.loads(json_schema())
    # Part and Range are written in words in the tables; `extends` stands in the introduction.
    definitions = [d for name, d in nested["$defs"].items() if name not in ("Part", "Range")]
    assert n_keys == sum(len(d["properties"]) for d in [nested, *definitions]) - 1


def test_a_row_says_type_default_and_description() -> None:
    rows = config_reference().split("\n")
    assert (
        "| `patience` | a whole number of 1 or more, or null | `null` | Evaluations without "
        "improvement before stopping; null: never stop. |"
    ) in rows
    assert (
        "| `pooling` | mean, cls, max, mean_max, attention, queries, last, a dotted name, or a map "
        "of name and arguments | `mean` | mean, cls (first token), max, mean_max (both, twice as "
        "wide), attention (learned weights), queries (the mean, and what a few learned queries "
        "find), last (token; for decoders), or `my_parts.Pooling`. |"
    ) in rows


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("training.epochs", "a whole number of 1 or more, or auto"),
        ("run.seed", "a whole number from 0 to 4294967295"),
        ("training.workers", "a whole number from 0 to 64"),
        ("optimizer.lr", "a number above 0, auto or range_test"),
        ("optimizer.layer_decay", "a number above 0 and at most 1"),
        ("holdout.fraction", "a number above 0 and below 1, or null"),
        ("model.head.dropout", "a number of 0 or more and below 1"),
        ("folds.similarity", "a number from 0.5 to 1"),
        ("training.bucketing", "true or false"),
        ("data.text", "a list of texts"),
        ("data.missing.text", "one of drop, fill"),
        (
            "model.fusion",
            "text, concat, gated, tokens, a dotted name, or a map of name and arguments",
        ),
        ("model.lora", "a map, or null"),
        ("model.lora.targets", "'all-linear', or a list, not empty, of texts"),
        ("data", "a map"),
    ],
)
def test_type_is_worded(key: str, words: str) -> None:
    field = field_at(tuple(key.split(".")))
    assert field is not None
    assert type_words(*field) == words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model: {pooling: mean}\n",
        "model: {pooling: {name: mean}}\n",
        "model: {pooling: my_parts.P, head: my_parts.H}\n",
        "model: {head: {hidden: [3], dropout: 0.5}}\n",
        "model: {head: {name: my_parts.H, x: 1}}\n",
        "loss: {name: my_parts.L, gamma: 2}\noptimizer: torch.optim.SGD\nschedule: linear\n",
        "loss: {class_weights: {A: 1}}\n",
        "metrics: [mcc, {name: my_parts.m, k: 1}, my_parts.n]\n",
        "folds: {strategy: kfold, run: [1]}\nholdout: {fraction: 0.1}\n",
        "code: []\ntask: multiclass\ntrackers: []\n",
    ],
)
def test_json_schema_accepts_what_load_config_accepts(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(RUN + DATA + text)
    assert isinstance(load_config(path), Config)
    assert schema_accepts(RUN + DATA + text)


def test_json_schema_accepts_a_config_that_only_extends() -> None:
    assert schema_accepts("extends: base.yaml\n")
    assert schema_accepts("extends: base.yaml\nrun: {seed: 1}\ncode: [my_parts.py]\n")
    assert not schema_accepts("extends: [base.yaml]\n")
    assert not schema_accepts(DATA)


@pytest.mark.parametrize(
    "text",
    [
        "trainin: {}\n",
        "model: {poolng: mean}\n",
        "model: {pooling: maen}\n",
        "model: {pooling: 3}\n",
        "model: {head: mlp}\n",
        "data: {missing: {txt: drop}}\n",
        "training: {epochs: abc}\n",
        "training: {epochs: true}\n",
        "optimizer: Adam\n",
        "metrics: []\n",
        "task: multiclas\n",
    ],
)
def test_json_schema_refuses(text: str) -> None:
    assert not schema_accepts(RUN + text)


def test_json_schema_offers_the_built_in_names() -> None:
    metrics = json.loads(json_schema())["properties"]["metrics"]
    assert metrics["items"]["anyOf"][0]["anyOf"][0]["enum"] == list(BUILTIN["metric"])


def test_json_schema_has_a_title() -> None:
    assert json.loads(json_schema())["title"] == "Foldwise config"
