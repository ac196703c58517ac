"""Layer mix: the top layers alone, normalised, averaged by weights that learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.models.layer_mix import LayerMix
from foldwise.parts.usercode import UserCode
from foldwise.tasks.text_classification import TextClassification
from foldwise.training.optimizers import parameter_groups


def normalised(layer: torch.Tensor) -> torch.Tensor:
    centred = layer - layer.mean(dim=-1, keepdim=True)
    return centred / centred.var(dim=-1, correction=0, keepdim=True).sqrt()


def layers_of_scales(*scales: float) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(scale * torch.randn(2, 3, 8) for scale in scales)


def test_a_fresh_mix_is_the_average_of_the_last_layers_whatever_their_scale() -> None:
    layers = layers_of_scales(1e9, 1.0, 500.0, 3.0)
    expected = (normalised(layers[1]) + normalised(layers[2]) + normalised(layers[3])) / 3
    torch.testing.assert_close(LayerMix(3)(layers), expected, atol=1e-4, rtol=1e-4)


def test_a_trained_mix_is_the_papers_equation() -> None:
    layers = layers_of_scales(1.0, 1.0, 1.0)
    mix = LayerMix(2)
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.0, 1.0]))
        mix.scale.fill_(2.0)
    share = 1 / (1 + torch.tensor(1.0).exp())  # softmax of (0, 1)
    expected = 2 * (share * normalised(layers[1]) + (1 - share) * normalised(layers[2]))
    torch.testing.assert_close(mix(layers), expected, atol=1e-4, rtol=1e-4)


def task_of(config: Config) -> TextClassification:
    task = TextClassification(config, UserCode())
    task.classes = ["a", "b", "c"]
    return task


def test_a_models_mix_learns_at_the_heads_rate_without_decay(
    make_config: Callable[..., Config], backbone: Path
) -> None:
    config = make_config(model={"backbone": str(backbone), "layers": 2})
    model = task_of(config).build_model()
    batch = {"input_ids": torch.full((2, 4), 7), "attention_mask": torch.ones(2, 4).long()}
    model(**batch).sum().backward()
    mix = model.get_submodule("layer_mix")
    groups = {
        id(p): group for group in parameter_groups(model, config.optimizer) for p in group["params"]
    }
    for parameter in mix.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
        assert groups[id(parameter)]["lr"] == config.optimizer.head_lr
        assert groups[id(parameter)]["weight_decay"] == 0


def test_more_layers_than_the_backbone_has_are_refused(
    make_config: Callable[..., Config], backbone: Path
) -> None:
    config = make_config(model={"backbone": str(backbone), "layers": 3})
    with pytest.raises(FoldwiseError) as caught:
        task_of(config).check()
    assert str(caught.value) == (
        f"model.layers is 3, but {backbone} has 2 blocks to average the outputs of; lower it"
    )
