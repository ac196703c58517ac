"""MLflow: one MLflow run a fold, and one for the cross-validated scores."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

# Without these a server that is gone holds a training up for minutes before it is given up.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from foldwise.training.remote import Told, flat, summary_numbers

_LONGEST = 500  # characters of a parameter that every store takes


class MLflow:
    """Numbers of a fold, sent to an MLflow server or store.

    The connection is made when there is something to tell, so that a server that is away costs
    its numbers and not the training.

    Args:
        folder: where the MLflow run's id is kept.
        fold: the fold.
        run: name of the whole run.
        config: every key with its value.
        uri: of the server or store; None: MLFLOW_TRACKING_URI, or mlflow.db beside the runs.
        experiment: its name.
    """

    def __init__(
        self,
        folder: Path,
        fold: int,
        run: str,
        config: dict[str, Any],
        uri: str | None = None,
        experiment: str = "foldwise",
    ) -> None:
        self.told = Told(folder)
        self.name = f"{run}, fold {fold}"
        self.config = config
        self.uri = uri
        self.experiment = experiment
        self.client: Any = None

    def log(self, step: int, values: dict[str, float], split: str) -> None:
        """Send a step's numbers, named `split/value`."""
        if self.client is None:
            self.client = _client(self.uri, self.config)
        if self.told.id is None:
            self.told.keep_id(_begin(self.client, self.experiment, self.name, self.config))
        if not self.told.is_new(step, split):
            return
        now = int(1000 * time.time())
        metrics = [Metric(f"{split}/{name}", value, now, step) for name, value in values.items()]
        self.client.log_batch(self.told.id, metrics=metrics)
        self.told.keep(step, split)

    def close(self) -> None:
        """Mark the MLflow run as finished."""
        if self.client is not None and self.told.id is not None:
            self.client.set_terminated(self.told.id)

    @staticmethod
    def summarize(
        folder: Path,
        run: str,
        config: dict[str, Any],
        scores: dict[str, Any],
        uri: str | None = None,
        experiment: str = "foldwise",
    ) -> None:
        """Send the finished run's scores as a run of their own, once."""
        told = Told(folder)
        client = _client(uri, config)
        if told.id is None:
            told.keep_id(_begin(client, experiment, run, config))
        if told.is_new(1, "summary"):
            now = int(1000 * time.time())
            numbers = summary_numbers(scores)
            metrics = [Metric(name, value, now, 0) for name, value in numbers.items()]
            client.log_batch(told.id, metrics=metrics)
            told.keep(1, "summary")
        client.set_terminated(told.id)


def _client(uri: str | None, config: dict[str, Any]) -> Any:
    beside = f"sqlite:///{Path(config['run']['dir']).resolve()}/mlflow.db"
    return MlflowClient(uri or os.environ.get("MLFLOW_TRACKING_URI") or beside)


def _begin(client: Any, experiment: str, name: str, config: dict[str, Any]) -> str:
    found = client.get_experiment_by_name(experiment)
    number = client.create_experiment(experiment) if found is None else found.experiment_id
    run_id: str = client.create_run(number, run_name=name).info.run_id
    params = [Param(key, str(value)[:_LONGEST]) for key, value in flat(config).items()]
    for first in range(0, len(params), 100):  # as many as a batch may hold
        client.log_batch(run_id, params=params[first : first + 100])
    return run_id
