"""Whatever befalls a command, given again it ends with the bytes of a run that nothing befell."""

from __future__ import annotations

import os

import pytest

from chaos.draws import KINDS
from chaos.stage import Stage

SEED = os.environ.get("FOLDWISE_CHAOS_SEED")


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_draw_ends_with_the_bytes_of_the_undisturbed_run(stage: Stage, seed: int) -> None:
    stage.play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_many_draws_end_with_the_bytes_of_the_undisturbed_run(stage: Stage, seed: int) -> None:
    stage.play(seed)


@pytest.mark.skipif(SEED is None, reason="replays one draw: FOLDWISE_CHAOS_SEED=... says which")
def test_one_draw(stage: Stage) -> None:
    stage.play(int(SEED or 0))
