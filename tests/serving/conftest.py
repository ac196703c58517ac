"""A server whose model is a function, and one in front of a trained run."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.config.schema import Config
from foldwise.predictor import Predictor
from foldwise.serving.app import Server
from foldwise.serving.described import Served
from foldwise.serving.limits import Limits
from foldwise.serving.listening import address_of, bind, loop_of
from foldwise.serving.rows import Column
from foldwise.workflow import cross_validate

COLUMNS = [Column("text", "text"), Column("kind", "categorical"), Column("amount", "numeric")]
ROW: dict[str, Any] = {"text": "my card", "kind": "c1", "amount": 0.5}


def count_words(rows: pl.DataFrame) -> pl.DataFrame:
    """A model that says "long" the surer the more words a text has, and nothing of the rest."""
    words = rows["text"].fill_null("").str.split(" ").list.len().to_numpy()
    share = words / (words + 2)
    return pl.DataFrame(
        {
            "prediction": np.where(share >= 0.5, "long", "short").tolist(),
            "confidence": np.maximum(share, 1 - share),
            "prob_long": share,
            "prob_short": 1 - share,
        }
    )


def explain_words(row: pl.DataFrame, between: Callable[[], object]) -> dict[str, Any]:
    """Why that model says so: each word adds one, and the last of several takes one."""
    text = row.to_series(0)[0] or ""
    words = []
    for found in re.finditer(r"\S+", text):
        between()
        last = bool(words) and found.end() == len(text)
        place = {"column": row.columns[0], "start": found.start(), "end": found.end()}
        words.append({**place, "text": found[0], "value": -1.0 if last else 1.0, "read": True})
    cells = [{"column": name, "cell": row[name][0], "effect": 0.25} for name in row.columns]
    members = [{"member": name, "weight": 0.5, "margin": 1.5} for name in ("model", "linear")]
    entry = {"of": "long", "words": words, "columns": cells, "members": members}
    return {"explanations": [entry], "method": {}}


def made(
    label: Callable[[pl.DataFrame], pl.DataFrame] = count_words,
    columns: list[Column] = COLUMNS,
    classes: tuple[str, ...] = ("long", "short"),
    about: dict[str, Any] | None = None,
    **settings: Any,
) -> Server:
    """A server of a model that is a function.

    Settings are fields of Limits, or token, names and explain.
    """
    beside = ("token", "names", "explain")
    own = {name: settings.pop(name) for name in beside if name in settings}
    explain = own.pop("explain", explain_words)
    limits = Limits(**settings)
    served = Served(
        columns,
        "label",
        {
            "run": "words",
            "task": "multiclass",
            "target": "size",
            "predicts": "label",
            "classes": list(classes),
            "columns": [{"name": c.name, "role": c.role, "values": []} for c in columns],
            "scores": {"f1_macro": {"value": 0.8, "low": 0.7, "high": 0.9}},
            "scored": "out of fold",
            "versions": {"here": {"foldwise": "0"}},
            "limits": {"characters": limits.characters},
            "unexplained": None,
        }
        | (about or {}),
    )
    return Server(label, served, explain, limits, **own)


@contextmanager
def running(server: Server) -> Iterator[str]:
    """Run a server on a free port of this machine; yields its address."""
    with bind("127.0.0.1", 0, None) as bound:
        loop = loop_of(server)
        thread = threading.Thread(target=loop.run, kwargs={"sockets": [bound]})
        thread.start()
        while not loop.started:
            time.sleep(0.01)
        try:
            yield address_of(bound)
        finally:
            loop.should_exit = True
            thread.join()


@pytest.fixture
def client() -> Iterator[Callable[..., Any]]:
    """Start a server without a network: settings as of `made`, or a server -> its client."""
    from starlette.testclient import TestClient

    with ExitStack() as stack:

        def start(server: Server | None = None, **settings: Any) -> TestClient:
            app = (server or made(**settings)).app
            client = TestClient(app, "http://127.0.0.1", raise_server_exceptions=False)
            return stack.enter_context(client)

        yield start


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, backbone: Path, table_path: Path
) -> Predictor:
    """A tiny run with a text, a category and a number; the fine-tuned model answers."""
    return tiny(tmp_path_factory.mktemp("served"), table_path, backbone, ensemble="model")


def tiny(folder: Path, table: Path, backbone: Path, **given: Any) -> Predictor:
    """Train two folds for an epoch on a text, a category and a number; more of the config given."""
    values: dict[str, Any] = {
        "run": {"name": "tiny", "dir": str(folder / "runs"), "seed": 7},
        "data": {
            "path": str(table),
            "target": "label",
            "text": ["text"],
            "categorical": ["kind"],
            "numeric": ["amount"],
        },
        "folds": {"n": 2, "duplicates": "ignore"},
        "selection": {"rows": "last"},
        "text": {"max_length": 24},
        "model": {"backbone": str(backbone)},
        "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
        "training": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32"},
        "trackers": [],
        "baselines": False,
    }
    config = Config.model_validate(values | given)
    return Predictor(cross_validate(config).path, precision="float32")
