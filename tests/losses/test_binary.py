"""Losses of sets and ordered labels equal what they are by definition."""

from __future__ import annotations

import pytest
import torch

from foldwise.losses.binary import BinaryCrossEntropy, Corn


def test_corn_is_the_negative_log_likelihood_of_the_label() -> None:
    logits = torch.tensor([[0.3, -1.2], [2.0, 0.4], [-0.5, 0.1]])
    target = torch.tensor([0, 1, 2])
    above = logits.sigmoid()  # given that the rank is reached
    expected = torch.stack(
        [1 - above[0, 0], above[1, 0] * (1 - above[1, 1]), above[2, 0] * above[2, 1]]
    )
    torch.testing.assert_close(Corn()(logits, target), -expected.log())
    weighted = Corn(weight=torch.tensor([1.0, 2.0, 0.5]))(logits, target)
    torch.testing.assert_close(weighted, -expected.log() * torch.tensor([1.0, 2.0, 0.5]))


def test_ranks_above_a_rows_own_teach_it_nothing() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    Corn()(logits, torch.tensor([1])).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == [-0.5, 0.5, 0.0]


@pytest.mark.parametrize("pos_weight", [None, [3.0, 0.5]])
def test_binary_cross_entropy_is_a_mean_over_labels(pos_weight: list[float] | None) -> None:
    logits = torch.tensor([[0.3, -1.2], [2.0, 0.4]])
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    weight = torch.tensor(pos_weight or [1.0, 1.0])
    p = logits.sigmoid()
    expected = -(weight * target * p.log() + (1 - target) * (1 - p).log()).mean(dim=1)
    loss = BinaryCrossEntropy(None if pos_weight is None else weight)
    torch.testing.assert_close(loss(logits, target), expected)
