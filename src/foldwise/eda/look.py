"""The whole look at a table: a config in, everything that the page and the terminal show out.

No training takes place and nothing is written. The tokens are counted on a thread of their own:
the tokenizer lets go of Python's lock, so they cost no time beside the duplicates.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from foldwise.config.schema import Config
from foldwise.eda.answers import Answers, read_answers
from foldwise.eda.cuts import Cuts, find_cuts
from foldwise.eda.duplicates import Twins, find_twins
from foldwise.eda.leaks import Leaks, find_leaks
from foldwise.eda.missingness import Missingness, relate_missing
from foldwise.eda.overview import Column, describe_columns
from foldwise.eda.rows import Rows, read_rows
from foldwise.eda.target import Target, describe_target
from foldwise.eda.tokens import Tokens, count_tokens
from foldwise.table.duplicates import join_groups


@dataclass(frozen=True)
class Look:
    """What a look at a table found.

    Attributes:
        rows: the table.
        columns: every column at a glance.
        answers: the target of the rows that a run would use.
        target: its distribution.
        tokens: lengths of the inputs; None without text.
        twins: duplicates.
        leaks: what each column alone predicts.
        missing: how empty cells go with the target.
        cuts: what an export cut off.
    """

    rows: Rows
    columns: tuple[Column, ...]
    answers: Answers
    target: Target
    tokens: Tokens | None
    twins: Twins
    leaks: Leaks
    missing: tuple[Missingness, ...]
    cuts: Cuts


def look_at(config: Config) -> Look:
    """Look at a config's table.

    Raises:
        FoldwiseError: the table or the backbone's tokenizer can't be read.
    """
    rows = read_rows(config)
    answers = read_answers(rows)
    with ThreadPoolExecutor(max_workers=1) as aside:
        counting = aside.submit(count_tokens, rows)
        columns = tuple(describe_columns(rows))
        twins = find_twins(rows, answers)
        cuts = find_cuts(rows)
        tokens = counting.result()
    return Look(
        rows=rows,
        columns=columns,
        answers=answers,
        target=describe_target(answers, _fold_groups(rows, twins), config),
        tokens=tokens,
        twins=twins,
        leaks=find_leaks(rows, answers, twins.near.group),
        missing=tuple(relate_missing(rows, answers)),
        cuts=cuts,
    )


def _fold_groups(rows: Rows, twins: Twins) -> np.ndarray:
    # As prepare.py groups them: what folds.duplicates asks for, joined with folds.group.
    folds = rows.config.folds
    alone = np.arange(rows.used.height)
    group = {"near": twins.near.group, "identical": twins.identical.group, "ignore": alone}
    chosen = group[folds.duplicates]
    return chosen if folds.group is None else join_groups(chosen, rows.used[folds.group])
