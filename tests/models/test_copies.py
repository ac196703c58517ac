"""Copies of a model: they differ in nothing but random numbers, and answer by their mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conftest import make_table
from foldwise.config.schema import Config
from foldwise.config.training import Optimizer
from foldwise.models.copies import Copies, build_copies, copies_of
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_fold_model, build_task
from foldwise.run.folder import RunFolder
from foldwise.run.weights import saved_weights
from foldwise.training.optimizers import parameter_groups

FRAME = make_table(12).with_row_index("row")


def built(config: Config, seeds: int) -> tuple[Any, Any]:
    task: Any = build_task(config, UserCode(config.code))
    task.fit_target(FRAME)
    task.fit_rows(FRAME)
    torch.manual_seed(5)
    return task, build_copies(task.build_model, seeds)


def batch_of(task: Any) -> dict[str, Tensor]:
    dataset = task.dataset(FRAME)
    batch: dict[str, Tensor] = task.collate([dataset[i] for i in range(5)])
    return {name: tensor for name, tensor in batch.items() if name != "target"}


def test_one_copy_is_the_model_itself(make_config: Callable[..., Config]) -> None:
    task, model = built(make_config(), 1)
    torch.manual_seed(5)
    alone = task.build_model()
    assert type(model) is type(alone)
    assert copies_of(model) == [model]
    ours, theirs = saved_weights(model), saved_weights(alone)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_copies_share_the_pretrained_weights_and_draw_their_own_heads(
    make_config: Callable[..., Config],
) -> None:
    config = make_config(
        model={"pooling": "attention", "fusion": "concat"}, data={"categorical": ["kind"]}
    )
    _, alone = built(config, 1)
    _, model = built(config, 3)
    first, *others = (saved_weights(copy) for copy in copies_of(model))
    assert all(torch.equal(first[name], tensor) for name, tensor in saved_weights(alone).items())
    for other in others:
        alike = {name for name in first if torch.equal(first[name], other[name])}
        assert {name for name in first if name.startswith("backbone")} <= alike
        assert not alike & {"head.layers.1.weight", "inputs.categories.tables.0.weight"}
    assert not torch.equal(*(other["head.layers.1.weight"] for other in others))


def test_they_answer_by_the_mean_of_their_logits(make_config: Callable[..., Config]) -> None:
    task, model = built(make_config(), 2)
    batch = batch_of(task)
    model.eval()
    with torch.no_grad():
        each = [copy(**batch) for copy in copies_of(model)]
        found = model(**batch)
    assert found.shape == (5, 3)
    assert not torch.allclose(*each)
    torch.testing.assert_close(found, (each[0] + each[1]) / 2)


def test_a_layer_of_all_copies_learns_at_one_rate(make_config: Callable[..., Config]) -> None:
    config = make_config(model={"freeze": 1})
    groups = [
        {
            (group["name"], group["lr"], group["weight_decay"]): sum(
                map(torch.numel, group["params"])
            )
            for group in parameter_groups(built(config, seeds)[1], config.optimizer)
        }
        for seeds in (1, 2)
    ]
    assert len(groups[0]) > 2
    assert groups[1] == {key: 2 * size for key, size in groups[0].items()}


def test_models_without_layers_learn_at_one_rate() -> None:
    plain = Copies([nn.Linear(3, 2), nn.Linear(3, 2)])
    assert {group["lr"] for group in parameter_groups(plain, Optimizer(lr=0.5))} == {0.5}


def test_adapters_of_each_copy_are_all_that_is_saved_of_it(
    make_config: Callable[..., Config],
) -> None:
    config = make_config(model={"lora": {"r": 2}})
    _, alone = built(config, 1)
    _, model = built(config, 2)
    names = [f"copies.{copy}.{name}" for copy in (0, 1) for name in saved_weights(alone)]
    assert sorted(saved_weights(model)) == sorted(names)


def test_a_distilled_model_is_one_network(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config, run = make_config(training={"seeds": 2}), RunFolder(tmp_path)
    task, _ = built(config, 1)
    counts = {
        folder.path.name: len(copies_of(build_fold_model(task, config, folder)))
        for folder in (run.fold(1), run.one("refit"), run.one("distilled"))
    }
    assert counts == {"fold-1": 2, "refit": 2, "distilled": 1}
