"""Pooling: real tokens alone make the vector of a text, on whichever side the padding is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.models.pooling import (
    AttentionPooling,
    ClsPooling,
    LastPooling,
    MaxPooling,
    MeanMaxPooling,
    MeanPooling,
    QueryPooling,
)


def trained_attention() -> AttentionPooling:
    torch.manual_seed(0)
    pooling = AttentionPooling(4)
    torch.nn.init.normal_(pooling.query.weight)
    return pooling


def trained_queries() -> QueryPooling:
    torch.manual_seed(1)
    pooling = QueryPooling(4, queries=2, units=3)
    torch.nn.init.normal_(pooling.query.weight)
    return pooling


EVERY = [
    MeanPooling(),
    ClsPooling(),
    MaxPooling(),
    MeanMaxPooling(),
    trained_attention(),
    trained_queries(),
    LastPooling(),
]
every_pooling = pytest.mark.parametrize("pooling", EVERY, ids=lambda p: type(p).__name__)


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
    largest = torch.stack([text.max(dim=0).values for text in texts])
    assert torch.equal(MaxPooling()(states, mask), largest)
    both = torch.cat([mean, largest], dim=1)
    torch.testing.assert_close(MeanMaxPooling()(states, mask), both)
    last = torch.stack([text[-1] for text in texts])
    assert torch.equal(LastPooling()(states, mask), last)
    attention = trained_attention()
    weighted = []
    for text in texts:
        keys = (text @ attention.key.weight.T + attention.key.bias).tanh()
        scores = (keys @ attention.query.weight[0]).exp()
        weighted.append((scores / scores.sum()) @ text)
    torch.testing.assert_close(attention(states, mask), torch.stack(weighted))
    torch.testing.assert_close(trained_queries()(states, mask), found_by(trained_queries(), texts))


def found_by(pooling: QueryPooling, texts: list[torch.Tensor]) -> torch.Tensor:
    found = []
    for text in texts:
        scores = (text @ pooling.query.weight.T + pooling.query.bias).exp()  # (L, 2)
        made = text @ pooling.value.weight.T + pooling.value.bias  # (L, 2 x 3)
        means = [(scores[:, q] / scores[:, q].sum()) @ made[:, 3 * q : 3 * q + 3] for q in range(2)]
        found.append(torch.cat([text.mean(dim=0), *means]))
    return torch.stack(found)


def test_queries_find_one_word_among_a_hundred() -> None:
    """What a mean drowns: the answer is one unit of the token that another unit marks."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(256, 100, 8, generator=generator)
    states[:, :, 0] = 0.0
    word = torch.randint(0, 100, (256,), generator=generator)
    states[torch.arange(256), word, 0] = 8.0
    answer = states[torch.arange(256), word, 1].sign()
    mask = torch.ones(256, 100, dtype=torch.int64)
    right = {}
    for pooling in (MeanPooling(), QueryPooling(8, queries=1, units=4)):
        torch.manual_seed(0)
        head = torch.nn.LazyLinear(1)
        head(pooling(states, mask))
        parameters = [*pooling.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=0.02)
        for _ in range(200):
            made = head(pooling(states[:192], mask[:192]))[:, 0]
            loss = torch.nn.functional.softplus(-answer[:192] * made).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        made = head(pooling(states[192:], mask[192:]))[:, 0]
        right[type(pooling).__name__] = float((made.sign() == answer[192:]).float().mean())
    assert right["QueryPooling"] > 0.9
    assert right["MeanPooling"] < 0.75


def test_queries_begin_apart() -> None:
    """Two that were alike would learn the same."""
    weights = QueryPooling(16).query.weight
    assert torch.unique(weights, dim=0).shape == (4, 16)


@every_pooling
def test_no_gradient_reaches_padding(pooling: torch.nn.Module) -> None:
    states = torch.randn(2, 3, 4, requires_grad=True)
    pooling(states, torch.tensor([[1, 1, 0], [0, 1, 1]])).sum().backward()
    assert states.grad is not None
    assert states.grad[0, 2].abs().sum() == states.grad[1, 0].abs().sum() == 0
    assert states.grad.abs().sum() > 0


@every_pooling
def test_a_text_of_padding_alone_gives_finite_numbers(pooling: torch.nn.Module) -> None:
    pooled = pooling(torch.randn(1, 3, 4), torch.zeros(1, 3, dtype=torch.int64))
    assert pooled.isfinite().all()


@every_pooling
def test_the_hidden_states_type_is_kept(pooling: torch.nn.Module) -> None:
    states = torch.randn(2, 3, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooling(states, torch.ones(2, 3, dtype=torch.int64))
    assert pooled.dtype == torch.bfloat16


def test_attention_starts_as_the_mean_and_all_of_it_learns() -> None:
    pooling = AttentionPooling(4)
    states, mask = torch.randn(2, 3, 4), torch.tensor([[1, 1, 0], [0, 1, 1]])
    torch.testing.assert_close(pooling(states, mask), MeanPooling()(states, mask))
    optimizer = torch.optim.SGD(pooling.parameters(), lr=1.0)
    for _ in range(2):  # the key's gradient is that of a query of zeros at first
        optimizer.zero_grad()
        pooling(states, mask).square().sum().backward()
        optimizer.step()
    for name, parameter in pooling.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, name
