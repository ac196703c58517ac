"""A starter config: a table and its target column in, a commented YAML that trains as is out.

Every choice stands with its reason beside it, so that the file is a place to start changing things
rather than an answer. What is left out is listed too, and why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from foldwise.config.load import dump_value
from foldwise.config.rows import Data
from foldwise.config.schema import Config
from foldwise.eda.tokens import CUT_INPUTS, LENGTHS, tokens_of
from foldwise.errors import FoldwiseError
from foldwise.models.resolve import files_here
from foldwise.table.cells import parse_numbers, with_points
from foldwise.table.delimiters import usual_delimiter
from foldwise.table.giveaways import follows_from, nearly_empty
from foldwise.table.reading import FEW_WORDS, Table
from foldwise.table.roles import Guess, guess_role, guess_roles

_GIVES_AWAY = 0.97  # of the rows whose target a column's value tells
BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
_CHARACTERS = 4.0  # a token of English text, about
# Longer inputs than the usual cost more than they bring, unless a quarter of the rows is cut.
_USUAL, _CUT_BEYOND = 256, 0.25
_ORDERED = re.compile(
    r"(^|[^a-z])(ratings?|scores?|stars?|grades?|levels?|rank|severity|priority|satisfaction)"
    r"($|[^a-z])"
)
SMALL_BATCHES = 2000  # rows of a table up to which batches are of 16 rows


@dataclass(frozen=True)
class Starter:
    """What a table looks like to someone who writes its first config.

    Attributes:
        path: the table.
        target: column to predict.
        task: multiclass, multilabel, ordinal or regression.
        told: what the target looks like, in words.
        separator: between the labels of a multilabel cell, or None.
        roles: chosen columns by role.
        reasons: by column.
        left_out: columns that aren't used, and why.
        rows: of the table.
        no_target: why some rows have none, in words; None where all have one.
        sizes: rows of each class or label, fewest first; empty for numbers.
        max_length: tokens of text, or None without text.
        cut: share of the inputs that are longer.
        form: how the table is written, where its name doesn't say so: keys under data.
    """

    path: str
    target: str
    task: str
    told: str
    separator: str | None
    roles: dict[str, list[str]]
    reasons: dict[str, str]
    left_out: dict[str, str]
    rows: int
    no_target: str | None
    sizes: tuple[int, ...]
    max_length: int | None
    cut: float
    form: dict[str, str]


def look(data: Data, table: Table, lists: Sequence[str] = ()) -> Starter:
    """Look at a table and choose roles, task and settings.

    Args:
        data: path and target, as they will stand in the config.
        table: every column as strings, from `read_all`.
        lists: columns that hold lists; a target of lists is joined by ";" in the table.

    Raises:
        FoldwiseError: nothing can be learnt from the target or for it.
    """
    path, target = str(data.path), str(data.target)
    frame, decimal = _with_points(table, target)
    numbers, words = _numbers_alone(frame[target])
    frame = frame.with_columns(numbers)
    labels = frame[target].drop_nulls()
    if labels.n_unique() < 2:
        raise FoldwiseError(
            f"--target {target}: the column has {labels.n_unique()} different values; there is "
            "nothing to predict"
        )
    guesses = {guess.column: guess for guess in guess_roles(frame)}
    task, told, separator = _task(labels, guesses[target], target in lists)
    roles: dict[str, list[str]] = {"text": [], "categorical": [], "numeric": []}
    left_out, reasons = {name: f"can't be read: {why}" for name, why in table.unread.items()}, {}
    sets = task == "multilabel"
    least = _commonest(labels) + 0.1
    for name, guess in guesses.items():
        if name == target:
            continue
        follows = follows_from(frame[name], frame[target], sets=sets) or nearly_empty(frame[name])
        away = _gives_away(frame, name, target) if guess.role == "categorical" else 0.0
        reason = guess.reason
        if guess.role in ("categorical", "identifier") and (few := _numbers_alone(frame[name])[1]):
            reason += f"; numbers, though {few}: empty those cells to list it under numeric"
        if guess.role not in roles:
            left_out[name] = f"{guess.role}: {reason}"
        elif away >= _GIVES_AWAY:
            left_out[name] = f"its value tells the target of {away:.1%} of the rows"
        elif follows is not None:
            left_out[name] = follows
        else:
            roles[guess.role].append(name)
            told_away = f"; tells the target of {away:.0%} of the rows" if away > least else ""
            reasons[name] = reason + told_away
    if not any(roles.values()):
        raise FoldwiseError(
            f"{path}: no column to learn from is left beside {target!r}: "
            + "; ".join(f"{name} ({why})" for name, why in left_out.items())
        )
    max_length, cut = _max_length(frame, roles)
    return Starter(
        path=path,
        target=target,
        task=task,
        told=told,
        separator=separator,
        roles=roles,
        reasons=reasons,
        left_out=left_out,
        rows=frame.height,
        no_target=words or ("some rows have no target" if len(labels) < frame.height else None),
        sizes=_sizes(labels, task, separator),
        max_length=max_length,
        cut=cut,
        form=_form(data, table) | decimal,
    )


def write_config(found: Starter, name: str, code: str | None = None) -> str:
    """Write the config.

    Args:
        found: from `look`.
        name: of the run.
        code: a file of the user's own parts that holds a pooling `MyPooling`, or None.
    """
    folds = 5 if found.rows >= 200 else 3
    lines = [
        f"# What predicts {found.target!r}? Written from a look at the table; every line is yours",
        "# to change. `foldwise schema` and docs/config.md have the other keys.",
        f"#   foldwise train {name}.yaml",
        f"run: {{name: {dump_value(name)}}}",
        f"task: {found.task:<24} # {found.told}",
        "",
        "data:",
        f"  path: {dump_value(found.path)}",
        *(f"  {key}: {dump_value(value)}" for key, value in found.form.items()),
        f"  target: {dump_value(found.target)}",
    ]
    if found.separator is not None:
        lines.append(f"  separator: {dump_value(found.separator)}")
    for role, columns in found.roles.items():
        if columns:
            lines.append(f"  {role}:")
            lines += [f"    - {dump_value(c)}  # {printable(found.reasons[c])}" for c in columns]
    if found.left_out:
        lines.append("  # left out:")
        lines += [f"  #   {printable(c)} ({printable(why)})" for c, why in found.left_out.items()]
    if found.no_target is not None:
        lines.append(f"  missing: {{target: drop}}     # {printable(found.no_target)}")
    # Twice as many as folds: near-identical rows count as one.
    rare = [size for size in found.sizes if size < 2 * folds]
    if rare:
        mergeable = sum(size for size in rare if size < folds)
        policy = "merge" if mergeable >= 2 * folds and found.task == "multiclass" else "drop"
        said = f"the rarest has {rare[0]} row{'s' if rare[0] > 1 else ''}"
        lines.append(f"  rare_classes: {policy:<13} # {said}; error, merge, drop or train_only")
    lines += [
        "",
        f"folds: {{n: {folds}}}                  # near-identical texts stay in one fold",
        "# holdout: {fraction: 0.1}   # rows kept out of all folds, for a last look",
    ]
    if found.roles["text"]:
        told = (
            "no input is longer" if not found.cut else f"{found.cut:.0%} of the inputs are longer"
        )
        lines += [f"text: {{max_length: {found.max_length}}}       # tokens; {told}"]
    lines += _model(found, code)
    lines.append(
        "# ensemble: model            # the fine-tuned model alone; else a blend with simpler ones"
    )
    if found.rows <= SMALL_BATCHES:
        lines.append("training: {batch_size: 16}   # epochs: auto, for enough steps of so few rows")
    return "\n".join([*lines, ""])


def printable(text: str) -> str:
    """Write text on one line without control characters: YAML has none, not even in a comment."""
    line = re.sub(r"\s+", " ", text)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


POOLING = '''"""Parts of your own: change them, or add others, and name them in the config."""

from torch import nn


class MyPooling(nn.Module):
    """Mean of the tokens, each weighted by a learned score."""

    def __init__(self, hidden_size):
        super().__init__()
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, hidden_states, attention_mask):  # (B, L, H), (B, L) -> (B, H)
        scores = self.score(hidden_states).squeeze(-1)
        scores = scores.masked_fill(attention_mask == 0, float("-inf"))
        weights = scores.softmax(dim=1).unsqueeze(-1)
        return (hidden_states * weights).sum(dim=1)
'''


def _model(found: Starter, code: str | None) -> list[str]:
    if not found.roles["text"]:
        return ["model: {fusion: concat}      # no text: the columns alone, without a backbone"]
    lines = ["model:", f"  backbone: {BACKBONE}"]
    if code is None:
        lines.append("  pooling: mean")
    else:
        lines = [f"code: [{dump_value(code)}]", *lines]
        lines.append(f"  pooling: {code.removesuffix('.py')}.MyPooling   # yours: see {code}")
    return lines


def _task(labels: pl.Series, guess: Guess, is_list: bool) -> tuple[str, str, str | None]:
    unique = labels.n_unique()
    if is_list:
        return "multilabel", "the column holds lists", None
    if guess.role == "numeric" or (guess.role == "identifier" and _numbers(labels)):
        return "regression", guess.reason, None
    separator = _separator(labels)
    if separator is not None:
        return "multilabel", f"labels separated by {separator!r}", separator
    if _ordered(labels):
        return "ordinal", f"{unique} whole numbers, and {labels.name!r} has an order", None
    if guess.role in ("text", "identifier") or unique > max(100, len(labels) // 5):
        raise FoldwiseError(
            f"--target {labels.name}: {unique:,} different values in {len(labels):,} rows are too "
            "many for classes, and they aren't numbers; choose another column"
        )
    if _numbers(labels) and unique > 2:
        return "multiclass", f"{unique} whole numbers; if their order matters: ordinal", None
    return "multiclass", f"{unique} classes", None


def _numbers_alone(cells: pl.Series) -> tuple[pl.Series, str | None]:
    """Empty the few cells of a column of amounts that are words, such as `Unrated`, and say so.

    Levels (few whole numbers) keep theirs: beside them a word may well be a class.
    """
    _, bad = parse_numbers(cells)
    words = cells.filter(bad)
    alone = cells.set(bad, None)
    few = 0 < len(words) <= FEW_WORDS * cells.count()
    if not few or guess_role(alone).role != "numeric":
        return cells, None
    shown = ", ".join(map(repr, words.unique(maintain_order=True).to_list()[:3]))
    hold = "row holds" if len(words) == 1 else "rows hold"
    return alone, f"{len(words)} {hold} no number there ({shown[:60]})"


def _numbers(labels: pl.Series) -> bool:
    return labels.cast(pl.Float64, strict=False).null_count() == 0


def _ordered(labels: pl.Series) -> bool:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", labels.name).lower()
    return labels.n_unique() > 2 and _numbers(labels) and _ORDERED.search(spaced) is not None


def _sizes(labels: pl.Series, task: str, separator: str | None) -> tuple[int, ...]:
    if task == "regression":
        return ()
    if task == "multilabel":
        labels = labels.str.split(separator or ";").explode().str.strip_chars()
        labels = labels.filter(labels != "")
    return tuple(sorted(labels.value_counts()["count"].to_list()))


def _separator(labels: pl.Series) -> str | None:
    # Several labels a cell: the pieces are few and come back in other cells. A comma stands in the
    # names of classes and in numbers too, so most pieces have to come back in other company.
    for sign in (";", "|", ","):
        cells = labels.unique().str.split(sign)
        several = (labels.str.count_matches(sign, literal=True) > 0).mean()
        pieces = cells.explode().str.strip_chars()
        if several is None or several <= 0.2 or pieces.n_unique() >= len(cells):  # type: ignore[operator]
            continue
        again = float((pieces.value_counts()["count"] > 1).mean() or 0)  # type: ignore[arg-type]
        if sign != "," or (again > 0.5 and not _numbers(pieces)):
            return sign
    return None


def _gives_away(frame: pl.DataFrame, column: str, target: str) -> float:
    """Return the share of rows whose target is their value's most frequent one, rare values aside.

    A value that occurs once tells nothing: its row counts by the commonest target of all.
    """
    pairs = frame.select(column, target).drop_nulls(target)
    counts = pairs.group_by(column, target).len()
    by_value = counts.group_by(column).agg(pl.col("len").max().alias("most"), pl.col("len").sum())
    often = by_value.filter(pl.col("len") > 1)
    alone = pairs.height - int(often["len"].sum())
    return (int(often["most"].sum()) + alone * _commonest(pairs[target])) / pairs.height


def _commonest(labels: pl.Series) -> float:
    return int(labels.value_counts()["count"].to_numpy().max()) / len(labels)


def _max_length(frame: pl.DataFrame, roles: dict[str, list[str]]) -> tuple[int | None, float]:
    """Choose a length, and say which share of the inputs it cuts.

    The backbone's own tokenizer counts the whole template where it lies on this machine, else
    characters are counted.
    """
    if not roles["text"]:
        return None, 0.0
    columns = [*roles["numeric"], *roles["categorical"], *roles["text"]]
    folder, limit = files_here(BACKBONE), LENGTHS[-1]
    lengths: np.ndarray
    if folder is None:
        characters = [frame[name].str.len_chars().fill_null(0).to_numpy() for name in columns]
        lengths = np.sum(characters, axis=0) / _CHARACTERS + len(columns) + 1
        limit = 512
    else:
        config = Config.model_validate(
            {
                "run": {"name": "init"},
                "data": {"path": "-", "target": "-", "text": ["--"]},
                "model": {"backbone": BACKBONE},
            }
        )
        tokens = tokens_of(frame, columns, config, folder)
        lengths, limit = tokens.lengths, tokens.window or limit
    choices = [length for length in LENGTHS if length <= limit]
    cuts = {length: float((lengths > length).mean()) for length in choices}
    fitting = [n for n in choices if cuts[n] <= (CUT_INPUTS if n <= _USUAL else _CUT_BEYOND)]
    chosen = min(fitting, default=choices[-1])
    return chosen, cuts[chosen]


def _with_points(table: Table, target: str) -> tuple[pl.DataFrame, dict[str, str]]:
    """Write numbers with a decimal comma as others; where there are some, say so to the config.

    Of a CSV with commas between its cells none are: 1,5 is two labels there rather than a number.
    """
    delimiters = {form.delimiter for form in table.forms.values()}
    if not delimiters or delimiters & {"auto", ","}:
        return table.frame, {}
    frame, commas = with_points(table.frame)
    if guess_role(frame[target]).role != "numeric":  # its labels are classes, as they stand
        frame, commas = frame.with_columns(table.frame[target]), [c for c in commas if c != target]
    return frame, {"decimal": ","} if commas else {}


def _form(data: Data, table: Table) -> dict[str, str]:
    # What was asked for, and what was found that the file's name doesn't tell.
    found = {"encoding": data.encoding, "delimiter": data.delimiter}
    for file, form in table.forms.items():
        if form.encoding != "utf-8":
            found["encoding"] = form.encoding
        if form.delimiter not in ("auto", usual_delimiter(file)):
            found["delimiter"] = form.delimiter
    return {key: value for key, value in found.items() if value != "auto"}
