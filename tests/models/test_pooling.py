"""Pooling: real tokens alone make the vector of a text, on whichever side the padding is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.models.pooling import ClsPooling, MeanPooling


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    left=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pooling_is_that_of_each_text_alone(lengths: list[int], left: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    texts = [torch.randn(length, 4, generator=generator) for length in lengths]
    states = torch.full((len(texts), 8, 4), 1e6)  # padding would show
    mask = torch.zeros(len(texts), 8, dtype=torch.int64)
    for row, text in enumerate(texts):
        place = slice(8 - len(text), 8) if left else slice(len(text))
        states[row, place] = text
        mask[row, place] = 1
    mean = torch.stack([text.mean(dim=0) for text in texts])
    torch.testing.assert_close(MeanPooling()(states, mask), mean)
    first = torch.stack([text[0] for text in texts])
    assert torch.equal(ClsPooling()(states, mask), first)


@pytest.mark.parametrize("pooling", [MeanPooling(), ClsPooling()])
def test_no_gradient_reaches_padding(pooling: torch.nn.Module) -> None:
    states = torch.randn(2, 3, 4, requires_grad=True)
    pooling(states, torch.tensor([[1, 1, 0], [0, 1, 1]])).sum().backward()
    assert states.grad is not None
    assert states.grad[0, 2].abs().sum() == states.grad[1, 0].abs().sum() == 0
    assert states.grad.abs().sum() > 0


@pytest.mark.parametrize("pooling", [MeanPooling(), ClsPooling()])
def test_a_text_of_padding_alone_gives_finite_numbers(pooling: torch.nn.Module) -> None:
    pooled = pooling(torch.randn(1, 3, 4), torch.zeros(1, 3, dtype=torch.int64))
    assert pooled.isfinite().all()


def test_the_mean_keeps_the_hidden_states_type() -> None:
    states = torch.randn(2, 3, 4, dtype=torch.bfloat16)
    pooled = MeanPooling()(states, torch.ones(2, 3, dtype=torch.int64))
    assert pooled.dtype == torch.bfloat16
