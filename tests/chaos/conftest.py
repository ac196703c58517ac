"""A stage for all tests of a run: importing and what is undisturbed are paid for once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from chaos.plays import ALONE, BLENDED
from chaos.stage import Stage, zygote


@pytest.fixture(scope="session")
def process() -> Iterator[subprocess.Popen[str]]:
    with zygote() as started:
        yield started


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, process: subprocess.Popen[str]) -> Stage:
    return Stage(tmp_path_factory.mktemp("chaos"), process, ALONE)


@pytest.fixture(scope="session")
def blended(tmp_path_factory: pytest.TempPathFactory, process: subprocess.Popen[str]) -> Stage:
    return Stage(tmp_path_factory.mktemp("blended"), process, BLENDED)
