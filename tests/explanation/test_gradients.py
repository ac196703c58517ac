"""Integrated gradients: they add up, for every kind of target and way to read a row."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.explanation.aim import Aim, aims_of
from foldwise.explanation.effort import Effort
from foldwise.explanation.gradients import check_captum, integrate
from foldwise.explanation.tokens import Reader
from foldwise.members.member import Holds
from foldwise.models.copies import Copies
from foldwise.parts.usercode import UserCode
from foldwise.tasks.text_classification import TextClassification

LONG = "the credit card fee was not on my statement and they call again to validate debt " * 3
FRAME = pl.DataFrame(
    {
        "row": [0, 1, 2],
        "text": ["my credit card fee", LONG.strip(), ""],
        "kind": ["c0", "l0", "c0"],
        "amount": [1.0, 2.5, -1.0],
    }
)
BESIDE = {"data": {"categorical": ["kind"], "numeric": ["amount"]}}
WAYS: dict[str, dict[str, Any]] = {
    "text alone": {},
    "columns in the template": BESIDE,
    "head and tail": {**BESIDE, "text": {"long": "head_tail"}},
    "chunks": {**BESIDE, "text": {"long": "chunks", "stride": 4, "max_length": 16}},
    "columns beside the text": {**BESIDE, "model": {"fusion": "concat"}},
    "columns as tokens": {**BESIDE, "model": {"fusion": "tokens"}},
}


def built(config: Config, classes: list[Any]) -> tuple[Any, Any]:
    task = TextClassification(config, UserCode([]))
    frame = FRAME.with_columns(label=pl.Series(classes))
    task.fit_target(frame)
    task.fit_rows(frame)
    torch.manual_seed(1)
    model = task.build_model().eval()
    with torch.no_grad():  # so far from zero that there is something to explain
        for name, weight in model.named_parameters():
            if name.startswith("head") and weight.dim() == 2:
                weight.mul_(20)
    return task, model


def path_of(task: Any, model: Any, aim: Aim, row: int) -> tuple[Any, Any]:
    dataset = task.dataset(FRAME)
    cells = {c: str(FRAME[c][row] or "") for c in ("text", "kind")}
    cells["amount"] = f"{FRAME['amount'][row]:.6g}"
    windows = Reader(task).windows(dataset, row, cells)
    return integrate(
        model, task, dataset[row], windows, aim, torch.device("cpu"), Effort()
    ), windows


def aim_of(holds: Holds, n: int) -> Aim:
    others = np.full(n, 1 / max(n - 1, 1)) if holds == "label" else np.zeros(n)
    others[0] = 0.0
    return Aim(holds, 0, "a", others)


@pytest.mark.parametrize("way", WAYS)
def test_what_tokens_add_sums_to_the_margin(make_config: Callable[..., Config], way: str) -> None:
    task, model = built(make_config(**WAYS[way]), ["a", "b", "a"])
    path, windows = path_of(task, model, aim_of("label", 2), 1)
    assert abs(path.end - path.start) > 0.05
    assert path.near
    total = sum(part.sum() for part in path.tokens)
    assert total == pytest.approx(path.end - path.start, abs=0.05)
    # Special tokens, separators and other columns are the same at both ends, so they add nothing.
    for values, window in zip(path.tokens, windows, strict=True):
        kept = [i for i, piece in enumerate(window) if piece is None or piece.column != "text"]
        assert len(kept) >= 2
        np.testing.assert_array_equal(values[kept], 0)
    assert (len(windows) > 2) == (way == "chunks")
    if way == "head and tail":
        assert [piece.end for piece in windows[0] if piece is not None][-1] == len(LONG.strip())


@pytest.mark.parametrize(
    ("task_name", "holds", "classes"),
    [
        ("multilabel", "labels", ["a;b", "b", "a"]),
        ("ordinal", "label", ["1", "2", "3"]),
    ],
)
def test_other_targets_add_up_too(
    make_config: Callable[..., Config], task_name: str, holds: Holds, classes: list[str]
) -> None:
    config = make_config(task=task_name, folds={"n": 2})
    task, model = built(config, classes)
    n = len(task.classes)
    path, _ = path_of(task, model, aim_of(holds, n), 1)
    assert path.near
    # The margin of logits is that of the probabilities which the task makes of them.
    batch = task.collate([task.dataset(FRAME)[1]])
    batch.pop("target", None)
    logits = model(**batch).detach().numpy()
    columns = task.to_columns(logits)
    values = np.stack([columns[f"prob_{name}"] for name in task.classes], axis=1)
    assert path.end == pytest.approx(aim_of(holds, n).margins(values)[0], abs=1e-4)


def test_of_several_copies_what_tokens_add_sums_to_the_margin_of_their_mean(
    make_config: Callable[..., Config],
) -> None:
    config = make_config(**WAYS["chunks"])
    task, first = built(config, ["a", "b", "a"])
    second = built(config, ["a", "b", "a"])[1]
    with torch.no_grad():
        second.head.layers[1].weight.copy_(second.head.layers[1].weight.flip(1))
    aim = aim_of("label", 2)
    alone = [path_of(task, model, aim, 1)[0] for model in (first, second)]
    both, _ = path_of(task, Copies([first, second]).eval(), aim, 1)
    assert both.near
    assert both.end == pytest.approx((alone[0].end + alone[1].end) / 2, abs=1e-5)
    assert abs(alone[0].end - alone[1].end) > 0.05
    # A margin is linear in the logits, so each token adds the mean of what it adds to both.
    assert {path.steps for path in alone} == {both.steps}
    for found, one, other in zip(both.tokens, *(path.tokens for path in alone), strict=True):
        np.testing.assert_allclose(found, (one + other) / 2, atol=1e-5)


def test_a_numbers_words_add_up_in_the_models_own_unit(make_config: Callable[..., Config]) -> None:
    task, model = built(make_config(task="regression"), [1.0, 5.0, 9.0])
    path, _ = path_of(task, model, Aim("number", 0, None, np.zeros(1)), 1)
    batch = task.collate([task.dataset(FRAME)[1]])
    batch.pop("target", None)
    assert path.near
    assert path.end == pytest.approx(model(**batch).item(), abs=1e-5)


def test_an_answer_is_explained_by_its_class_its_labels_or_its_number(
    make_config: Callable[..., Config],
) -> None:
    labels, _ = built(make_config(task="multilabel", folds={"n": 2}), ["a;b", "b", "a"])
    found = aims_of(labels, np.array([0.6, 0.9]), "a;b", 3)
    assert [(aim.name, aim.output) for aim in found] == [("b", 1), ("a", 0)]
    assert [aim.name for aim in aims_of(labels, np.array([0.3, 0.2]), "", 3)] == ["a"]
    classes, _ = built(make_config(), ["a", "b", "c"])
    (aim,) = aims_of(classes, np.array([0.7, 0.2, 0.1]), "a", 3)
    np.testing.assert_allclose(aim.others, [0, 2 / 3, 1 / 3])
    # Log odds rise by as much as the margin does, to first order.
    before, after = np.array([[0.7, 0.2, 0.1]]), np.array([[0.7001, 0.1998, 0.1001]])
    odds = [np.log(p[0, 0] / (1 - p[0, 0])) for p in (before, after)]
    moved = aim.margins(after)[0] - aim.margins(before)[0]
    assert moved == pytest.approx(odds[1] - odds[0], rel=0.01)


def test_an_absent_captum_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(FoldwiseError, match=r'pip install "foldwise\[explain\]"'):
        check_captum()
