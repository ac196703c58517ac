"""The model card of an export: README.md, as people and the Hugging Face hub read it.

In: a source, and what the check of its copy found. Out: text. All of it is made from the run. Names
of columns, labels and files are strangers' words: each is written so that it is no markup.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from foldwise.config.members import MODEL
from foldwise.evaluation.words import figure, in_a_sentence, in_the_table, listed, metric_name
from foldwise.export.bundle import Checked
from foldwise.export.graph import OPSET
from foldwise.export.scores import Scored
from foldwise.export.source import Source
from foldwise.models.copies import copies_of
from foldwise.run.folder import DISTILLED, REFIT

Kind = Literal["onnx", "huggingface"]
MOST_CLASSES = 200
_SHOWN = 100  # characters of a name
_KINDS = {"label": "text-classification", "labels": "text-classification", "number": "regression"}
_TYPES = ("accuracy", "f1", "precision", "recall")


def write_card(
    source: Source,
    kind: Kind,
    scored: Sequence[Scored],
    found: Checked,
    quantized: Checked | None = None,
    separator: str = "",
) -> str:
    """Return the card of an export.

    Args:
        source: what was exported.
        kind: of the folder.
        scored: the model on rows it has not trained on.
        found: by the check of the copy.
        quantized: the same in int8, where that was asked for.
        separator: between two columns of a whole text (huggingface).
    """
    front = yaml.safe_dump(
        _front(source, kind, scored), allow_unicode=True, sort_keys=False, width=100
    )
    sections = (
        _opening(source),
        _use(source, kind, separator),
        _data(source),
        _training(source),
        _scores(source, scored),
        _classes(scored),
        _checked(source, kind, found, quantized),
        _limits(source, kind, quantized),
        _versions(source, kind),
    )
    body = "\n\n".join("\n".join(lines) for section in sections if (lines := list(section)))
    return f"---\n{front}---\n\n{body}\n"


def plain(text: object, most: int = _SHOWN) -> str:
    """Return a stranger's words as markdown that shows them, inside a line, and does nothing else.

    Args:
        text: the words.
        most: characters of them.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    line = line if len(line) <= most else f"{line[: most - 3]}..."
    marked = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(line, quote=False))
    # A bare address would become a link.
    return re.sub(r"(?i)\b(https?|ftp)(:)|\b(www)(\.)|(@)", _broken, marked)


def _broken(match: re.Match[str]) -> str:
    word = match[1] or match[3] or ""
    return f"{word}&#{ord(match[0][len(word)])};"


def _front(source: Source, kind: Kind, scored: Sequence[Scored]) -> dict[str, Any]:
    config, task = source.config, source.task
    pipeline = _KINDS[task.holds]
    if not config.data.text:
        pipeline = f"tabular-{'regression' if task.holds == 'number' else 'classification'}"
    elif task.holds == "number":
        pipeline = "text-classification"  # what the hub calls a text's score, too
    front: dict[str, Any] = {
        "library_name": "transformers" if kind == "huggingface" else "onnx",
        "pipeline_tag": pipeline,
        "tags": ["foldwise", *([] if kind == "huggingface" else ["onnx"])],
    }
    backbone = config.model.backbone
    if re.fullmatch(r"[\w.-]+/[\w.-]+", backbone) and not Path(backbone).exists():
        front["base_model"] = backbone
    results = [
        {
            "task": {"type": pipeline},
            "dataset": {
                "name": f"{_table(source)} ({each.what}, {each.rows} rows)",
                "type": re.sub(r"[^A-Za-z0-9]+", "-", _table(source)).strip("-") or "table",
            },
            "metrics": [
                {"type": _type(name), "name": metric_name(name), "value": round(value, 6)}
                for name, entry in each.scores.items()
                if (value := entry["value"]) is not None and math.isfinite(value)
            ],
        }
        for each in scored
    ]
    if results:
        front["model-index"] = [{"name": source.run.path.name, "results": results}]
    return front


def _type(metric: str) -> str:
    return next((name for name in _TYPES if metric.split("_")[0] == name), metric)


def _opening(source: Source) -> Iterator[str]:
    target = plain(source.task.target)
    kind = {
        "label": f"one of {len(source.task.classes)} labels",
        "labels": f"any of {len(source.task.classes)} labels",
        "number": "a number",
    }[source.task.holds]
    yield f"# {plain(source.run.path.name)}"
    yield ""
    yield f"Predicts {target} ({kind}) of a row. {_what(source)}"
    if told := compared(source):
        yield ""
        yield told


