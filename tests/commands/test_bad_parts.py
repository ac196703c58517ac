"""A part that isn't there or doesn't fit is refused, whatever its kind, before anything is written.

Kinds and keys are those of docs/customize.md. What else can be wrong with a user's file (it doesn't
parse, it exits, its module is something else) stands in test_bad_input.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.workflow import cross_validate

# Kind -> the config that names the part, and the key that the message must begin with.
KEYS: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "task": (lambda part: {"task": part["name"]}, "task"),
    "pooling": (lambda part: {"model": {"pooling": part}}, "model.pooling"),
    "chunk pooling": (
        lambda part: {"text": {"long": "chunks", "chunk_pooling": part}},
        "text.chunk_pooling",
    ),
    "fusion": (lambda part: {"model": {"fusion": part}}, "model.fusion"),
    "head": (lambda part: {"model": {"head": part}}, "model.head"),
    "activation": (
        lambda part: {"model": {"head": {"hidden": [4], "activation": part}}},
        "model.head.activation",
    ),
    "loss": (lambda part: {"loss": part}, "loss"),
    "optimizer": (lambda part: {"optimizer": {**part, "weight_decay": 0.0}}, "optimizer"),
    "schedule": (lambda part: {"schedule": part}, "schedule"),
    "splitter": (lambda part: {"folds": {"strategy": part}}, "folds.strategy"),
    "metric": (lambda part: {"metrics": [part]}, "metrics[0]"),
    "tracker": (lambda part: {"trackers": [part]}, "trackers[0]"),
}
# A part that its kind's caller can't use, and what the message says besides the key.
MISFITS = {
    "task": ("class Part:\n    def dataset(self, frame): return []\n", "task: parts.Part has no "),
    "pooling": (
        "class Part(nn.Module):\n    def forward(self, states): return states[:, 0]\n",
        "Part fails on hidden states (2, 3, 32) and a mask (2, 3): TypeError",
    ),
    "chunk pooling": (
        "class Part(nn.Module):\n    def forward(self, states, mask): return states\n",
        "Part must return (batch, width) of (batch, length, 32); it returned (2, 3, 32)",
    ),
    "fusion": (
        "class Part(nn.Module):\n    def forward(self, pooled): return pooled\n",
        "Part fails on pooled texts and columns (2, 32) and ",
    ),
    "head": (
        "class Part(nn.Linear):\n    def __init__(self): super().__init__(32, 2)\n",
        "Part must return (batch, 3) of (batch, 32); it returned (2, 2) for a batch of 2",
    ),
    "activation": (
        "class Part:\n    def __call__(self, x): return x\n",
        "parts.Part must be a class derived from torch.nn.Module",
    ),
    "loss": (
        "class Part(nn.Module):\n    def forward(self, logits, target): return logits.mean()\n",
        "parts.Part: returns shape (); it must return one value a row",
    ),
    "optimizer": (
        "class Part:\n    def __init__(self, params, lr): pass\n    def step(self): pass\n",
        "parts.Part must make a torch.optim.Optimizer",
    ),
    "schedule": (
        "class Part:\n    def __init__(self, optimizer): pass\n    def step(self, loss): pass\n",
        "parts.Part needs loss at each step",
    ),
    "splitter": (
        "class Part:\n    def split(self, X, y): return []\n",
        "parts.Part: split() failed: ",
    ),
    "metric": (
        "def Part(target, prediction): return 1.0\n",
        "parts.Part fails on 3 rows: TypeError: ",
    ),
    "tracker": (
        "class Part:\n    def log(self, values): pass\n    def close(self): pass\n",
        "parts.Part must be a class with log(self, step, values, split) and close(self): ",
    ),
}


@pytest.fixture
def refused(tmp_path: Path, make_config: Callable[..., Config]) -> Callable[..., str]:
    """Train with a part of parts.py; return the message once nothing was found written."""

    def run(kind: str, code: str, **arguments: Any) -> str:
        path = tmp_path / "parts.py"
        path.write_text(f"from torch import nn\n\n{code}", "utf-8")
        config = KEYS[kind][0]({"name": "parts.Part", **arguments})
        columns = {"text": ["text"], "categorical": ["kind"]}
        model = {**make_config().model_dump()["model"], **config.pop("model", {})}
        with pytest.raises(FoldwiseError) as caught:
            cross_validate(make_config(code=[str(path)], data=columns, model=model, **config))
        assert [found.name for found in tmp_path.iterdir()] == ["parts.py"]
        message = str(caught.value)
        assert message.startswith(KEYS[kind][1])
        assert "\n" not in message
        return message

    return run


@pytest.mark.parametrize("kind", KEYS)
def test_a_part_that_is_not_in_the_file_is_refused(
    kind: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    message = refused(kind, "class Other: pass\n")
    assert f"{tmp_path / 'parts.py'} has no 'Part' (it has: nn, Other)" in message


@pytest.mark.parametrize("kind", MISFITS)
def test_a_part_of_a_wrong_signature_is_refused(kind: str, refused: Callable[..., str]) -> None:
    code, expected = MISFITS[kind]
    assert expected in refused(kind, code)


@pytest.mark.parametrize("kind", sorted({*KEYS} - {"task", "metric"}))  # these take none
def test_an_argument_that_a_part_does_not_take_is_refused(
    kind: str, refused: Callable[..., str]
) -> None:
    code = "class Part(nn.Module):\n    def __init__(self, size=1): super().__init__()\n"
    assert "parts.Part takes no 'sizes'; it takes: size" in refused(kind, code, sizes=3)
