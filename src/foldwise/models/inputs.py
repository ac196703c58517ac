"""From slots and scaled numbers to features, or to tokens that attend with a text's.

In: categorical int64 (batch, categories) and numeric float32 (batch, numbers), nan where missing.
Out: `TabularFeatures` (batch, features) or `TabularTokens` (batch, columns, hidden).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foldwise.encoding.tabular import FIRST_SLOT, UNSEEN_SLOT


def embedding_size(slots: int, most: int) -> int:
    """Return the width of an embedding by the number of its slots: 1.6 n^0.56, as in fastai."""
    return min(most, round(1.6 * math.pow(slots, 0.56)))


class CategoryEmbeddings(nn.Module):
    """A table of vectors for each column.

    Args:
        slots: number of slots of each column.
        max_size: widest vector.
        dropout: share of the cells shown as unseen in training: what the unseen slot learns from.
    """

    def __init__(self, slots: Sequence[int], max_size: int, dropout: float) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, embedding_size(n, max_size)) for n in slots)
        self.dropout = dropout
        # Drawn from N(0, 1): from a tenth of that, 94 steps at 1e-3 led to an accuracy of 0.34, not
        # 0.61 (100 values that give the class away, 1,000 rows).
        for table in self.tables:
            # A slot that no training row shows says nothing.
            nn.init.zeros_(table.weight[:FIRST_SLOT].detach())  # type: ignore[index]

    @property
    def widths(self) -> list[int]:
        """Width of each column's vector."""
        return [table.embedding_dim for table in self.tables]  # type: ignore[misc]

    def forward(self, categorical: Tensor) -> list[Tensor]:
        """Map slots (B, n) to n vectors, each (B, width)."""
        if self.training and self.dropout > 0:
            hidden = torch.rand(categorical.shape, device=categorical.device) < self.dropout
            categorical = categorical.masked_fill(hidden, UNSEEN_SLOT)
        return [table(categorical[:, i]) for i, table in enumerate(self.tables)]


class LinearNumbers(nn.Module):
    """Multiply each number by a vector of its column and add another.

    Args:
        n: number columns.
        size: width d of a vector.
    """

    def __init__(self, n: int, size: int) -> None:
        super().__init__()
        self.linear = ColumnLinear(n, 1, size)

    def forward(self, numbers: Tensor) -> Tensor:
        """Map (B, n) to (B, n, d)."""
        return self.linear(numbers.unsqueeze(-1))  # type: ignore[no-any-return]


class PiecewiseLinearNumbers(nn.Module):
    """Encode each number by how far it fills each bin of its column, then linearly.

    Piecewise-linear encoding, equation 1 of Gorishniy et al. 2022: bin t of [b_(t-1), b_t) gives
    (x - b_(t-1)) / (b_t - b_(t-1)), cut to [0, 1] but in the first bin below and the last above.

    Args:
        edges: of each column's bins, ascending; two at least.
        size: width d of a vector.
    """

    start: Tensor
    width: Tensor
    low: Tensor
    high: Tensor
    used: Tensor

    def __init__(self, edges: Sequence[Sequence[float]], size: int) -> None:
        super().__init__()
        shape = (len(edges), max(len(column) for column in edges) - 1)  # (n, bins)
        start, width = torch.zeros(shape), torch.ones(shape)
        low, high, used = torch.zeros(shape), torch.ones(shape), torch.zeros(shape)
        for i, column in enumerate(edges):
            bounds, last = torch.tensor(column, dtype=torch.float64), len(column) - 2
            start[i, : last + 1] = bounds[:-1].float()
            width[i, : last + 1] = bounds.diff().float()
            used[i, : last + 1] = 1
            low[i, 0], high[i, last] = -math.inf, math.inf
        # Columns of fewer bins have bins at the end that are always 0. Not in the checkpoint: they
        # come from the fold's encoders.
        for name, value in (
            ("start", start),
            ("width", width),
            ("low", low),
            ("high", high),
            ("used", used),
        ):
            self.register_buffer(name, value, persistent=False)
        self.linear = ColumnLinear(shape[0], shape[1], size)

    def encode(self, numbers: Tensor) -> Tensor:
        """Map (B, n) to the piecewise-linear encoding (B, n, bins)."""
        filled = (numbers.unsqueeze(-1) - self.start) / self.width
        return torch.minimum(torch.maximum(filled, self.low), self.high) * self.used

    def forward(self, numbers: Tensor) -> Tensor:
        """Map (B, n) to (B, n, d)."""
        return self.linear(self.encode(numbers))  # type: ignore[no-any-return]


