"""Boosted trees as plain arrays: LightGBM's model text of this process in, scores out.

LightGBM's reader trusts its text. Cut off, it ends the process; with another child or feature
number it reads memory that isn't its own. A run folder may hold anything, so trees are kept as
arrays whose every index is checked before it is followed, and are walked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.members.member import Floats, array_of

MOST_CATEGORIES = 255
_CATEGORICAL, _DEFAULT_LEFT, _NAN_MISSING = 1, 2, 8  # bits of LightGBM's decision_type
_CELLS = 2_000_000  # rows times trees at a time: what bounds the memory
_NODES = ("feature", "threshold", "decision", "left", "right")


class Trees:
    """Trees of one model, walked together.

    Attributes:
        outputs: scores a row; tree i adds to output i modulo `outputs`.
        arrays: by name. A number for each inner node: `feature`, `threshold` (of a category, the
            row in `categories`), `decision` (LightGBM's bits), `left` and `right` (a later node, or
            a leaf's number inverted). Then `categories`, the codes that go left, 256 bits a row;
            `value` of each leaf; `root` of each tree, a node or an inverted leaf.
    """

    def __init__(self, outputs: int, arrays: dict[str, NDArray[Any]]) -> None:
        self.outputs, self.arrays = outputs, arrays

    @classmethod
    def from_text(cls, text: str) -> Trees:
        """Take the trees out of the text that LightGBM gave for a model of this process."""
        header, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
        told = dict(_facts(header))
        parts: dict[str, list[Any]] = {name: [] for name in (*_NODES, "value", "root")}
        bits: list[NDArray[np.uint8]] = [np.empty((0, 32), dtype=np.uint8)]
        nodes = leaves = sets = 0
        for block in blocks:
            tree = dict(_facts(block))
            values = _floats(tree["leaf_value"])
            parts["root"].append(np.array([nodes if len(values) > 1 else ~leaves]))
            parts["value"].append(values)
            if len(values) > 1:
                decision = _ints(tree["decision_type"])
                # Infinite where only the missing go right: all that isn't missing is below.
                threshold = np.nan_to_num(_floats(tree["threshold"]))
                if int(tree["num_cat"]):
                    found = _bits(_ints(tree["cat_boundaries"]), _ints(tree["cat_threshold"]))
                    threshold[decision & _CATEGORICAL > 0] += sets
                    bits.append(found)
                    sets += len(found)
                parts["feature"].append(_ints(tree["split_feature"]))
                parts["threshold"].append(threshold)
                parts["decision"].append(decision)
                for side in ("left", "right"):
                    child = _ints(tree[f"{side}_child"])
                    parts[side].append(np.where(child >= 0, child + nodes, child - leaves))
                nodes += len(values) - 1
            leaves += len(values)
        arrays = {
            name: np.concatenate(part or [np.empty(0)]).astype(
                np.float64 if name in ("threshold", "value") else np.int32
            )
            for name, part in parts.items()
        }
        return cls(
            int(told["num_tree_per_iteration"]), {**arrays, "categories": np.concatenate(bits)}
        )

    @property
    def count(self) -> int:
        """Trees in all."""
        return len(self.arrays["root"])

    def scores(self, matrix: Floats) -> Floats:
        """Return each row's sums of leaves, float64 (n, outputs), before softmax or sigmoid."""
        made = np.zeros((len(matrix), self.outputs))
        rows = max(1, _CELLS // max(1, self.count))
        for start in range(0, len(matrix), rows):
            leaves = self._leaves(matrix[start : start + rows])
            values = self.arrays["value"][leaves].reshape(len(leaves), -1, self.outputs)
            made[start : start + rows] = values.sum(axis=1)
        return made

    def state(self) -> dict[str, Any]:
        """Return the arrays."""
        return {"outputs": self.outputs, **self.arrays}

    @classmethod
    def from_state(cls, state: dict[str, Any], width: int, outputs: int) -> Trees:
        """Take back what `state` returned, for a matrix of `width` features.

        Raises:
            ValueError: an index leads out of the arrays, or back.
        """
        value, root = array_of(state, "value", (None,)), array_of(state, "root", (None,), "i")
        n, leaves = len(array_of(state, "feature", (None,), "i")), len(value)
        whole = {name: array_of(state, name, (n,), "i") for name in _NODES if name != "threshold"}
        threshold = array_of(state, "threshold", (n,))
        categories = array_of(state, "categories", (None, 32), "u")
        if state["outputs"] != outputs or len(root) % outputs:
            raise ValueError(f"trees don't give {outputs} outputs")
        if not _within(whole["feature"], 0, width) or not _within(whole["decision"], 0, 16):
            raise ValueError("a node asks for a feature that there isn't")
        categorical = whole["decision"] & _CATEGORICAL > 0
        if not _within(threshold[categorical], 0, len(categories)):
            raise ValueError("a node asks for categories that there aren't")
        for child in (whole["left"], whole["right"], root):
            if not _within(child, -leaves, n):
                raise ValueError("a node leads out of its tree")
        # Children come later than their node, so that every walk ends.
        for child in (whole["left"], whole["right"]):
            if np.any((child >= 0) & (child <= np.arange(n))):
                raise ValueError("a node leads back")
        arrays = {**whole, "threshold": threshold, "value": value, "root": root}
        return cls(outputs, {**arrays, "categories": categories})

    def _leaves(self, matrix: Floats) -> NDArray[np.int32]:
        held = self.arrays
        at = np.tile(held["root"], len(matrix))
        active = np.flatnonzero(at >= 0)
        while len(active):
            node = at[active]
            cell = matrix[active // self.count, held["feature"][node]]
            decision = held["decision"][node]
            missing = np.isnan(cell)
            left = np.where(missing, 0.0, cell) <= held["threshold"][node]
            default = missing & (decision & _NAN_MISSING > 0)
            left = np.where(default, decision & _DEFAULT_LEFT > 0, left)
            categorical = np.flatnonzero(decision & _CATEGORICAL)
            if len(categorical):
                # A missing category, code 255 here, goes right: no set has it.
                code = np.where(missing, MOST_CATEGORIES, cell)[categorical].astype(np.int64)
                row = held["threshold"][node[categorical]].astype(np.int64)
                left[categorical] = held["categories"][row, code >> 3] >> (code & 7) & 1
            at[active] = np.where(left, held["left"][node], held["right"][node])
            active = active[at[active] >= 0]
        leaves: NDArray[np.int32] = (~at).reshape(len(matrix), self.count)
        return leaves


def _facts(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name, value


def _ints(text: str) -> NDArray[np.int64]:
    return np.array(text.split(), dtype=np.int64)


def _floats(text: str) -> Floats:
    return np.array(text.split(), dtype=np.float64)


def _bits(boundaries: NDArray[np.int64], words: NDArray[np.int64]) -> NDArray[np.uint8]:
    # LightGBM's words of 32 bits, as many a set as it needs, to 256 bits a set.
    sets = np.zeros((len(boundaries) - 1, 8), dtype="<u4")
    for row, (start, end) in enumerate(pairwise(boundaries)):
        sets[row, : end - start] = words[start:end]
    return sets.view(np.uint8)


def _within(values: NDArray[Any], first: int, end: int) -> bool:
    return not len(values) or (values.min() >= first and values.max() < end)
