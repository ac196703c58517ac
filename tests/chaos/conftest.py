"""One stage for all tests here: importing and the undisturbed run are paid for once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.stage import Stage, zygote


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with zygote() as process:
        yield Stage(tmp_path_factory.mktemp("chaos"), process)
