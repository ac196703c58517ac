"""Which members a run has, by its config alone: names of what is fitted and of what answers.

The fine-tuned model is one. Those that `ensemble` names make the run's answer; `baselines` adds
those that only stand beside it in the table, as what any model must beat.
"""

from __future__ import annotations

from foldwise.config.grammar import BUILTIN, Part
from foldwise.config.schema import Config

MODEL = "model"


def answering(config: Config) -> list[Part]:
    """Return the members that may make the run's answer, the model first.

    `auto` is every built-in one that the columns allow. Adapters and quantized weights stand for
    backbones too large to be passed over a table once more and kept: `embedding` and `network` are
    left out there unless they are asked for.
    """
    model, chosen = Part(name=MODEL), config.ensemble
    if chosen == "model" or config.task not in BUILTIN["task"]:
        return [model]
    if chosen != "auto":
        return [model, *(part for part in chosen if part.name != MODEL)]
    data = config.data
    large = config.model.lora is not None or config.model.quantize is not None
    fitting = {
        "linear": True,
        "embedding": bool(data.text) and not large,
        "network": bool(data.text) and not large,
        "boosting": True,
        "lookup": bool(data.categorical),
    }
    return [model, *(Part(name=name) for name, fits in fitting.items() if fits)]


def beside_the_model(config: Config) -> list[Part]:
    """Return every member that a fold fits beside the model, the simplest first."""
    asked = {part.name: part for part in answering(config) if part.name != MODEL}
    names = baseline_names(config)
    others = [part for name, part in asked.items() if name not in names]
    return [*(asked.get(name, Part(name=name)) for name in names), *others]


def baseline_names(config: Config) -> list[str]:
    """Return the members that are baselines, the simplest first; none where they are off."""
    if not config.baselines or config.task not in BUILTIN["task"]:
        return []
    constants = {"regression": ["mean", "median"], "ordinal": ["median"]}
    chosen = constants.get(config.task, ["majority"])
    return [*chosen, *(["lookup"] if config.data.categorical else []), "linear"]
