"""Tables with planted faults, and the same table without any."""

from __future__ import annotations

import numpy as np
import polars as pl

ROWS = 400
CLASSES = ("red", "green", "blue")


def clean(rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    """Texts of a wide vocabulary, three even classes, and columns that know nothing of them."""
    rng = np.random.default_rng(seed)
    words = np.array([f"w{i}" for i in range(3000)])
    texts = [" ".join(rng.choice(words, size=rng.integers(8, 40))) for _ in range(rows)]
    return pl.DataFrame(
        {
            "id": [f"{i:05d}" for i in rng.permutation(rows)],
            "text": texts,
            "shop": rng.choice(["north", "south", "east", "west"], rows),
            "price": [f"{x:.2f}" for x in rng.normal(20, 5, rows)],
            "label": [CLASSES[i % 3] for i in rng.permutation(rows)],
        }
    )