def _what(source: Source) -> str:
    folds = source.predictor.folds
    named = {
        REFIT: "one model, trained on the rows of all folds,",
        DISTILLED: "one model that was taught the answer",
    }.get(source.name, f"the mean of the models of folds {', '.join(map(str, folds))}")
    if len(folds) == 1:
        named = f"the model of fold {folds[0]}"
    backbone = plain(Path(source.config.model.backbone).name)
    tuned = f", fine-tuned from {backbone}" if source.config.data.text else ""
    copies = len(copies_of(source.models[0][1]))
    mean = f" It answers by the mean of {copies} networks' logits." if copies > 1 else ""
    return f"It is {named} of a cross-validated run of Foldwise{tuned}.{mean}"


def compared(source: Source) -> str:
    """Say where the exported model isn't what the run answers with; nothing where it is.

    Both scores are those of all folds, out of fold.
    """
    answer, members = source.metrics.get("answer"), source.metrics.get("members", {})
    if not answer or not members or source.name == DISTILLED:
        return ""
    voting = [name for name, weight in answer["weights"].items() if weight]
    if voting == [MODEL]:
        return ""
    voting = [plain(in_a_sentence(name)) for name in voting]
    metric = str((source.metrics.get("verdict") or {}).get("metric"))
    if metric not in source.metrics["oof"]:
        metric = next(iter(source.metrics["oof"]))
    whole, model = source.metrics["oof"][metric], members[MODEL]["oof"][metric]
    return (
        f"The run answers with more than this: {listed(voting)}, by weights. Out of fold its "
        f"answer has a {metric_name(metric)} of {_interval(whole)}, the fine-tuned models alone "
        f"{_interval(model)}. Only the fine-tuned model is here; `foldwise distill` teaches one "
        "the answer."
    )


def _use(source: Source, kind: Kind, separator: str) -> Iterator[str]:
    yield "## How to use"
    yield ""
    data = source.config.data
    if kind == "onnx":
        row = {name: "..." for name in [*data.text, *data.categorical]}
        row |= dict.fromkeys(data.numeric, 1.5)  # type: ignore[arg-type]
        yield "```"
        yield "pip install numpy onnxruntime tokenizers"
        yield "python predict.py table.csv -o labelled.csv"
        yield "```"
        yield ""
        yield "```python"
        yield "from predict import Model"
        yield ""
        yield f'Model(".").predict([{json.dumps(row)}])'
        yield "```"
        yield ""
        yield 'An empty cell is the word "missing"; the other columns of a table don\'t matter.'
        return
    columns = source.task.columns
    text = separator.join("..." for _ in columns)
    yield "```python"
    yield "from transformers import pipeline"
    yield ""
    yield 'classify = pipeline("text-classification", model=".", tokenizer=".")'
    applied = ', function_to_apply="none"' if source.task.holds == "number" else ""
    applied = ", top_k=None" if source.task.holds == "labels" else applied
    yield f"classify({json.dumps(text)}, truncation=True{applied})"
    yield "```"
    yield ""
    if len(columns) > 1:
        named = ", ".join(map(plain, columns))
        yield (
            f"A row's text is its columns in this order: {named}, with {json.dumps(separator)} and "
            'nothing else between two of them. A number is written as by `f"{x:.6g}"`.'
        )
    yield 'An empty cell is the word "missing". `truncation=True` is needed for long texts.'


def _data(source: Source) -> Iterator[str]:
    data, counts = source.config.data, source.manifest.get("counts", {})
    yield "## Data"
    yield ""
    yield f"- Table: {plain(_table(source))}, SHA-256 {source.manifest['data_sha256']}"
    rows = counts.get("rows", {})
    for key, label in (("cv", "cross-validation"), ("holdout", "holdout")):
        if rows.get(key):
            yield f"- Rows for {label}: {int(rows[key]):,}"
    for role in ("text", "categorical", "numeric"):
        if names := getattr(data, role):
            yield f"- Columns ({role}): {', '.join(map(plain, names))}"
    classes = counts.get("classes") or {}
    if isinstance(classes, dict) and classes:
        yield ""
        yield "| class | rows |"
        yield "|---|--:|"
        for name, count in list(classes.items())[:MOST_CLASSES]:
            yield f"| {plain(name)} | {int(count):,} |"
        if len(classes) > MOST_CLASSES:
            yield f"| and {len(classes) - MOST_CLASSES} more | |"


def _training(source: Source) -> Iterator[str]:
    config = source.config
    yield "## Training"
    yield ""
    told = {
        "folds": f"{config.folds.n}, {config.folds.strategy.name}",
        "epochs": config.training.epochs,
        "optimizer": config.optimizer.name,
        "learning rate": config.optimizer.lr,
        "loss": config.loss.name,
        "seed": config.run.seed,
    }
    if config.data.text:
        told |= {
            "longest input": f"{config.text.max_length} tokens ({config.text.long})",
            "pooling": config.model.pooling.name,
            "columns enter by": config.model.fusion.name,
        }
    for name, value in told.items():
        yield f"- {name}: {plain(value)}"


