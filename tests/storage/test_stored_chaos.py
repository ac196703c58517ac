"""A run in a store that is killed again and again, over a network that fails: the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import make_table
from foldwise.config.load import dump_config
from foldwise.run.folder import RunFolder
from foldwise.workflow import cross_validate
from storage.conftest import Bucket, environment
from storage.s3_server import S3Server
from storage.test_stored_run import config_of, numbers_of

KILLS = 5
# Imports once, then forks a process for each line: importing takes most of a small training.
FORKS = """
import json, os, sys
import altair, s3fs, safetensors.torch, sklearn.linear_model
import transformers.models.bert.modeling_bert
import foldwise.cli, foldwise.report.run_report, foldwise.workflow
for line in sys.stdin:
    environment, arguments, log = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ.update(environment)
            words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(words, 1)
            os.dup2(words, 2)
            sys.argv = ["foldwise", *arguments]
            foldwise.cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[subprocess.Popen[str]]:
    """What makes processes."""
    command = [sys.executable, "-c", FORKS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as made:
        yield made
        assert made.stdin is not None
        made.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_and_faulted_it_ends_with_the_same_bytes(
    forks: subprocess.Popen[str],
    bucket: Bucket,
    store: S3Server,
    tmp_path: Path,
    backbone: Path,
    seed: int,
) -> None:
    draw = random.Random(seed)
    make_table(60).write_csv(tmp_path / "table.csv")
    here = cross_validate(config_of(backbone, tmp_path / "table.csv", str(tmp_path / "runs")))
    table = bucket.put("in/table.csv", (tmp_path / "table.csv").read_bytes())
    config = config_of(backbone, table, bucket.url("runs"))
    often = config.training.model_copy(update={"save_minutes": 0.0})
    (tmp_path / "config.yaml").write_text(
        dump_config(config.model_copy(update={"training": often}))
    )
    faults = store.faults
    faults._random.seed(seed)
    faults.share, faults.hang_s = 0.05, 12.0
    cache, codes = tmp_path / "cache", []
    for kill in range(KILLS + 20):
        last = kill >= KILLS
        # By what the store was asked, so that a kill comes between any two of its answers.
        until = sys.maxsize if last else len(faults.asked) + draw.randrange(5, 70)
        codes.append(train(forks, tmp_path / "config.yaml", store, cache, until))
        if codes[-1] == 0:
            break
        if kill == 1:  # that machine is gone for good, as somebody has to say
            shutil.rmtree(cache)
            bucket.remove("runs/test/.lease.json")
    faults.share = 0.0
    assert codes[-1] == 0, codes
    assert codes.count(-9) + codes.count(1) >= KILLS, codes
    assert set(codes) <= {0, 1, -9}, codes
    copy = RunFolder(cache / "runs" / "s3" / bucket.name / "runs" / "test")
    assert numbers_of(copy.path) == numbers_of(here.path)
    sent = {key.removeprefix("runs/test/") for key in bucket.keys("runs/test/")}
    for name, content in numbers_of(here.path).items():
        assert name in sent
        assert bucket.get(f"runs/test/{name}") == content


def train(
    forks: subprocess.Popen[str], config: Path, store: S3Server, cache: Path, until: int
) -> int:
    """Give the command; kill it once the store has been asked so often."""
    assert forks.stdin is not None
    assert forks.stdout is not None
    asked = [environment(store, cache, 40), ["train", str(config)], str(config.parent / "log.txt")]
    forks.stdin.write(json.dumps(asked) + "\n")
    child = int(forks.stdout.readline())
    ended: list[int] = []
    waiting = threading.Thread(target=lambda: ended.append(int(forks.stdout.readline())))
    waiting.start()
    while waiting.is_alive():
        if len(store.faults.asked) >= until:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.01)
    waiting.join()
    return ended[0]
