"""Parts: a config names built-in classes, yours, a library's of the right kind; nothing else."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics

from foldwise.config.schema import BUILTIN
from foldwise.errors import FoldwiseError
from foldwise.models.pooling import MeanPooling
from foldwise.parts.registry import BUILT_IN, LIBRARY, WRITTEN, build_part, find_part
from foldwise.parts.usercode import UserCode

NO_CODE = UserCode()

MINE = '''
class Pooling:
    """Notes what it was built from."""
    def __init__(self, hidden_size, scale=1.0, *, power=2):
        self.built = (hidden_size, scale, power)

class Open:
    def __init__(self, **anything):
        self.built = anything

class Broken:
    def __init__(self):
        raise ValueError("no such luck")

CONSTANT = 3

def function(target, prediction):
    return 0.0
'''


@pytest.fixture
def mine(tmp_path: Path) -> UserCode:
    path = tmp_path / "my_parts.py"
    path.write_text(MINE)
    return UserCode([path])


def message_of(kind: str, name: str, code: UserCode = NO_CODE, **arguments: Any) -> str:
    with pytest.raises(FoldwiseError) as caught:
        build_part(kind, name, arguments, code, f"the.{kind}", hidden_size=8)
    return str(caught.value)


@pytest.mark.parametrize("kind", sorted(set(BUILT_IN) & set(BUILTIN)))
def test_the_config_and_the_parts_list_the_same_built_in_names(kind: str) -> None:
    # All columns in the template: nothing to build. The model is built by its task.
    no_part = {"fusion": ["text"], "member": ["model"]}.get(kind, [])
    assert sorted([*BUILT_IN[kind], *no_part]) == sorted(BUILTIN[kind])


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, names in BUILT_IN.items() for n in names])
def test_every_built_in_name_is_a_class(kind: str, name: str) -> None:
    if BUILT_IN[kind][name].startswith("bitsandbytes"):
        pytest.importorskip("bitsandbytes")  # no package that everybody has
    assert isinstance(find_part(kind, name, NO_CODE, kind), type)


def test_a_package_that_lacks_a_library_of_the_system_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lacking(_: str) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("foldwise.parts.registry._import", lacking)
    told = r"ensemble: boosting can't be loaded: libgomp\.so\.1.*libgomp1 on Debian"
    with pytest.raises(FoldwiseError, match=told):
        find_part("member", "boosting", NO_CODE, "ensemble")


def test_a_built_in_name_is_of_its_kind_alone() -> None:
    assert find_part("pooling", "mean", NO_CODE, "pooling") is MeanPooling
    assert message_of("head", "mean").startswith("the.head: there is no head 'mean'")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("optimizer", "torch.optim.RAdam"),
        ("schedule", "torch.optim.lr_scheduler.OneCycleLR"),
        ("loss", "torch.nn.MultiMarginLoss"),
        ("loss", "torch.nn.modules.loss.NLLLoss"),
        ("metric", "torchmetrics.CohenKappa"),
        ("metric", "torchmetrics.classification.MulticlassF1Score"),
        ("splitter", "sklearn.model_selection.GroupKFold"),
        ("splitter", "sklearn.model_selection.TimeSeriesSplit"),
    ],
)
def test_a_librarys_class_of_the_kind_is_found(kind: str, name: str) -> None:
    found = find_part(kind, name, NO_CODE, kind)
    assert found.__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize("kind", [*LIBRARY, "pooling", "head", "task"])
@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.load",
        "torch.hub.load",
        "torch.optim.os.system",
        "torch.optim.Optimizer.__init__",
        "torch.optim.Optimizer.__class__",
        "torch.optim.lr_scheduler",
        "torch.optim.nowhere.RAdam",
        "torch.nn.functional.relu",
        "torch.nn.init.normal_",
        "torchmetrics.functional.accuracy",
        "torch.optimizer.RAdam",
        "sklearn.model_selection.cross_val_score",
        "sklearn.model_selection.GridSearchCV",
        "sklearn.model_selection.ShuffleSplit",
        "sklearn.cluster.KMeans",
        "foldwise.models.pooling.MeanPooling",
    ],
)
def test_nothing_else_of_a_library_can_be_named(kind: str, name: str) -> None:
    message = message_of(kind, name)
    assert message.startswith(f"the.{kind}: there is no {kind} {name!r}; it can be ")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("schedule", "torch.optim.RAdam"),
        ("optimizer", "torch.nn.Linear"),
        ("optimizer", "torch.optim.lr_scheduler.StepLR"),
        ("pooling", "torch.nn.Linear"),
        ("head", "torch.nn.Linear"),
    ],
)
def test_a_librarys_class_of_another_kind_is_refused(kind: str, name: str) -> None:
    assert f"there is no {kind} {name!r}" in message_of(kind, name)


def test_the_message_says_what_can_be_named(mine: UserCode) -> None:
    message = message_of("optimizer", "adam")
    assert "there is no optimizer 'adam'" in message
    assert "adamw" in message
    assert "Optimizer of torch.optim" in message
    assert message.endswith("a name from one of your files under code: (none)")
    assert message_of("pooling", "maximum", mine).endswith("under code: (my_parts)")


def test_what_is_offered_reaches_constructors_that_name_it(mine: UserCode) -> None:
    built = build_part(
        "pooling", "my_parts.Pooling", {"scale": 0.5}, mine, "p", hidden_size=8, n_classes=3
    )
    assert built.built == (8, 0.5, 2)
    assert build_part("pooling", "my_parts.Open", {"a": 1}, mine, "p", n_classes=3).built == {
        "a": 1
    }


def test_the_configs_argument_goes_before_what_is_offered(mine: UserCode) -> None:
    arguments = {"hidden_size": 5}
    built = build_part("pooling", "my_parts.Pooling", arguments, mine, "p", hidden_size=8)
    assert built.built[0] == 5


def test_an_unknown_argument_is_refused_with_those_there_are(mine: UserCode) -> None:
    assert message_of("pooling", "my_parts.Pooling", mine, scales=1) == (
        "the.pooling: my_parts.Pooling takes no 'scales'; it takes: scale, power"
    )
    assert message_of("head", "my_parts.Broken", mine, size=1) == (
        "the.head: my_parts.Broken takes no 'size'; it takes: nothing"
    )


def test_a_missing_argument_is_named(mine: UserCode) -> None:
    with pytest.raises(FoldwiseError) as caught:
        build_part("pooling", "my_parts.Pooling", {}, mine, "the.pooling")
    assert str(caught.value) == "the.pooling: my_parts.Pooling needs hidden_size"
    assert message_of("optimizer", "torch.optim.RAdam") == (
        "the.optimizer: torch.optim.RAdam needs params"
    )


def test_what_a_constructor_raises_is_told(mine: UserCode) -> None:
    assert message_of("head", "my_parts.Broken", mine) == (
        "the.head: my_parts.Broken can't be built: ValueError: no such luck"
    )


def test_what_cannot_be_called_is_refused(mine: UserCode) -> None:
    assert message_of("head", "my_parts.CONSTANT", mine) == (
        "the.head: my_parts.CONSTANT can't be called"
    )


def test_a_librarys_optimizer_is_built_with_its_arguments() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    arguments = {"momentum": 0.9}
    built = build_part(
        "optimizer", "torch.optim.SGD", arguments, NO_CODE, "o", params=[weight], lr=0.5
    )
    assert isinstance(built, torch.optim.SGD)
    assert (built.defaults["momentum"], built.defaults["lr"]) == (0.9, 0.5)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("metric", "torchmetrics.text.BERTScore"),
        ("metric", "torchmetrics.text.ROUGEScore"),
        ("metric", "torchmetrics.audio.SignalNoiseRatio"),
        ("metric", "torchmetrics.image.VisualInformationFidelity"),
        ("metric", "torchmetrics.BootStrapper"),
        ("loss", "torch.nn.DataParallel"),
        ("loss", "torch.nn.parallel.DistributedDataParallel"),
    ],
)
def test_a_librarys_class_that_needs_more_than_numbers_is_refused(kind: str, name: str) -> None:
    message = message_of(kind, name)
    assert message.startswith(f"the.{kind}: {name} isn't taken: it needs more than numbers")


def test_every_metric_that_is_taken_takes_numbers_and_choices_alone() -> None:
    taken = [
        found
        for found in vars(torchmetrics).values()
        if isinstance(found, type)
        and issubclass(found, torchmetrics.Metric)
        and found.__module__.startswith(WRITTEN["metric"])
    ]
    assert len(taken) > 40
    for found in taken:
        for name, parameter in inspect.signature(found.__init__).parameters.items():
            words = str(parameter.annotation)
            told = f"{found.__name__}: {name}: {words}"
            assert not any(word in name for word in ("model", "path", "url")), told
            assert not any(word in words for word in ("Module", "Callable")), told
