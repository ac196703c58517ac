"""Which parameters learn at which rate, and which are decayed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
import torch
from torch import nn

from conftest import make_table
from foldwise.config.schema import Config
from foldwise.config.training import Optimizer as OptimizerConfig
from foldwise.errors import FoldwiseError
from foldwise.models.inputs import ColumnLinear
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_model
from foldwise.tasks.text_classification import TextClassification
from foldwise.training.optimizers import build_optimizer, parameter_groups


class Tower(nn.Module):
    """Three layers from the bottom up, a head outside of them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.norm = nn.LayerNorm(2)
        self.head = nn.Linear(2, 2)

    def layers(self) -> list[list[nn.Parameter]]:
        return [list(block.parameters()) for block in self.blocks]


def settings(**values: Any) -> OptimizerConfig:
    return OptimizerConfig.model_validate(
        {"lr": 0.1, "head_lr": 1.0, "weight_decay": 0.01, "layer_decay": 0.5} | values
    )


def rates(model: nn.Module, config: OptimizerConfig) -> dict[int, tuple[float, float]]:
    """Learning rate and decay of each parameter by its id; no parameter comes twice."""
    found: dict[int, tuple[float, float]] = {}
    for group in parameter_groups(model, config):
        for parameter in group["params"]:
            assert id(parameter) not in found
            found[id(parameter)] = (group["lr"], group["weight_decay"])
    return found


def test_each_layer_learns_at_half_the_rate_of_the_one_above_and_the_rest_at_head_lr() -> None:
    model = Tower()
    found = rates(model, settings())
    for block, rate in zip(model.blocks, (0.025, 0.05, 0.1), strict=True):
        assert found[id(block.weight)] == pytest.approx((rate, 0.01))
    assert found[id(model.head.weight)] == (1.0, 0.01)


def test_vectors_are_not_decayed() -> None:
    model = Tower()
    found = rates(model, settings())
    vectors = [p for p in model.parameters() if p.ndim < 2]
    assert len(vectors) == 6
    assert {found[id(p)][1] for p in vectors} == {0.0}
    assert {found[id(p)][1] for p in model.parameters() if p.ndim > 1} == {0.01}


class RMSNorm(nn.Module):
    """Stands for a family's own norm: of a name that says so, here of two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 2))


class Shapes(nn.Module):
    """Biases and norms of two dimensions, beside weights that are neither."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = ColumnLinear(4, 2, 3)
        self.norm = nn.LayerNorm((3, 2))
        self.other = RMSNorm()
        self.relative_attention_bias = nn.Embedding(8, 2)
        self.attention_biases = nn.Parameter(torch.zeros(2, 8))
        self.bilinear = nn.Bilinear(2, 2, 2)
        self.attend = nn.MultiheadAttention(2, 1, add_bias_kv=True)
        self.embedding = nn.Embedding(8, 2)
        self.unbiased = nn.Linear(2, 2, bias=False)


def test_biases_and_norms_of_any_rank_are_not_decayed() -> None:
    model = Shapes()
    found = rates(model, settings())
    decayed = {name for name, p in model.named_parameters() if found[id(p)][1] > 0}
    assert decayed == {
        "columns.weight",
        "bilinear.weight",
        "attend.in_proj_weight",
        "attend.out_proj.weight",
        "embedding.weight",
        "unbiased.weight",
    }


def test_no_bias_of_columns_beside_the_text_is_decayed(make_config: Callable[..., Config]) -> None:
    data = {"categorical": ["kind"], "numeric": ["amount"]}
    for kind in ("linear", "piecewise_linear", "periodic"):
        model_config = {"fusion": "tokens", "tabular": {"numeric": {"embedding": kind}}}
        config = make_config(data=data, model=make_config().model.model_dump() | model_config)
        task = TextClassification(config, UserCode([]))
        frame = make_table(12).with_columns(pl.col("amount").cast(float))
        task.fit_target(frame)
        task.fit_rows(frame)
        model = task.build_model()
        found = rates(model, settings())
        biases = [name for name, p in model.named_parameters() if name.endswith("bias")]
        assert any(dict(model.named_parameters())[name].ndim == 2 for name in biases)
        decayed = [name for name, p in model.named_parameters() if found[id(p)][1] > 0]
        assert not [name for name in decayed if "bias" in name or "norm" in name.lower()]


def test_head_lr_null_is_lr() -> None:
    model = Tower()
    assert rates(model, settings(head_lr=None))[id(model.head.weight)] == (0.1, 0.01)


