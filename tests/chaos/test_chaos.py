"""Whatever befalls a command, given again it ends with the bytes of a run that nothing befell."""

from __future__ import annotations

import os

import pytest

from chaos.plays import ALONE
from chaos.stage import Stage

OF = os.environ.get("FOLDWISE_CHAOS_OF")
SEED = os.environ.get("FOLDWISE_CHAOS_SEED")


@pytest.mark.parametrize("seed", range(len(ALONE.kinds)))
def test_draw_ends_with_the_bytes_of_the_undisturbed_run(stage: Stage, seed: int) -> None:
    stage.play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_many_draws_end_with_the_bytes_of_the_undisturbed_run(stage: Stage, seed: int) -> None:
    stage.play(seed)


@pytest.mark.parametrize("command", ["train", "refit"])
def test_killed_blended_run_ends_with_the_bytes_of_the_undisturbed_one(
    blended: Stage, command: str
) -> None:
    blended.play(0, command)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "refit"])
@pytest.mark.parametrize("seed", range(2000, 2020))
def test_many_draws_of_a_blended_run_end_with_the_bytes_of_the_undisturbed_one(
    blended: Stage, seed: int, command: str
) -> None:
    blended.play(seed, command)


@pytest.mark.skipif(SEED is None, reason="replays one draw: FOLDWISE_CHAOS_SEED=... says which")
def test_one_draw(request: pytest.FixtureRequest) -> None:
    played: Stage = request.getfixturevalue("stage" if OF is None else "blended")
    played.play(int(SEED or 0), OF)
