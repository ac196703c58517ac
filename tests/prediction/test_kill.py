"""A prediction that is killed, for real, and given again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import make_table
from foldwise.config.schema import Config
from foldwise.workflow import cross_validate

KILLS = 10


@pytest.mark.slow
def test_killed_at_random_moments_a_prediction_ends_with_the_same_bytes(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    run = cross_validate(make_config(folds={"n": 2}, training={"epochs": 1}))
    table = make_table(rows=20_000, seed=9)
    table.write_csv(tmp_path / "new.csv")

    def begin(out: str) -> subprocess.Popen[bytes]:
        words = ["predict", str(run.path), "new.csv", "-o", out, "--carry", "all", "--quiet"]
        return subprocess.Popen(
            [sys.executable, "-m", "foldwise", *words], cwd=tmp_path, env={**os.environ}
        )

    assert begin("whole.csv").wait() == 0
    expected = (tmp_path / "whole.csv").read_bytes()
    parts, draw, stood = tmp_path / ".out.csv.parts", random.Random(4), set()
    for _ in range(KILLS):
        process, before = begin("out.csv"), len(list(parts.glob("*.csv")))
        # Moments of work: after the next part, or one more, at any point of it.
        while process.poll() is None and len(list(parts.glob("*.csv"))) <= before:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out.csv").exists()
        stood.add(len(list(parts.glob("*.json"))))
    assert len(stood) > 5  # each call went on from where the one before stood
    assert begin("out.csv").wait() == 0
    assert (tmp_path / "out.csv").read_bytes() == expected
    assert not parts.exists()
