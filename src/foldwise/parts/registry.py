"""From a name in the config to the class it means: built in, yours, or a library's, by kind.

In: `mean`, `my_parts.GatedPooling`, `torch.optim.RAdam`. Out: the class, or an instance of it.
The built-in ones are import strings, so that naming a part imports nothing. A library name resolves
only inside the module of its kind and only to a subclass of the kind's base that is written there:
a config cannot call an arbitrary function, nor have a class fetch a model or read a file.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode

BUILT_IN: dict[str, dict[str, str]] = {
    # The model is the same; what is predicted by it is the task's target.
    "task": dict.fromkeys(
        ("multiclass", "multilabel", "ordinal", "regression"),
        "foldwise.tasks.text_classification:TextClassification",
    ),
    "target": {
        "multiclass": "foldwise.tasks.multiclass:Multiclass",
        "multilabel": "foldwise.tasks.multilabel:Multilabel",
        "ordinal": "foldwise.tasks.ordinal:Ordinal",
        "regression": "foldwise.tasks.regression:Regression",
    },
    "pooling": {
        "mean": "foldwise.models.pooling:MeanPooling",
        "cls": "foldwise.models.pooling:ClsPooling",
        "max": "foldwise.models.pooling:MaxPooling",
        "mean_max": "foldwise.models.pooling:MeanMaxPooling",
        "attention": "foldwise.models.pooling:AttentionPooling",
        "queries": "foldwise.models.pooling:QueryPooling",
        "last": "foldwise.models.pooling:LastPooling",
    },
    "fusion": {
        "concat": "foldwise.models.fusion:ConcatFusion",
        "gated": "foldwise.models.fusion:GatedFusion",
        "tokens": "foldwise.models.fusion:TokenFusion",
    },
    "activation": {
        "gelu": "torch.nn:GELU",
        "relu": "torch.nn:ReLU",
        "tanh": "torch.nn:Tanh",
        "silu": "torch.nn:SiLU",
    },
    "loss": {
        "cross_entropy": "foldwise.losses.classes:CrossEntropy",
        "focal": "foldwise.losses.classes:Focal",
        "logit_adjustment": "foldwise.losses.classes:LogitAdjustment",
        "r_drop": "foldwise.losses.classes:RDrop",
        "bce": "foldwise.losses.binary:BinaryCrossEntropy",
        "corn": "foldwise.losses.binary:Corn",
        "mse": "torch.nn:MSELoss",
        "mae": "torch.nn:L1Loss",
        "huber": "torch.nn:HuberLoss",
    },
    # Members that only stand beside the others, as what any must beat.
    "baseline": {
        "majority": "foldwise.members.constant:Constant",
        "mean": "foldwise.members.constant:Constant",
        "median": "foldwise.members.constant:Median",
    },
    "member": {
        "lookup": "foldwise.members.lookup:Lookup",
        "linear": "foldwise.members.linear:Linear",
        "embedding": "foldwise.members.embedding:Embedding",
        "network": "foldwise.members.network:Network",
        "boosting": "foldwise.members.boosting:Boosting",
    },
    "tracker": {
        "tensorboard": "foldwise.training.tracking:TensorBoard",
        "mlflow": "foldwise.training.mlflow_tracker:MLflow",
        "wandb": "foldwise.training.wandb_tracker:WandB",
    },
    "optimizer": {
        "adamw": "torch.optim:AdamW",
        "adamw_8bit": "bitsandbytes.optim:AdamW8bit",
        "paged_adamw": "bitsandbytes.optim:PagedAdamW",
        "paged_adamw_8bit": "bitsandbytes.optim:PagedAdamW8bit",
    },
}

# Kind -> (module the name must lie in, base class that it must have).
LIBRARY: dict[str, tuple[str, str]] = {
    "activation": ("torch.nn", "torch.nn:Module"),
    "loss": ("torch.nn", "torch.nn:Module"),
    "optimizer": ("torch.optim", "torch.optim:Optimizer"),
    "schedule": ("torch.optim.lr_scheduler", "torch.optim.lr_scheduler:LRScheduler"),
    "metric": ("torchmetrics", "torchmetrics:Metric"),
    "splitter": ("sklearn.model_selection", "sklearn.model_selection:BaseCrossValidator"),
}

# Kind -> where its classes are written. What isn't named here takes more than numbers: the other
# metrics of torchmetrics (text, image, audio, multimodal) download models and corpora by name,
# wrappers want objects, and torch.nn leads by its own imports to modules on other machines.
WRITTEN: dict[str, tuple[str, ...]] = {
    "activation": ("torch.nn.modules",),
    "loss": ("torch.nn.modules",),
    "optimizer": ("torch.optim",),
    "schedule": ("torch.optim.lr_scheduler",),
    "metric": tuple(
        f"torchmetrics.{room}" for room in ("classification", "regression", "nominal", "clustering")
    ),
    "splitter": ("sklearn.model_selection",),
}


def member_kind(name: str) -> str:
    """Return the kind that a member's name is looked up in."""
    return "baseline" if name in BUILT_IN["baseline"] else "member"


