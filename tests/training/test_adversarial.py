"""A second pass with the words moved the worst way (`training.adversarial`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from conftest import small_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run import checkpoints
from foldwise.run.folder import RunFolder
from foldwise.training.adversarial import learn, words_of
from foldwise.workflow import cross_validate

SIZE = 0.5
IDS = torch.tensor([[0, 3, 3, 5], [1, 3, 0, 2]])


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.words = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 1)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.out(torch.tanh(self.words(ids)).mean(dim=1))
        return found


def backward_of(
    model: Reader, ids: Tensor = IDS, by: float = 1.0, seen: list[Tensor] | None = None
) -> Callable[[], Tensor]:
    def backward() -> Tensor:
        if seen is not None:
            seen.append(model.words.weight.detach().clone())
        loss: Tensor = (model(ids) - 3).square().sum() * by
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return backward


def gradient_at(words: Tensor, ids: Tensor = IDS) -> tuple[Tensor, Tensor]:
    """Return the gradients of words and head where the words are these."""
    model = Reader()
    with torch.no_grad():
        model.words.weight.copy_(words)
    backward_of(model, ids)()
    assert model.words.weight.grad is not None
    assert model.out.weight.grad is not None
    return model.words.weight.grad, model.out.weight.grad


def test_the_second_pass_sees_words_that_moved_so_far_along_the_gradient() -> None:
    model, seen = Reader(), list[Tensor]()
    start = model.words.weight.detach().clone()
    loss = learn(model, backward_of(model, seen=seen), SIZE)
    first, head = gradient_at(start)
    moved = start + SIZE * first / first.norm()
    torch.testing.assert_close(seen, [start, moved])
    second, head_moved = gradient_at(moved)
    torch.testing.assert_close(model.words.weight.grad, first + second)
    torch.testing.assert_close(model.out.weight.grad, head + head_moved)
    torch.testing.assert_close(loss, (Reader()(IDS) - 3).square().sum())  # as the batch is
    torch.testing.assert_close((model(IDS) - 3).square().sum(), loss)


def test_the_words_are_put_back_to_the_last_bit() -> None:
    model = Reader()
    start = model.words.weight.detach().clone()
    learn(model, backward_of(model), 1e4)
    assert torch.equal(model.words.weight, start)


def test_each_batch_of_a_step_moves_the_words_by_its_own_gradient() -> None:
    model, other = Reader(), torch.tensor([[6, 6, 4, 4]])
    start = model.words.weight.detach().clone()
    learn(model, backward_of(model, other), SIZE)
    seen = list[Tensor]()
    learn(model, backward_of(model, seen=seen), SIZE)
    own, _ = gradient_at(start)
    torch.testing.assert_close(seen[1], start + SIZE * own / own.norm())


@pytest.mark.parametrize("by", [0.0, float("inf"), float("nan")])
def test_words_stay_where_the_gradient_is_nothing_or_no_number(by: float) -> None:
    model, seen = Reader(), list[Tensor]()
    learn(model, backward_of(model, by=by, seen=seen), SIZE)
    assert torch.equal(seen[0], seen[1])


def test_without_a_size_there_is_one_pass() -> None:
    model, seen = Reader(), list[Tensor]()
    learn(model, backward_of(model, seen=seen), None)
    assert len(seen) == 1


def test_words_that_do_not_learn_are_none() -> None:
    model = Reader()
    assert words_of(model)[0] is model.words.weight
    model.words.weight.requires_grad_(False)
    with pytest.raises(FoldwiseError, match="no word embeddings that learn"):
        words_of(model)


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, backbone: Path, table_path: Path
) -> dict[str, RunFolder]:
    """One fold with the words moved, twice by the same numbers, and one without."""
    make = small_config(tmp_path_factory.mktemp("adversarial") / "runs", backbone, table_path)

    def run(name: str, **training: object) -> RunFolder:
        config: Config = make(
            run={"name": name},
            loss={"name": "r_drop"},
            selection={"rows": "last"},
            training={"precision": "float32", **training},
        )
        return cross_validate(config, only=[1])

    both = {"adversarial": 1.0, "seeds": 2}
    return {"moved": run("moved", **both), "again": run("again", **both), "still": run("still")}


def test_a_fold_learns_otherwise_and_the_same_each_time(runs: dict[str, RunFolder]) -> None:
    made = {name: pl.read_parquet(run.fold(1).predictions) for name, run in runs.items()}
    assert made["moved"].equals(made["again"])
    moved, still = (checkpoints.load_best(runs[n].fold(1)).model for n in ("moved", "still"))
    assert all(torch.isfinite(tensor).all() for tensor in moved.values())
    begun = "backbone.embeddings.word_embeddings.weight"
    assert not torch.equal(moved[f"copies.0.{begun}"], still[begun])


def test_a_model_without_words_is_refused(make_config: Callable[..., Config]) -> None:
    with pytest.raises(ValidationError, match="there are no words"):
        make_config(
            data={"text": [], "categorical": ["Sub-issue"]},
            model={"fusion": "concat"},
            training={"adversarial": 1.0},
        )


def test_a_task_of_ones_own_is_not_cut_in_parts_either(make_config: Callable[..., Config]) -> None:
    with pytest.raises(ValidationError, match="cuts the word embeddings in parts"):
        make_config(task="my_parts.Task", training={"adversarial": 1.0, "shard": True})
