"""What stands out in a table as a whole: a `Look` in, every finding out, warnings first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from foldwise.config.schema import Config
from foldwise.eda.column_findings import column_findings
from foldwise.eda.findings import Change, Finding, loads
from foldwise.eda.look import Look
from foldwise.eda.tokens import CUT_INPUTS, LENGTHS

UNEVEN = 10.0  # largest class by smallest, from which it is worth a word
DUPLICATED = 0.01
NAMED = 5


def find(look: Look) -> list[Finding]:
    """List what stands out."""
    parts = (_cut, _target, column_findings, _twins, _tokens)
    found = [_loadable(finding, look.rows.config) for part in parts for finding in part(look)]
    return sorted(found, key=lambda finding: finding.level == "note")


def _loadable(finding: Finding, config: Config) -> Finding:
    # A change can collide with another key of this config; what doesn't load isn't suggested.
    return replace(finding, changes=tuple(c for c in finding.changes if loads(c.config, config)))


def _target(look: Look) -> Iterator[Finding]:
    config, target = look.rows.config, look.target
    frame, name = look.rows.frame, look.rows.target
    missing = frame[name].null_count()
    if missing:
        change = Change(
            {"data": {"missing": {"target": "drop"}}},
            f"{missing:,} rows without {name!r} would stop the run",
        )
        refused = config.data.missing.target == "error"
        yield Finding(
            "target",
            "warning" if refused else "note",
            f"{missing:,} of {frame.height:,} rows have no {name!r}.",
            (change,) if refused else (),
        )
    if target.rare:
        yield _rare(look)
    if target.ratio >= UNEVEN:
        largest = max(target.classes, key=lambda entry: entry.rows)
        smallest = min(target.classes, key=lambda entry: entry.rows)
        change = Change(
            {"loss": {"class_weights": "sqrt"}},
            f"the largest class has {target.ratio:,.0f} times the rows of the smallest, which "
            "training would otherwise neglect",
        )
        unweighted = config.loss.class_weights == "none" and config.loss.name != "logit_adjustment"
        yield Finding(
            "imbalance",
            "note",
            f"The classes are uneven: {largest.label!r} has {largest.rows:,} rows, "
            f"{smallest.label!r} {smallest.rows:,} (ratio {target.ratio:,.0f}). Judge by macro-F1: "
            "accuracy hardly sees the small ones.",
            (change,) if unweighted and look.answers.ids is not None else (),
        )


def _rare(look: Look) -> Finding:
    config, target = look.rows.config, look.target
    one_each = look.answers.ids is not None
    named = ", ".join(
        f"{entry.label!r} ({entry.groups if one_each else entry.rows})"
        for entry in target.rare[:NAMED]
    )
    more = f" and {len(target.rare) - NAMED} more" if len(target.rare) > NAMED else ""
    merged = sum(entry.groups for entry in target.rare)
    mergeable = config.task == "multiclass" and merged >= config.folds.n and len(target.rare) > 1
    policy = "merge" if mergeable else "drop"
    unit = "distinct groups of rows" if one_each else "rows"
    kind = "class" if one_each else "label"
    count = f"{len(target.rare)} {kind}{'es' if one_each else 's'} have"
    if len(target.rare) == 1:
        count = f"One {kind} has"
    changes = [
        Change(
            {"data": {"rare_classes": policy}},
            f"{count} fewer {unit} than the {config.folds.n} folds",
        )
    ]
    if one_each:
        changes.append(
            Change(
                {"data": {"rare_classes": "train_only"}},
                "or train on the rare classes and never score them",
                instead=True,
            )
        )
    refused = config.data.rare_classes == "error"
    does = "would stop the run" if refused else f"fall under {config.data.rare_classes!r}"
    return Finding(
        "rare classes",
        "warning" if refused else "note",
        f"{count} fewer {unit} than there are folds ({config.folds.n}) and {does}: {named}{more}.",
        tuple(changes) if refused else (),
    )


def _twins(look: Look) -> Iterator[Finding]:
    twins, config, total = look.twins, look.rows.config, look.rows.used.height
    for first, last, again in twins.blocks[:NAMED]:
        yield Finding(
            "repeated block",
            "warning",
            f"Rows {first:,} to {last:,} repeat rows {again:,} to {again + last - first:,} in "
            "every column that the config uses: the table was joined with a part of itself.",
        )
    share = twins.near.rows_in_groups / max(total, 1)
    if share >= DUPLICATED:
        change = Change(
            {"folds": {"duplicates": "near"}},
            f"{share:.0%} of the rows are near-duplicates, which would lie on both sides of a fold",
        )
        loose = config.folds.duplicates != "near"
        yield Finding(
            "duplicates",
            "warning" if loose else "note",
            f"{twins.near.rows_in_groups:,} rows ({share:.1%}) are near-duplicates of another, in "
            f"{twins.near.n_groups_multi:,} groups of up to {twins.near.largest:,}"
            + ("." if loose else "; folds.duplicates keeps each group in one fold."),
            (change,) if loose else (),
        )
    if twins.disagreeing:
        yield Finding(
            "disagreement",
            "warning" if twins.rows_disagreeing >= DUPLICATED * total else "note",
            f"{twins.disagreeing:,} of {twins.near.n_groups_multi:,} groups of near-duplicates "
            f"disagree on {look.rows.target!r} ({twins.disagreeing_identical:,} of them identical "
            f"texts); {twins.rows_disagreeing:,} rows differ from their group's most frequent "
            "answer. No model can be right on both: look at the examples.",
        )


def _tokens(look: Look) -> Iterator[Finding]:
    tokens = look.tokens
    if tokens is None or tokens.long == "chunks":
        return
    cut = tokens.longer_than(tokens.max_length)
    if cut <= CUT_INPUTS:
        return
    limit = tokens.window or LENGTHS[-1]
    choices = [n for n in (*LENGTHS, limit) if tokens.max_length < n <= limit]
    fitting = [n for n in choices if tokens.longer_than(n) <= CUT_INPUTS]
    changes = []
    if choices:
        best = min(fitting) if fitting else max(choices)
        why = (
            f"{1 - tokens.longer_than(best):.0%} of the inputs fit in {best} tokens, "
            f"{1 - cut:.0%} in {tokens.max_length}; a step costs more the longer the input"
        )
        changes.append(Change({"text": {"max_length": best}}, why))
    if tokens.long == "truncate":
        why = "keep start and end of longer inputs, at the cost of keeping the start alone"
        changes.append(Change({"text": {"long": "head_tail"}}, why, instead=bool(changes)))
    beyond = tokens.longer_than(limit)
    if tokens.window and beyond > CUT_INPUTS:
        why = f"{beyond:.0%} of the inputs are longer than the backbone's {limit} tokens: read all"
        changes.append(Change({"text": {"long": "chunks"}}, why, instead=bool(changes)))
    yield Finding(
        "length",
        "note",
        f"{cut:.1%} of the inputs are longer than text.max_length ({tokens.max_length} tokens) and "
        f"lose {'their middle' if tokens.long == 'head_tail' else 'their end'}.",
        tuple(changes),
    )


def _cut(look: Look) -> Iterator[Finding]:
    for column in look.cuts.columns:
        yield Finding(
            "cut texts",
            "warning",
            f"{column.rows:,} values of {column.column!r} ({column.share:.1%}) end at exactly "
            f"{column.length:,} {column.unit}, the longest there is: an export seems to have cut "
            "them. Export again without the limit.",
        )
    for tail in look.cuts.tails:
        yield Finding(
            "cut table",
            "warning",
            f"{tail.column!r} is empty in the last {tail.rows:,} rows of the table, against "
            f"{tail.share_before:.1%} of the rows before: the table's end is cut, or it is sorted "
            "by that.",
        )
    if look.cuts.ending:
        yield Finding(
            "cut table",
            "warning",
            f"The file {look.rows.files[-1]} ends {look.cuts.ending}: its end is cut off. Copy or "
            "export it again.",
        )
