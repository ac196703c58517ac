"""Learning from each batch twice: as it is, and with its words moved the worst way.

After the backward pass of a batch the word embeddings are moved along their gradient, by a step of
a given length, the batch goes forward and backward once more, and they are put back: the model also
learns to answer where a word means something slightly else (Miyato et al. 2017, the fast gradient
method). It costs a second pass. Each micro-batch is moved by its own gradient, so that nothing
hangs on how many of them a step has or which process works on which; and nothing waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from foldwise.errors import FoldwiseError


def learn(model: nn.Module, backward: Callable[[], Tensor], size: float | None) -> Tensor:
    """Add the gradient of a batch, and that of the batch with its words moved.

    Args:
        model: that learns.
        backward: passes the batch forward and backward, and returns its loss.
        size: length of the move, by the Euclidean norm; None: the words stay.

    Returns:
        The loss of the batch as it is.
    """
    if size is None:
        return backward()
    words = words_of(model)
    before = [None if word.grad is None else word.grad.clone() for word in words]
    loss = backward()
    with _moved(words, before, size):
        backward()
    return loss


def words_of(model: nn.Module) -> list[nn.Parameter]:
    """Return the word embeddings that learn, of all that `get_input_embeddings` names in a model.

    Raises:
        FoldwiseError: there are none.
    """
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        find: Any = getattr(module, "get_input_embeddings", None)
        if find is None:
            continue
        with suppress(NotImplementedError, AttributeError):  # transformers' word for "has none"
            weight = find().weight
            if weight.requires_grad:
                found[id(weight)] = weight
    if not found:
        raise FoldwiseError(
            "training.adversarial: the model has no word embeddings that learn (a module of it "
            "names them by get_input_embeddings()); leave training.adversarial out"
        )
    return list(found.values())


@contextmanager
def _moved(
    words: Sequence[nn.Parameter], before: Sequence[Tensor | None], size: float
) -> Iterator[None]:
    kept = [word.detach().clone() for word in words]
    with torch.no_grad():
        for word, earlier in zip(words, before, strict=True):
            gradient = _gradient(word, earlier)
            # Without a gradient, or with one that isn't finite, there is no worst way: it is 0.
            word.add_((gradient * (size / gradient.norm())).nan_to_num(0.0, 0.0, 0.0))
    try:
        yield
    finally:
        with torch.no_grad():
            for word, value in zip(words, kept, strict=True):
                word.copy_(value)  # what was added, taken away again, would leave rounding errors


def _gradient(word: nn.Parameter, earlier: Tensor | None) -> Tensor:
    # Of this batch alone: those of earlier ones are added up in the same place.
    if word.grad is None:
        return torch.zeros_like(word)
    return word.grad if earlier is None else word.grad - earlier
