"""Chunk pooling: one vector a text, the same alone and in a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from conftest import make_table
from foldwise.config.schema import Config
from foldwise.models.chunks import ChunkPooling
from foldwise.models.pooling import AttentionPooling, MaxPooling, MeanPooling
from foldwise.parts.usercode import UserCode
from foldwise.tasks.text_classification import TextClassification

CHUNK_ROW = torch.tensor([0, 0, 0, 1, 2, 2])
GROUPS = ([0, 1, 2], [3], [4, 5])


def pooled(seed: int = 0) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("pooling", "reduce"),
    [(MeanPooling(), lambda x: x.mean(0)), (MaxPooling(), lambda x: x.amax(0))],
)
def test_windows_of_a_text_become_their_mean_or_maximum(
    pooling: nn.Module, reduce: Callable[[Tensor], Tensor]
) -> None:
    expected = torch.stack([reduce(pooled()[group]) for group in GROUPS])
    torch.testing.assert_close(ChunkPooling(pooling)(pooled(), CHUNK_ROW), expected)


def test_attention_weighs_the_windows_of_a_text_among_themselves() -> None:
    torch.manual_seed(1)
    attention = AttentionPooling(4)
    nn.init.normal_(attention.query.weight)
    expected = []
    for group in GROUPS:
        windows = pooled()[group]
        scores = attention.query(torch.tanh(attention.key(windows)))
        expected.append((scores.exp() / scores.exp().sum() * windows).sum(0))
    found = ChunkPooling(attention)(pooled(), CHUNK_ROW)
    torch.testing.assert_close(found, torch.stack(expected))


def test_gradients_reach_every_window_and_no_other_text() -> None:
    windows = pooled().requires_grad_()
    ChunkPooling(MeanPooling())(windows, CHUNK_ROW)[2].sum().backward()
    assert windows.grad is not None
    expected = torch.tensor([0, 0, 0, 0, 0.5, 0.5]).unsqueeze(1).expand(6, 4)
    torch.testing.assert_close(windows.grad, expected)


Make = Callable[..., Config]


def task_of(make_config: Make, **text: object) -> TextClassification:
    config = make_config(
        data={"categorical": ["kind"], "text": ["text"]}, text={"max_length": 12, **text}
    )
    task = TextClassification(config, UserCode())
    task.fit_target(make_table())
    return task


def logits_of(
    task: TextClassification, model: nn.Module, frame: pl.DataFrame, positions: Sequence[int]
) -> np.ndarray:
    rows = task.dataset(frame)
    batch = task.collate([rows[i] for i in positions])
    del batch["target"]
    with torch.inference_mode():
        return np.asarray(model.eval()(**batch))


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_logits_of_a_document_are_the_same_alone_and_in_any_batch(
    make_config: Make, pooling: str
) -> None:
    task = task_of(make_config, long="chunks", stride=2, chunk_pooling=pooling)
    torch.manual_seed(3)
    model = task.build_model()
    frame = make_table(6).with_columns(text=pl.col("text") + pl.Series([" was my fee"] * 5 + [""]))
    assert task.dataset(frame).chunks.max() > 3
    together = logits_of(task, model, frame, range(6))
    backwards = logits_of(task, model, frame, range(5, -1, -1))[::-1]
    alone = np.concatenate([logits_of(task, model, frame, [i]) for i in range(6)])
    np.testing.assert_allclose(backwards, together, atol=1e-6)
    np.testing.assert_allclose(alone, together, atol=1e-6)
    assert np.abs(np.diff(together, axis=0)).min() > 1e-5


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_documents_that_fit_one_window_have_the_logits_of_truncation(
    make_config: Make, pooling: str
) -> None:
    frame = make_table(6).with_columns(text=pl.col("text").str.slice(0, 15))
    truncated = task_of(make_config)
    chunked = task_of(make_config, long="chunks", chunk_pooling=pooling)
    one, other = truncated.build_model(), chunked.build_model()
    missing = other.load_state_dict(one.state_dict(), strict=False)
    assert all(name.startswith("chunks.pooling.") for name in missing.missing_keys)
    np.testing.assert_array_equal(
        logits_of(truncated, one, frame, range(6)), logits_of(chunked, other, frame, range(6))
    )


def test_what_stands_at_the_end_of_a_long_document_is_read(make_config: Make) -> None:
    task = task_of(make_config, long="chunks")
    cut = task_of(make_config)
    model = task.build_model()
    plain = cut.build_model()
    long = " ".join(["the"] * 40)
    frame = pl.DataFrame(
        {"text": [long, f"{long} lawsuit"], "kind": ["c0", "c0"], "label": ["card", "card"]}
    )
    read, unread = logits_of(task, model, frame, [0, 1]), logits_of(cut, plain, frame, [0, 1])
    assert np.abs(read[0] - read[1]).max() > 1e-4
    np.testing.assert_array_equal(unread[0], unread[1])