def find_part(kind: str, name: str, code: UserCode, where: str) -> Any:
    """Return the class (or function) that a name stands for.

    Args:
        kind: task, pooling, head, loss, optimizer, schedule, metric or splitter.
        name: as the config has it.
        code: the user's files.
        where: the config key, for the message.

    Raises:
        FoldwiseError: no such name, a library name that isn't of the kind, or one that needs a
            package that isn't installed.
    """
    if name in BUILT_IN.get(kind, {}):
        try:
            return _import(BUILT_IN[kind][name])
        except ModuleNotFoundError as error:
            raise _not_installed(name, error, where) from None
        except OSError as error:  # of a package whose own library lacks another (OpenMP)
            raise FoldwiseError(
                f"{where}: {name} can't be loaded: {error}; install what is missing (OpenMP: "
                "libgomp1 on Debian, libomp on a Mac), or leave the part out"
            ) from None
    if code.has(name):
        return code.find(name, where)
    if kind in LIBRARY:
        module, base = LIBRARY[kind]
        if name.startswith(module + "."):
            # Attribute by attribute: torchmetrics.classification.X isn't torchmetrics.X.
            try:
                found: Any = importlib.import_module(module)
            except ModuleNotFoundError as error:
                raise _not_installed(name, error, where) from None
            for part in name.removeprefix(module + ".").split("."):
                found = getattr(found, part, None)
            if inspect.isclass(found) and issubclass(found, _import(base)):
                if _within(found.__module__, WRITTEN[kind]):
                    return found
                raise FoldwiseError(
                    f"{where}: {name} isn't taken: it needs more than numbers, such as a model "
                    f"that it downloads; a {kind} can be a class of {', '.join(WRITTEN[kind])}, "
                    "or one from your files under code:"
                )
    choices = list(BUILT_IN.get(kind, {}))
    if kind in LIBRARY:
        choices.append(f"a {LIBRARY[kind][1].rpartition(':')[2]} of {LIBRARY[kind][0]}")
    choices.append(
        "a name from one of your files under code: (" + (", ".join(code.paths) or "none") + ")"
    )
    raise FoldwiseError(f"{where}: there is no {kind} {name!r}; it can be " + ", ".join(choices))


def _not_installed(name: str, error: ModuleNotFoundError, where: str) -> FoldwiseError:
    return FoldwiseError(
        f"{where}: {name} needs the package {error.name}: pip install {error.name}"
    )


def build_part(
    kind: str, name: str, arguments: dict[str, Any], code: UserCode, where: str, /, **offered: Any
) -> Any:
    """Construct a part from its arguments in the config and what is offered to it.

    Args:
        kind: the part's kind.
        name: the part's name.
        arguments: keyword arguments from the config; each must be one the constructor has.
        code: the user's files.
        where: the config key, for the messages.
        **offered: values passed only if the constructor names them and the config doesn't.

    Raises:
        FoldwiseError: an argument the constructor doesn't have, one that is missing, or an error
            that the constructor itself raises.
    """
    part, chosen = match_part(kind, name, arguments, code, where, **offered)
    try:
        return part(**chosen)
    except FoldwiseError:
        raise
    except Exception as error:
        raise FoldwiseError(
            f"{where}: {name} can't be built: {type(error).__name__}: {error}"
        ) from error


def match_part(
    kind: str, name: str, arguments: dict[str, Any], code: UserCode, where: str, /, **offered: Any
) -> tuple[Any, dict[str, Any]]:
    """Return a part's class and what `build_part` would construct it with; same arguments.

    Raises:
        FoldwiseError: an argument the constructor doesn't have, or one that is missing.
    """
    part = find_part(kind, name, code, where)
    try:
        parameters = inspect.signature(part).parameters
    except (TypeError, ValueError):
        raise FoldwiseError(f"{where}: {name} can't be called") from None
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in parameters and not takes_any:
            names = ", ".join(p for p in parameters if p not in ("self", "params", *offered))
            raise FoldwiseError(f"{where}: {name} takes no {key!r}; it takes: {names or 'nothing'}")
    chosen = {key: value for key, value in offered.items() if key in parameters} | arguments
    missing = [
        key
        for key, p in parameters.items()
        if p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and key not in chosen
    ]
    if missing:
        raise FoldwiseError(f"{where}: {name} needs {', '.join(missing)}")
    return part, chosen


def _within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
