"""Small networks on frozen embeddings, categories and numbers; their mean is the prediction.

A hidden layer with dropout (Srivastava et al. 2014) on what the backbone says of a text before it
is fine-tuned, and the columns beside it. Where the states of a text's tokens are kept, each network
also learns what to look for among them: a few queries, each the mean of the tokens by how well they
match it (attention with learnt queries, as in Lee et al. 2019, "Set Transformer"), since one word
can say what the mean of a hundred has drowned.

Several networks of one shape begin apart and drop out other units (an ensemble as in
Lakshminarayanan et al. 2017); they are trained at once, on a CPU, in seconds, and find what a
linear model on the same vectors can't.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import erf, expit, softmax
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from foldwise.errors import FoldwiseError
from foldwise.members.features import Features
from foldwise.members.member import (
    Columns,
    Floats,
    Holds,
    array_of,
    magnitude,
    outputs_of_state,
    shares,
    vectors_by_column,
)
from foldwise.members.queries import QUERIES, VALUES, Tokens, found_in, scale_of
from foldwise.members.states import TokenStates
from foldwise.members.vectors import OnVectors, scales_of

NETWORKS, HIDDEN = 4, 128
_EPOCHS, _ROWS = 15, 64  # passes, and rows of a step
_FEWEST, _MOST = 100, 10_000  # steps
_RATE, _DECAY, _DROPPED = 3e-3, 0.1, 0.5
# What stands for a value of a category: large enough that its one weight learns as quickly as the
# many of a vector do together.
_VALUE = 4.0
_MOST_VALUES = 500  # of a category; the others share one
_FAR = 10.0  # standard deviations: what is farther counts as so far
_SLICE = 4096  # rows that are predicted at once
_SPAN = 25  # batches of a stretch of rows, of which those of alike length share one


class Network(OnVectors):
    """The mean of small networks on frozen embeddings, categories and numbers.

    Args:
        holds: label, labels or number.
        n_outputs: classes, labels, or 1.
        columns: what is read beside the text.
        seed: of weights, order of rows and dropout.
        balanced: weigh a class by the inverse root of its rows, as the fine-tuned model does.
    """

    reads_tokens = True

    def __init__(
        self, holds: Holds, n_outputs: int, columns: Columns, seed: int, balanced: bool = True
    ) -> None:
        self.holds, self.n_outputs, self.seed, self.balanced = holds, n_outputs, seed, balanced
        super().__init__(Features(columns, words=False, most_values=_MOST_VALUES))
        self.outputs = np.empty(0, dtype=np.int64)  # those that the networks tell apart
        self.layers: list[Floats] = []  # weights, biases, weights, biases; float32 numbers
        self.attention: list[Floats] = []  # queries, weights, biases; none where no tokens are read
        self.token_mean, self.token_scale = np.empty(0, dtype=np.float32), np.ones(1, np.float32)
        self.base: Floats = np.zeros(n_outputs)  # what the others predict
        self.sizes: Floats = np.ones(n_outputs)  # of numbers, what the networks' are in

    def fit(
        self,
        rows: pl.DataFrame,
        target: NDArray[Any],
        inner: NDArray[np.bool_],
        tokens: TokenStates | None = None,
    ) -> None:
        """Train the networks; there is no epoch to pick, so inner rows train too."""
        self.mean, self.scale, _ = scales_of(rows)
        if tokens is not None:
            self.token_mean, self.token_scale = scale_of(tokens)
        inputs = self._inputs(_vectors(rows), self.features.fit(rows), tokens)
        self.base, self.layers, self.attention = shares(target, self.n_outputs), [], []
        if self.holds == "label":
            self.outputs, ids = np.unique(target, return_inverse=True)
            wanted, enough = torch.from_numpy(ids), len(self.outputs) > 1
        else:
            # What all rows agree on has nothing to tell apart: the mean it is.
            self.outputs = np.flatnonzero(np.ptp(target, axis=0) > 0)
            enough = len(self.outputs) > 0
            if self.holds == "number":
                sizes = magnitude(target - self.base)
                spread = ((target - self.base) / sizes).std(axis=0)
                self.sizes = sizes * np.where(spread > 0, spread, 1.0)
                target = (target - self.base) / self.sizes
            wanted = torch.from_numpy(target[:, self.outputs].astype(np.float32))
        if enough and inputs.width:
            with threadpool_limits(limits=1):
                learnt = self._trained(inputs, wanted)
            self.layers, self.attention = learnt[:4], learnt[4:]

    def predict(self, rows: pl.DataFrame, tokens: TokenStates | None = None) -> Floats:
        """Return probabilities or numbers, float64 (n, n_outputs).

        Raises:
            FoldwiseError: it was fitted with tokens and gets none, or the other way round.
        """
        made: Floats = np.tile(self.base, (rows.height, 1))
        if not self.layers:
            return made
        if bool(self.attention) is not (tokens is not None):
            had, has = ("with", "without") if self.attention else ("without", "with")
            raise FoldwiseError(
                f"network: was fitted {had} tokens' states and is asked {has}; put back the "
                "run's config.yaml, whose model.embedding says what members read"
            )
        inputs = self._inputs(_vectors(rows), self.features.transform(rows), tokens)
        if self.holds == "label":
            made[:] = 0.0
        with threadpool_limits(limits=1):
            for start in range(0, rows.height, _SLICE):
                part = np.arange(start, min(start + _SLICE, rows.height))
                made[np.ix_(part, self.outputs)] = self._mean_answer(inputs, part)
        return made

    def state(self) -> dict[str, Any]:
        """Return scales, categories and weights."""
        return {
            **super().state(),
            "outputs": self.outputs,
            "layers": _kept(self.layers),
            "attention": _kept(self.attention),
            "token_mean": self.token_mean,
            "token_scale": self.token_scale,
            "base": self.base,
            "sizes": self.sizes,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        super().load_state(state)
        self.outputs = outputs_of_state(state, self.n_outputs)
        outputs = len(self.outputs)
        # Runs from before tokens were read hold none of it.
        attention = state.get("attention", {})
        if attention:
            self.token_mean = array_of(state, "token_mean", (None,))
            self.token_scale = array_of(state, "token_scale", (1,))
            width = len(self.token_mean)
            shapes = [(width,), (width, VALUES), (1, VALUES)]
            self.attention = _taken(attention, NETWORKS * QUERIES, shapes)
        width = self.width + (QUERIES * VALUES if attention else 0)
        shapes = [(width, HIDDEN), (1, HIDDEN), (HIDDEN, outputs), (1, outputs)]
        if held := state["layers"]:
            self.layers = _taken(held, NETWORKS, shapes)
        self.base = array_of(state, "base", (self.n_outputs,))
        self.sizes = array_of(state, "sizes", (self.n_outputs,))

    def _inputs(
        self, vectors: NDArray[np.float32], beside: sparse.csr_matrix, tokens: TokenStates | None
    ) -> _Inputs:
        scaled = np.clip((vectors - self.mean) / self.scale, -_FAR, _FAR)
        sizes = np.ones(beside.shape[1])
        for _, kind, place in self.features.places():
            if kind == "category":
                sizes[place] = 2 * _VALUE  # of halves
        beside = sparse.csr_matrix(beside.multiply(sizes[None, :])) if len(sizes) else beside
        np.clip(beside.data, -_FAR, _FAR, out=beside.data)
        states = None if tokens is None else Tokens(tokens, self.token_mean, self.token_scale)
        return _Inputs(scaled.astype(np.float32), beside.astype(np.float32), states)

    def _trained(self, inputs: _Inputs, wanted: Tensor) -> list[Floats]:
        random = torch.Generator().manual_seed(self.seed)
        n, outputs, tokens = len(wanted), len(self.outputs), inputs.tokens
        width = inputs.width + (QUERIES * VALUES if tokens is not None else 0)
        layers = [
            _drawn((NETWORKS, width, HIDDEN), width, random),
            _drawn((NETWORKS, 1, HIDDEN), width, random),
            _drawn((NETWORKS, HIDDEN, outputs), HIDDEN, random),
            _drawn((NETWORKS, 1, outputs), HIDDEN, random),
        ]
        if tokens is not None:
            queries, units = NETWORKS * QUERIES, tokens.states.width
            layers += [
                _drawn((queries, units), units, random),
                _drawn((queries, units, VALUES), units, random),
                _drawn((queries, 1, VALUES), units, random),
            ]
        weights = self._class_weights(wanted)
        size = min(_ROWS, n)
        batches = n // size
        steps = min(max(_EPOCHS * batches, _FEWEST), _MOST)
        optimizer = torch.optim.AdamW(layers, lr=_RATE, weight_decay=_DECAY)
        # One cycle up and down (Smith and Topin 2019).
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
        order = torch.empty(0)
        for step in range(steps):
            if step % batches == 0:
                order = _order(n, size, tokens, random)
            chosen = order[:, step % batches * size :][:, :size]
            read = torch.from_numpy(inputs.of(chosen.flatten().numpy()))
            read = read.view(NETWORKS, size, inputs.width)
            if tokens is not None:
                found = found_in(layers[4:], *tokens.of(chosen[0].numpy(), random))
                read = torch.cat([read, found], dim=2)
            hidden = torch.baddbmm(layers[1], _dropout(read, random), layers[0])
            hidden = _dropout(functional.gelu(hidden), random)
            loss = self._loss(
                torch.baddbmm(layers[3], hidden, layers[2]).flatten(0, 1),
                wanted[chosen.flatten()],
                weights,
            )
            optimizer.zero_grad()
            # Times their number: each learns from the mean of its own rows.
            (NETWORKS * loss).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        return [layer.detach().double().numpy() for layer in layers]

    def _class_weights(self, wanted: Tensor) -> Tensor | None:
        if self.holds != "label" or not self.balanced:
            return None
        counts = torch.bincount(wanted, minlength=len(self.outputs)).float()
        weights = counts.rsqrt()
        return weights * (counts.sum() / (weights * counts).sum())

    def _loss(self, made: Tensor, wanted: Tensor, weights: Tensor | None) -> Tensor:
        if self.holds == "label":
            return functional.cross_entropy(made, wanted, weight=weights)
        if self.holds == "labels":
            return functional.binary_cross_entropy_with_logits(made, wanted)
        return functional.mse_loss(made, wanted)

    def _mean_answer(self, inputs: _Inputs, rows: NDArray[np.int64]) -> Floats:
        # In float64 a row's answer doesn't hang on the rows beside it.
        into, bias, out, last = self.layers
        hidden = inputs.of(rows).astype(np.float64) @ into[:, : inputs.width] + bias
        if inputs.tokens is not None:
            learnt = [torch.from_numpy(each) for each in self.attention]
            for some in inputs.tokens.alike(rows):
                found = found_in(learnt, *inputs.tokens.of(rows[some], None, torch.float64))
                hidden[:, some] += found.numpy() @ into[:, inputs.width :]
        hidden *= 0.5 * (1 + erf(hidden / np.sqrt(2)))  # gelu
        made = hidden @ out + last
        if self.holds == "label":
            answers: Floats = softmax(made, axis=2).mean(axis=0)
            return answers
        if self.holds == "labels":
            answers = expit(made).mean(axis=0)
            return answers
        answers = made.mean(axis=0) * self.sizes[self.outputs] + self.base[self.outputs]
        return answers


class _Inputs:
    # Vectors lie as they are, categories as the few values that aren't zero.
    def __init__(
        self, vectors: NDArray[np.float32], beside: sparse.csr_matrix, tokens: Tokens | None
    ) -> None:
        self.vectors, self.beside, self.tokens = vectors, beside, tokens
        self.width: int = vectors.shape[1] + beside.shape[1]

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what some rows read beside their tokens, float32 (rows, width)."""
        return np.hstack([self.vectors[rows], self.beside[rows].toarray()])


