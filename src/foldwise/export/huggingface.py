"""A plain Hugging Face folder: what transformers' own classes read, and nothing else.

In: a source of one model whose pooling and head are those of an `...ForSequenceClassification`.
Out: a folder for `AutoModelForSequenceClassification` and `pipeline("text-classification")`, whose
logits, loaded anew and from whole texts, are the run's to 1e-5.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from foldwise.encoding.text import frame_of, words
from foldwise.errors import FoldwiseError
from foldwise.export.bundle import Checked
from foldwise.export.heads import check_fits, head_weights
from foldwise.export.source import Source
from foldwise.models.backbone import load_tokenizer, read_config
from foldwise.models.copies import copies_of
from foldwise.tasks.text_classification import TextClassification
from foldwise.training.inference import infer

NEAR = 1e-5  # how far a logit may be from the run's, of one that is 1 or less
PROBLEMS = {
    "label": "single_label_classification",
    "labels": "multi_label_classification",
    "number": "regression",
}


def write_huggingface(source: Source, folder: Path) -> Checked:
    """Fill a folder, load it again, and check it.

    Args:
        source: of one model.
        folder: exists, and is empty.

    Raises:
        FoldwiseError: transformers has no such model, or the folder doesn't answer as the run's.
    """
    if len(source.models) > 1:
        raise FoldwiseError("--to huggingface: holds one model; name it, as by --model fold-1")
    task, model = source.models[0]
    if (copies := len(copies_of(model))) > 1:
        raise FoldwiseError(
            f"--to huggingface: training.seeds: the model is the mean of {copies} networks, and "
            f"AutoModelForSequenceClassification is one; foldwise distill {source.run.path} makes "
            "one of them (--model distilled), or export --to onnx, which carries any model"
        )
    check_fits(source.config, task.model_config.model_type, int(task.model_config.hidden_size))
    _weights(task, model).save_pretrained(folder)
    tokenizer = _tokenizer(task)
    tokenizer.save_pretrained(folder)
    return _check(source, folder)


def texts_of(task: TextClassification, rows: pl.DataFrame, separator: str) -> list[str]:
    """Return rows as whole texts: the template's columns, joined by the separator's token."""
    cells = [words(rows[column]) for column in task.columns]
    return [separator.join(row) for row in zip(*cells, strict=True)]


def separator_of(tokenizer: Any) -> str:
    """Return what stands between two columns in a whole text."""
    return "\n" if tokenizer.sep_token is None else str(tokenizer.sep_token)


def _weights(task: Any, model: Any) -> Any:
    settings = read_config(task.folder)
    labels = task.classes or [task.target]
    settings.id2label = dict(enumerate(labels))
    settings.label2id = {label: number for number, label in enumerate(labels)}
    settings.problem_type = PROBLEMS[task.holds]
    settings.pad_token_id = frame_of(task.tokenizer).pad
    kind, hidden_size = settings.model_type, int(settings.hidden_size)
    ours = model.backbone.state_dict()
    norm = ours.get("ln_f.bias")
    head = _in_units(model.head, task) if task.holds == "number" else model.head
    made = head_weights(head, kind, settings, hidden_size, norm)
    theirs: Any = AutoModelForSequenceClassification.from_config(settings, dtype=torch.float32)
    prefix = theirs.base_model_prefix
    weights = {f"{prefix}.{name}": tensor for name, tensor in ours.items()} | made
    found = theirs.load_state_dict(weights, strict=False)
    if lacking := [*found.missing_keys, *found.unexpected_keys]:
        raise FoldwiseError(
            f"--to huggingface: {type(theirs).__name__} doesn't take this model's weights: "
            f"{lacking[0]} is only in one of them; export --to onnx"
        )
    return theirs.eval()


def _in_units(head: Any, task: Any) -> Any:
    # Ours gives deviations from the training rows' mean; a pipeline shows what the model gives.
    head = copy.deepcopy(head)
    last = [layer for layer in head.layers if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(task.half.deviation)
        last.bias.mul_(task.half.deviation).add_(task.half.mean)
    return head


def _tokenizer(task: TextClassification) -> Any:
    tokenizer = load_tokenizer(task.folder)
    tokenizer.backend_tokenizer.no_truncation()  # of a length that another model had
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.model_max_length = task.config.text.max_length
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(frame_of(tokenizer).pad)
    return tokenizer


def _check(source: Source, folder: Path) -> Checked:
    task, model = source.models[0]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = texts_of(task, source.rows.frame, separator_of(tokenizer))
    # Its tokenizer takes a "[SEP]" in a text for the token, ours doesn't.
    special = [token for token in tokenizer.all_special_tokens if token != "\n"]
    counts = [text.count(separator_of(tokenizer)) for text in texts]
    plain = [
        place
        for place, text in enumerate(texts)
        if counts[place] == min(counts)
        and not any(token in text for token in special if token != separator_of(tokenizer))
    ]
    frame, texts = source.rows.frame[plain], [texts[place] for place in plain]
    dataset = task.dataset(frame)
    encoded = tokenizer(texts, truncation=True)["input_ids"]
    for place, ids in enumerate(encoded):
        if ids != dataset[place][0].tolist():
            raise FoldwiseError(
                f"--to huggingface: row {frame['row'][place]}: the columns, joined to one text, "
                "become other tokens than one by one; train on one text column, or export --to onnx"
            )
    ours, _ = infer(
        model, dataset, np.arange(len(texts)), task.collate, source.predictor.accelerator
    )
    theirs = _logits(folder, tokenizer, texts)
    if task.holds == "number":
        theirs = (theirs - task.half.mean) / task.half.deviation
    apart = np.abs(theirs - ours) / np.maximum(1, np.abs(ours).max(axis=1, keepdims=True))
    differing = 0
    if task.holds != "number":
        labels = [task.to_columns(logits)["prediction"] for logits in (ours, theirs)]
        differing = sum(a != b for a, b in zip(*labels, strict=True))
    if apart.max() > NEAR or differing:
        raise FoldwiseError(
            f"--to huggingface: the folder doesn't answer as the run's model: of {len(texts)} rows "
            f"{differing} get another label, and logits differ by up to {apart.max():.2g}; nothing "
            "is left; export --to onnx"
        )
    return Checked(source.rows.what, float(apart.max()), differing, {}, {})


def _logits(folder: Path, tokenizer: Any, texts: list[str]) -> np.ndarray:
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            batch = [texts[place] for place in order[start : start + 32]]
            given = tokenizer(batch, truncation=True, padding=True, return_tensors="pt")
            parts.append(model(**given).logits.float().numpy())
    logits: np.ndarray = np.concatenate(parts)[np.argsort(order)]
    return logits