def _scores(source: Source, scored: Sequence[Scored]) -> Iterator[str]:
    yield "## Scores"
    yield ""
    names = [metric.name for metric in source.task.metrics()]
    if scored:
        yield "Of this model, on rows that it has not trained on, with 95% intervals:"
        yield ""
        yield f"| rows | {' | '.join(plain(metric_name(name)) for name in names)} |"
        yield f"|---|{'--:|' * len(names)}"
    else:
        yield "No rows are known that this model has not trained on: it has no score of its own."
    for each in scored:
        cells = " | ".join(_interval(each.scores[name]) for name in names)
        yield f"| {each.what} ({each.rows:,}) | {cells} |"
    if not source.metrics:
        return
    table = in_the_table(source.metrics)
    yield ""
    yield "Of the run, out of fold: its answer, then each member, baselines among them:"
    yield ""
    yield f"| who | {' | '.join(plain(metric_name(name)) for name in names)} |"
    yield f"|---|{'--:|' * len(names)}"
    for who, entry in table.items():
        cells = " | ".join(_interval(entry["oof"].get(name)) for name in names)
        yield f"| {plain(who)} | {cells} |"


def _classes(scored: Sequence[Scored]) -> Iterator[str]:
    if not scored or not scored[-1].classes:
        return
    yield "## By class"
    yield ""
    yield f"On {scored[-1].rows:,} rows ({scored[-1].what}):"
    yield ""
    yield "| class | precision | recall | F1 | rows |"
    yield "|---|--:|--:|--:|--:|"
    for entry in scored[-1].classes[:MOST_CLASSES]:
        numbers = " | ".join(figure(entry[key]) for key in ("precision", "recall", "f1"))
        yield f"| {plain(entry['label'])} | {numbers} | {entry['support']:,} |"


def _checked(
    source: Source, kind: Kind, found: Checked, quantized: Checked | None
) -> Iterator[str]:
    number = source.task.holds == "number"
    what = "numbers, in deviations of the target," if number else "probabilities"
    what = "logits" if kind == "huggingface" and not number else what
    labels = "" if number else f"{found.differing} get another label and "
    yield "## Checked"
    yield ""
    yield (
        f"On {plain(found.rows)}, beside the run's own model in PyTorch, {labels}{what} differ by "
        f"{found.largest:.1e} at most."
    )
    if quantized is not None:
        yield ""
        yield lost(source, quantized)


def lost(source: Source, quantized: Checked) -> str:
    """Say what int8 costs, on the same rows."""
    differ = f"differ from those in float32 by up to {quantized.largest:.2g}"
    if source.task.holds == "number":
        told = f"In int8, of {quantized.rows}, numbers {differ} deviations of the target."
    else:
        told = (
            f"In int8, of {quantized.rows}, {quantized.differing} get another label than in "
            f"float32, and probabilities {differ}."
        )
    changes = [
        f"{metric_name(name)} {figure(quantized.before[name])} to {figure(quantized.scores[name])}"
        for name in quantized.scores
    ]
    return f"{told} Scores there: {', '.join(changes)}." if changes else told


def _limits(source: Source, kind: Kind, quantized: Checked | None) -> Iterator[str]:
    config = source.config
    yield "## Limits"
    yield ""
    yield "- The scores hold for rows like those of the table; for others nobody has measured."
    if config.data.text and config.text.long != "chunks":
        yield f"- Of a row no more than {config.text.max_length} tokens are read."
    for number in source.predictor.folds if len(source.predictor.folds) == 1 else ():
        yield f"- It learnt from the rows of the other folds, not from those of fold {number}."
    if config.training.precision != "float32":
        yield f"- It was trained in {config.training.precision} and computes in float32 here."
    if quantized is not None:
        yield "- int8 is quick where the CPU has VNNI instructions; without them it may be slower."
    if kind == "huggingface":
        yield '- A special token typed in a text, such as "[SEP]", is read as one here.'
    yield "- No licence is stated: that of the data and of the backbone decide."


def _versions(source: Source, kind: Kind) -> Iterator[str]:
    yield "## Versions"
    yield ""
    versions = source.manifest.get("versions", {})
    named = ", ".join(f"{plain(name)} {plain(value)}" for name, value in versions.items())
    opset = f" ONNX opset {OPSET}." if kind == "onnx" else ""
    yield f"Trained with {named or 'unknown versions'}.{opset}"


def _interval(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "n/a"
    value, low, high = (figure(entry[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _table(source: Source) -> str:
    return Path(str(source.config.data.path)).name