def _order(n: int, size: int, tokens: Tokens | None, random: torch.Generator) -> Tensor:
    # In which order the networks see their rows, (networks, n or a little less).
    if tokens is None:
        return torch.stack([torch.randperm(n, generator=random) for _ in range(NETWORKS)])
    # All see the same, so that states are fetched once, and texts of a batch are about as long.
    lengths = torch.from_numpy(tokens.states.lengths)
    drawn = torch.randperm(n, generator=random)[: n // size * size]
    stretches = torch.split(drawn, _SPAN * size)
    alike = [stretch[lengths[stretch].argsort(stable=True)] for stretch in stretches]
    batches = torch.cat(alike).view(-1, size)
    mixed = batches[torch.randperm(len(batches), generator=random)]
    return mixed.flatten().expand(NETWORKS, -1)


def _kept(layers: list[Floats]) -> dict[str, NDArray[np.float32]]:
    return {str(number): layer.astype(np.float32) for number, layer in enumerate(layers)}


def _taken(held: Any, first: int, shapes: list[tuple[int, ...]]) -> list[Floats]:
    return [
        array_of(held, str(number), (first, *shape)).astype(np.float64)
        for number, shape in enumerate(shapes)
    ]


def _vectors(rows: pl.DataFrame) -> NDArray[np.float32]:
    found = list(vectors_by_column(rows).values())
    return np.hstack(found) if found else np.empty((rows.height, 0), dtype=np.float32)


def _drawn(shape: tuple[int, ...], inputs: int, random: torch.Generator) -> Tensor:
    drawn: Tensor = (torch.rand(shape, generator=random) * 2 - 1) / inputs**0.5
    return drawn.requires_grad_()


def _dropout(values: Tensor, random: torch.Generator) -> Tensor:
    kept = torch.rand(values.shape, generator=random) >= _DROPPED
    return values * kept / (1 - _DROPPED)