class PeriodicNumbers(nn.Module):
    """Encode each number by sines and cosines of learned frequencies, then linearly with ReLU.

    v = 2 pi c x, [sin(v), cos(v)], with c drawn from N(0, sigma^2): equation 2 of Gorishniy et al.
    2022, and its PLR form.

    Args:
        n: number columns.
        frequencies: of each column.
        sigma: standard deviation of the first frequencies.
        size: width d of a vector.
    """

    def __init__(self, n: int, frequencies: int, sigma: float, size: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(n, frequencies) * sigma)
        self.linear = ColumnLinear(n, 2 * frequencies, size)

    def encode(self, numbers: Tensor) -> Tensor:
        """Map (B, n) to sines and cosines (B, n, 2 * frequencies)."""
        angle = 2 * math.pi * self.frequencies * numbers.unsqueeze(-1)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def forward(self, numbers: Tensor) -> Tensor:
        """Map (B, n) to (B, n, d)."""
        return torch.relu(self.linear(self.encode(numbers)))


class NumberColumns(nn.Module):
    """Embed numbers; a missing one is its column's stand-in plus a vector that says so.

    Args:
        embedding: (B, n) -> (B, n, d).
        fill: what stands in for a missing number, of each column.
        size: width d.
    """

    fill: Tensor

    def __init__(self, embedding: nn.Module, fill: Sequence[float], size: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.register_buffer("fill", torch.tensor(fill, dtype=torch.float32), persistent=False)
        self.missing = nn.Parameter(torch.zeros(len(fill), size))

    @property
    def widths(self) -> list[int]:
        """Width of each column's vector."""
        return [self.missing.shape[1]] * self.missing.shape[0]

    def forward(self, numeric: Tensor) -> list[Tensor]:
        """Map numbers (B, n) to n vectors, each (B, d)."""
        missing = numeric.isnan()
        known = torch.where(missing, self.fill, numeric)
        vectors = self.embedding(known) + missing.unsqueeze(-1) * self.missing  # (B, n, d)
        return list(vectors.unbind(dim=1))


class TabularFeatures(nn.Module):
    """All columns' vectors side by side.

    Args:
        categories: of the category columns; None without any.
        numbers: of the number columns; None without any.
    """

    def __init__(
        self, categories: CategoryEmbeddings | None, numbers: NumberColumns | None
    ) -> None:
        super().__init__()
        self.categories = categories
        self.numbers = numbers

    @property
    def widths(self) -> list[int]:
        """Width of each column's vector, categories first."""
        parts = [part for part in (self.categories, self.numbers) if part is not None]
        return [width for part in parts for width in part.widths]

    def forward(self, categorical: Tensor | None, numeric: Tensor | None) -> Tensor:
        """Map slots (B, n) and numbers (B, m) to features (B, F)."""
        return torch.cat(self.vectors(categorical, numeric), dim=1)

    def vectors(self, categorical: Tensor | None, numeric: Tensor | None) -> list[Tensor]:
        """Return each column's vector, (B, width)."""
        vectors = [] if self.categories is None else self.categories(categorical)
        return vectors if self.numbers is None else [*vectors, *self.numbers(numeric)]


class TabularTokens(nn.Module):
    """A token for each column, as wide as the text's.

    Args:
        features: of the columns.
        hidden_size: width H of a token.
        initializer_range: standard deviation of the weights, the backbone's own, so that the
            tokens start about as long as those of words.
    """

    def __init__(
        self, features: TabularFeatures, hidden_size: int, initializer_range: float
    ) -> None:
        super().__init__()
        self.features = features
        self.project = nn.ModuleList(nn.Linear(width, hidden_size) for width in features.widths)
        for layer in self.project:
            nn.init.normal_(layer.weight, std=initializer_range)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, categorical: Tensor | None, numeric: Tensor | None) -> Tensor:
        """Map slots (B, n) and numbers (B, m) to tokens (B, n + m, H)."""
        vectors = self.features.vectors(categorical, numeric)
        projected = [layer(vector) for layer, vector in zip(self.project, vectors, strict=True)]
        return torch.stack(projected, dim=1)


class ColumnLinear(nn.Module):
    """A linear layer for each column: (B, n, k) -> (B, n, d).

    Args:
        n: columns.
        inputs: k.
        size: d.
    """

    def __init__(self, n: int, inputs: int, size: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(n, inputs, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n, size).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, n, k) to (B, n, d)."""
        return torch.einsum("bnk,nkd->bnd", features, self.weight) + self.bias