def test_model_without_layers_learns_at_lr_throughout() -> None:
    assert set(rates(nn.Linear(2, 2), settings()).values()) == {(0.1, 0.01), (0.1, 0.0)}


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2"])
def test_every_trainable_parameter_of_a_backbone_comes_once_and_frozen_ones_never(
    make_config: Callable[..., Config], backbones: Callable[[str], Any], kind: str
) -> None:
    config = make_config(model={"backbone": str(backbones(kind)), "freeze": 1})
    model = build_model(config, ["a", "b"])
    found = rates(model, settings())
    assert set(found) == {id(p) for p in model.parameters() if p.requires_grad}
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(id(p) not in found for p in model.parameters() if not p.requires_grad)
    # One block of two is left, at the full rate; what is outside of the blocks learns as the head.
    assert {rate for rate, _ in found.values()} == {0.1, 1.0}


def test_adamw_is_built_in_and_fused() -> None:
    optimizer = build_optimizer(Tower(), settings(), UserCode())
    assert type(optimizer) is torch.optim.AdamW
    assert all(group["fused"] for group in optimizer.param_groups)


def test_optimizer_of_torch_is_built_by_name_with_its_arguments() -> None:
    config = settings(name="torch.optim.RAdam", betas=[0.8, 0.9])
    optimizer = build_optimizer(Tower(), config, UserCode())
    assert type(optimizer) is torch.optim.RAdam
    assert {tuple(group["betas"]) for group in optimizer.param_groups} == {(0.8, 0.9)}
    assert {group["lr"] for group in optimizer.param_groups} == {0.025, 0.05, 0.1, 1.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "torch.optim.RAdm"}, r"^optimizer: there is no optimizer 'torch\.optim\.RAdm'"),
        ({"name": "os.system"}, r"^optimizer: there is no optimizer 'os\.system'"),
        ({"name": "torch.optim.SGD", "momentun": 0.9}, "^optimizer: .* takes no 'momentun'; .*mom"),
        ({"name": "torch.optim.SGD", "momentum": -1}, "^optimizer: .* can't be built: .*momentum"),
        (
            {"name": "torch.optim.LBFGS"},
            r"^optimizer: torch\.optim\.LBFGS can't be used: its step\(\) needs closure, which",
        ),
        ({"name": "torch.optim.Muon"}, "^optimizer: .*Muon can't be built: .* only supports 2D"),
        (
            {"name": "torch.optim.Rprop"},
            r"^optimizer: .*Rprop has no weight decay, so weight_decay 0\.01 .*; set it to 0$",
        ),
        (
            {"name": "paged_adamw_8bit"},
            "^optimizer: paged_adamw_8bit .* on cpu there is nothing to move: use adamw_8bit$",
        ),
        ({"name": "paged_adamw"}, "^optimizer: paged_adamw .*: use adamw$"),
    ],
)
def test_wrong_optimizer_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FoldwiseError, match=message):
        build_optimizer(Tower(), settings(**values), UserCode())


def test_missing_package_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(FoldwiseError, match=r"^optimizer: adamw_8bit needs .*: pip install bitsa"):
        build_optimizer(Tower(), settings(name="adamw_8bit"), UserCode())


def test_adamw_8bit_keeps_moments_of_a_byte_and_steps_much_as_adamw() -> None:
    pytest.importorskip("bitsandbytes")
    ends, width = [], 64
    for name in ("adamw", "adamw_8bit"):
        torch.manual_seed(0)
        model = nn.Linear(width, width)  # 4,096 weights: the least that is quantized
        config = settings(name=name, lr=1e-2, weight_decay=0.1, betas=[0.8, 0.9])
        optimizer = build_optimizer(model, config, UserCode())
        assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1, 0.0}
        x = torch.randn(16, width)
        for _ in range(10):
            optimizer.zero_grad()
            (model(x) - x.flip(1)).square().mean().backward()
            optimizer.step()
        ends.append(model.weight.detach())
    types = {p.ndim: optimizer.state[p]["state1"].dtype for p in model.parameters()}
    assert types == {2: torch.uint8, 1: torch.float32}
    moved = (ends[0] - nn.Linear(width, width).weight).abs().mean()
    assert (ends[0] - ends[1]).abs().mean() < 0.1 * moved
    assert not torch.equal(*ends)


def test_nothing_to_train_is_refused() -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(FoldwiseError, match="leaves no parameter to train"):
        build_optimizer(model, settings(), UserCode())
