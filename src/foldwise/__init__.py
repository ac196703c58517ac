"""Foldwise: cross-validated fine-tuning of language models on tables, from one YAML config.

The public names load on first use, so that `import foldwise` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Config": "foldwise.config.schema",
    "load_config": "foldwise.config.load",
    "read_table": "foldwise.table.reading",
    "assign_folds": "foldwise.split.folds",
    "encode": "foldwise.encoding.text",
    "build_model": "foldwise.preparation.build",
    "fit": "foldwise.training.loop",
    "validate": "foldwise.workflow",
    "cross_validate": "foldwise.workflow",
    "Predictor": "foldwise.predictor",
    "explain": "foldwise.explanation.explain",
    "FoldwiseClassifier": "foldwise.estimators",
    "FoldwiseRegressor": "foldwise.estimators",
    "refit": "foldwise.condense.refit",
    "distill": "foldwise.condense.distill",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'foldwise' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
