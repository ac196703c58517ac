"""A received backbone is refused by its file's name or trains as it should; it runs no code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile.backbones import CASES
from hostile.world import Ended, World

Command = Callable[..., Ended]
IN_A_RUN = {name: case for name, case in CASES.items() if not case.weights}


# Each trains a whole run, to the bytes of the sound one; "code" and "kernels" do so by default.
TRAINED = ("labels", "other-answers", "settings-files", "tokenizer-padding")
DRAWN = [pytest.param(n, marks=pytest.mark.slow) if n in TRAINED else n for n in CASES]


@pytest.mark.parametrize("name", DRAWN)
def test_a_received_backbone(name: str, world: World, backbone: Path, command: Command) -> None:
    case = CASES[name]
    folder = world.path / "received-backbone"
    shutil.copytree(backbone, folder)
    case.spoil(folder)
    ended = command("train", "--set", f"model.backbone={folder}", "--set", "run.name=new")
    if ended.code == 0 and case.harmless:
        tables = [world.path / "runs" / name / "oof.parquet" for name in ("new", "twin")]
        assert tables[0].read_bytes() == tables[1].read_bytes()
        return
    assert ended.code == 2, ended.message
    assert case.names in ended.message
    assert not (world.path / "runs" / "new").exists()


@pytest.mark.parametrize(
    ("name", "command_name"),
    [
        pytest.param(name, command, marks=() if (n + m) % 12 == 0 else pytest.mark.slow)
        for n, name in enumerate(IN_A_RUN)
        for m, command in enumerate(("predict", "validate", "evaluate", "report"))
    ],
)
def test_a_backbone_in_a_received_run_that_its_sender_sealed_anew(
    name: str, command_name: str, world: World, command: Command
) -> None:
    case = IN_A_RUN[name]
    case.spoil(world.run / "backbone")
    world.seal_anew()
    ended = command(command_name)
    if ended.code == 0 and (case.harmless or command_name == "report"):
        return
    assert ended.code == 2, ended.message
    assert case.names in ended.message
