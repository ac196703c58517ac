"""A received run is refused by name or gives the right result; it touches nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldwise.commands.quiet import quiet_libraries
from hostile.runs import CONFIGS, DAMAGED, FILES, LINKS, Case
from hostile.seals import SEALS
from hostile.world import COMMANDS, Ended, World

AS_THEY_LIE = LINKS | FILES | SEALS
SEALED_ANEW = CONFIGS | DAMAGED
Command = Callable[..., Ended]


def draws(cases: dict[str, Case], commands: tuple[str, ...]) -> list[Any]:
    """Return every case with every command; by default each case is tried with one of them."""
    drawn = []
    for number, (name, case) in enumerate(cases.items()):
        using = [command for command in commands if command not in case.skips]
        for place, command in enumerate(using):
            marks = () if place == number % len(using) else pytest.mark.slow
            drawn.append(pytest.param(name, command, id=f"{name}-{command}", marks=marks))
    return drawn


@pytest.fixture(scope="module")
def out_of_fold(origin: Path) -> bytes:
    """The sound run's out-of-fold table."""
    return (origin / "runs" / "twin" / "oof.parquet").read_bytes()


def check(world: World, ended: Ended, names: str, harmless: bool, out_of_fold: bytes) -> None:
    if ended.code == 0 and harmless:
        assert (world.run / "oof.parquet").read_bytes() == out_of_fold
        return
    assert ended.code == 2, ended.message
    assert ended.message.startswith("error: ")
    assert names in ended.message or "was made with another config" in ended.message
    assert str(world.outside / "precious") not in (world.outside / "precious.txt").read_text()


@pytest.mark.parametrize(("name", "command_name"), draws(AS_THEY_LIE, COMMANDS))
def test_a_received_run(
    name: str, command_name: str, world: World, command: Command, out_of_fold: bytes
) -> None:
    case = AS_THEY_LIE[name]
    case.spoil(world)
    check(world, command(command_name), case.names, case.harmless, out_of_fold)


@pytest.mark.parametrize(("name", "command_name"), draws(SEALED_ANEW, COMMANDS))
def test_a_received_run_that_its_sender_sealed_anew(
    name: str, command_name: str, world: World, command: Command, out_of_fold: bytes
) -> None:
    case = SEALED_ANEW[name]
    case.spoil(world)
    world.seal_anew()
    options = ("--trust-code",) if name.startswith("code-") and command_name != "train" else ()
    check(world, command(command_name, *options), case.names, case.harmless, out_of_fold)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_sound_run_asks_nobody_and_leaves_the_rest_alone(
    name: str, world: World, command: Command
) -> None:
    assert command(name).code == 0


def test_a_run_reached_through_links_is_ordinary(world: World, command: Command) -> None:
    big = world.path / "big"
    shutil.move(world.path / "runs", big)
    shutil.move(big / "received", world.path / "elsewhere")
    (big / "received").symlink_to(world.path / "elsewhere")
    (world.path / "runs").symlink_to(big)
    (world.path / "elsewhere" / "tracker" / "fold-1" / "run-7").mkdir(parents=True)
    (world.path / "elsewhere" / "tracker" / "fold-1" / "latest").symlink_to("run-7")
    assert command("predict").code == 0


def test_only_online_asks_the_hub(world: World, command: Command) -> None:
    CONFIGS["adapters-of-the-hub"].spoil(world)
    world.seal_anew()
    assert command("predict").code == 2
    assert world.requests == []
    ended = command("predict", "--online")
    assert ended.code == 2
    assert "the hub can't be reached" in ended.message
    assert world.requests


def test_only_online_tells_the_trackers(world: World, command: Command) -> None:
    summary = world.run / "tensorboard" / "summary"
    told = len(list(summary.iterdir()))
    assert command("validate").code == 0
    assert len(list(summary.iterdir())) == told
    assert command("validate", "--online").code == 0
    assert len(list(summary.iterdir())) > told


def test_libraries_are_told_to_stay_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")  # which it sets where nobody has
    quiet_libraries(online=True)
    assert "HF_HUB_OFFLINE" not in os.environ
    quiet_libraries(online=False)
    assert os.environ["HF_HUB_OFFLINE"] == "1"
