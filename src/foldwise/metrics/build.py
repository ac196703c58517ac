"""From a metric's name in the config to the metric: built in, yours, or a class of torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from foldwise.errors import FoldwiseError
from foldwise.metrics.metric import Metric, builtin_metric
from foldwise.parts.registry import build_part, find_part
from foldwise.parts.usercode import UserCode


def build_metric(name: str, arguments: dict[str, Any], code: UserCode, where: str) -> Metric:
    """Build a metric: built in, a function of yours, or a class of torchmetrics.

    A function of yours takes `(target, prediction, probabilities)` and returns a float; set its
    attribute `greater_is_better = False` where less is better. A class of torchmetrics is updated
    once with probabilities and targets of the whole fold.
    """
    if "." not in name:
        return builtin_metric(name)
    if code.has(name):
        function = code.find(name, where)
        if not callable(function):
            raise FoldwiseError(f"{where}: {name} is not a function")

        def compute(target: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray) -> float:
            try:
                return float(function(target, prediction, probabilities, **arguments))
            except Exception as error:
                raise FoldwiseError(
                    f"{where}: {name} fails on {len(target)} rows: {type(error).__name__}: {error}"
                    "; it takes (target, prediction, probabilities) and returns one number"
                ) from error

        better = bool(getattr(function, "greater_is_better", True))
        return Metric(name, compute, better, "probabilities")
    part = find_part("metric", name, code, where)

    def torch_metric(
        target: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray
    ) -> float:
        n = probabilities.shape[1]
        metric = build_part("metric", name, arguments, code, where, num_classes=n, num_labels=n)
        # Without probabilities the prediction is a number, and all there is.
        given = probabilities if n else prediction
        try:
            metric.update(torch.from_numpy(given), torch.from_numpy(target))
            return float(metric.compute())
        except Exception as error:
            raise FoldwiseError(
                f"{where}: {name} fails on {len(target)} rows: {type(error).__name__}: {error}; "
                "it is given probabilities and class ids, and computes one number"
            ) from error

    better = getattr(part, "higher_is_better", True) is not False
    return Metric(name, torch_metric, better, "probabilities")
