"""Built-in parts in a whole run: trained, saved, built anew from the run folder, scored."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
import torch

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.parts.usercode import UserCode
from foldwise.run import checkpoints
from foldwise.run.readers import read_json
from foldwise.tasks.text_classification import TextClassification
from foldwise.workflow import cross_validate, validate

SHORT = {"folds": {"n": 2}, "training": {"epochs": 1}, "selection": {"rows": "last"}}


def test_layers_attention_and_a_deep_head_are_trained_and_loaded_back(
    make_config: Callable[..., Config],
) -> None:
    config = make_config(**SHORT)
    head = {"hidden": [8], "activation": "torch.nn.Mish", "norm": "layer", "samples": 2}
    parts = {"layers": 2, "pooling": "attention", "head": head}
    model = {"backbone": config.model.backbone, **parts}
    run = cross_validate(make_config(**SHORT, model=model))
    weights = checkpoints.load(checkpoints.pointed(run.fold(1), "best")).model
    for name in ("layer_mix.weights", "pooling.query.weight"):
        assert weights[name].abs().sum() > 0  # they start at zero
    assert weights["head.layers.2.weight"].shape == (8,)  # of the norm
    scored = run.out_of_fold.read_bytes()
    assert validate(run.path)["mean"] == read_json(run.metrics)["mean"]
    assert run.out_of_fold.read_bytes() == scored


def test_r_drop_trains_on_two_passes_and_scores_on_one(
    make_config: Callable[..., Config],
) -> None:
    config = make_config(**SHORT, loss={"name": "r_drop", "alpha": 0.5})
    run = cross_validate(config)
    assert load_config(run.config).loss.class_weights == "sqrt"
    assert pl.read_parquet(run.out_of_fold).height == 90
    task = TextClassification(config, UserCode())
    task.classes = ["a", "b", "c"]
    model = task.build_model()
    ids = torch.tensor([[7, 8, 9, 10], [11, 12, 13, 0]])
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    first, second = model.train()(**batch).chunk(2)
    assert first.shape == (2, 3)
    assert not torch.equal(first, second)  # each has its own dropout
    assert model.eval()(**batch).shape == (2, 3)


@pytest.mark.parametrize("name", ["focal", "logit_adjustment"])
def test_losses_for_rare_classes_train(make_config: Callable[..., Config], name: str) -> None:
    config = make_config(**{**SHORT, "folds": {"n": 2, "run": [1]}}, loss={"name": name})
    run = cross_validate(config)
    fitted = read_json(run.fold(1).encoders)
    assert sum(fitted["class_counts"]) == 45
    assert (fitted["class_weights"] is None) == (name == "logit_adjustment")
    assert read_json(run.metrics)["oof"]["accuracy"]["value"] > 0
