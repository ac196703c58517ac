"""What each word of a row adds to the answer's margin: all members together.

In: rows and their aims. Out: a number a word. The fine-tuned model's part comes from integrated
gradients, through the embeddings of the pieces of the word. The other members have no gradients: of
them it is by how much their own margin falls when the word is taken out, wherever it stands in the
row, shared among the places. Each counts by its weight in the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import nn

from foldwise.config.members import MODEL
from foldwise.encoding.text import words as texts_of
from foldwise.ensemble.choose import Chosen
from foldwise.explanation.aim import Aim
from foldwise.explanation.answered import Variant, margins_by_member, varied
from foldwise.explanation.effort import Effort
from foldwise.explanation.gradients import Path, check_captum, has_embeddings, integrate
from foldwise.explanation.tokens import Reader, Window
from foldwise.explanation.words import Word, without, word_at, words_in
from foldwise.predictor import Predictor

MOST_WORDS = 4_000  # of a cell that are looked for; a model reads fewer
MOST_KINDS = 200  # different words of a row that are taken out one by one
_MOST_CHARACTERS = 10_000_000  # of a row without each of them: of very long texts, fewer are


@dataclass(frozen=True)
class Credit:
    """What the words of a row add.

    Attributes:
        words: of the text columns, in their order.
        values: what each adds to the margin, float64 (words,).
        read: whether the fine-tuned model read it, bool (words,).
        other: what the fine-tuned model makes of punctuation.
        paths: of each fold's model; none where it has no vote.
        skipped: different words that weren't tried in the members without gradients.
    """

    words: list[Word]
    values: NDArray[np.float64]
    read: NDArray[np.bool_]
    other: float
    paths: list[Path]
    skipped: int


def weights_of(chosen: Chosen) -> dict[str, float]:
    """Return by how much each voting member's margin counts: its weight, over the temperature."""
    weights = dict(zip(chosen.names, chosen.weights.tolist(), strict=True))
    voting = {name: weights[name] if chosen.blended else 1.0 for name in chosen.voting}
    return {name: weight / chosen.decision.temperature for name, weight in voting.items()}


class Creditor:
    """Credits the words of rows, by one predictor.

    Args:
        predictor: of a finished run.
        effort: how much is computed.

    Raises:
        FoldwiseError: the model has a vote and captum isn't installed.
    """

    def __init__(self, predictor: Predictor, effort: Effort) -> None:
        self.predictor, self.effort = predictor, effort
        self.weights = weights_of(predictor.chosen)
        self.models: list[tuple[Any, nn.Module]] = [
            (task, model) for task, model in predictor.models if has_embeddings(model)
        ]
        self.by_trying = [n for n in self.weights if n != MODEL or not self.models]
        if self.models:
            check_captum()
        data = predictor.config.data
        self.texts = list(data.text)
        self.template = list(getattr(self.models[0][0], "columns", [])) if self.models else []
        self.reader = Reader(self.models[0][0]) if self.models else None

    def credit(self, rows: pl.DataFrame, aims: Sequence[Aim]) -> list[Credit]:
        """Credit the words of some rows.

        Args:
            rows: as the predictor takes them.
            aims: one a row.
        """
        cells = [
            {column: texts_of(rows[column][i : i + 1])[0] for column in self.template}
            for i in range(rows.height)
        ]
        # An empty cell reads as a word to the model, but has none that could be named.
        words = [
            [
                word
                for column in self.texts
                for word in words_in(column, rows[column][i] or "", MOST_WORDS)
            ]
            for i in range(rows.height)
        ]
        credits = self._by_gradients(rows, aims, cells, words)
        return self._with_tries(rows, aims, credits)

    def _by_gradients(
        self,
        rows: pl.DataFrame,
        aims: Sequence[Aim],
        cells: Sequence[dict[str, str]],
        words: Sequence[list[Word]],
    ) -> list[Credit]:
        found = [
            Credit(row, np.zeros(len(row)), np.zeros(len(row), dtype=bool), 0.0, [], 0)
            for row in words
        ]
        if self.reader is None:
            return found
        weight = self.weights[MODEL] / len(self.models)
        device = self.predictor.accelerator.device
        datasets = [(task, model, task.dataset(rows)) for task, model in self.models]
        for place, (credit, aim) in enumerate(zip(found, aims, strict=True)):
            windows = self.reader.windows(datasets[0][2], place, cells[place])
            places = _places(credit.words, windows)
            values, other, paths = credit.values, 0.0, []
            for task, model, dataset in datasets:
                item = dataset[place]
                path = integrate(model, task, item, windows, aim, device, self.effort)
                unit = weight * (task.half.deviation if aim.holds == "number" else 1.0)
                paths.append(path)
                for at, line in zip(places, path.tokens, strict=True):
                    np.add.at(values, at[at >= 0], unit * line[at >= 0])
                    other += unit * float(line[at < 0].sum())
            read = np.isin(np.arange(len(values)), np.concatenate(places))
            found[place] = Credit(credit.words, values, read, other, paths, 0)
        return found

    def _with_tries(
        self, rows: pl.DataFrame, aims: Sequence[Aim], credits: list[Credit]
    ) -> list[Credit]:
        if not self.by_trying or not self.texts:
            return credits
        variants, of = [], []
        kinds = [_kinds(credit) for credit in credits]
        sizes = [sum(len(rows[c][row] or "") for c in self.texts) for row in range(rows.height)]
        most = [min(MOST_KINDS, _MOST_CHARACTERS // max(1, size)) for size in sizes]
        for row, tried in enumerate(kinds):
            for kind in [None, *list(tried)[: most[row]]]:
                out = [] if kind is None else [credits[row].words[i] for i in tried[kind]]
                variants.append(Variant(row, cells_without(rows, row, out)))
                of.append((row, kind))
        found = margins_by_member(
            self.predictor,
            varied(rows, variants),
            [aims[row] for row, _ in of],
            self.by_trying,
            self.effort,
        )
        total = sum(self.weights[name] * margins for name, margins in found.items())
        made = dict(zip(of, np.asarray(total).tolist(), strict=True))
        for row, kind in of:
            if kind is not None:
                at = kinds[row][kind]
                credits[row].values[at] += (made[row, None] - made[row, kind]) / len(at)
        return [
            Credit(c.words, c.values, c.read, c.other, c.paths, max(0, len(tried) - n))
            for c, tried, n in zip(credits, kinds, most, strict=True)
        ]


def _places(words: Sequence[Word], windows: Sequence[Window]) -> list[NDArray[np.int64]]:
    # By window the word that each token is a piece of; -1: of none.
    by_column: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        by_column.setdefault(word.column, []).append(place)
    there = {column: [words[i] for i in at] for column, at in by_column.items()}

    def place_of(column: str, start: int, end: int) -> int:
        found = word_at(there.get(column, []), start, end)
        return -1 if found is None else by_column[column][found]

    return [
        np.array(
            [-1 if p is None else place_of(p.column, p.start, p.end) for p in window],
            dtype=np.int64,
        )
        for window in windows
    ]


def _kinds(credit: Credit) -> dict[str, list[int]]:
    # Those that the model read first: where there are too many, they are what is tried.
    kinds: dict[str, list[int]] = {}
    for place in np.argsort(~credit.read, kind="stable").tolist():
        kinds.setdefault(credit.words[place].kind, []).append(place)
    return kinds


def cells_without(rows: pl.DataFrame, row: int, out: Sequence[Word]) -> dict[str, str]:
    """Return a row's cells without some of its words, by column."""
    return {
        column: without(rows[column][row], [word for word in out if word.column == column])
        for column in {word.column for word in out}
    }
