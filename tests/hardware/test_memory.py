"""What a process keeps of the memory that tensors freed, and when it gives it back."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable

import pytest

from foldwise.config.schema import Config
from foldwise.evaluation import validate
from foldwise.training import fold
from foldwise.workflow import cross_validate


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is set")
def test_large_tensors_are_not_fetched_from_the_system_again() -> None:
    """In a process of its own: the setting is for good."""
    script = (
        "import resource, torch\n"
        "from foldwise.hardware.memory import keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(4):\n"
        "        torch.empty(16 << 20).fill_(1.0)\n"  # 64 MiB, 16,384 pages
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        # Twice before it counts: aligned blocks find a place that fits after some rounds only.
        "print(faults(), keep_freed_memory(), *(faults() for _ in range(3)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    before, kept, _, _, after = done.stdout.split()
    assert kept == "True"
    assert int(before) > 1.5 * int(after)  # fetched four times, and seldom


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is set")
def test_what_was_kept_is_given_back_from_between_what_is_in_use() -> None:
    """In a process of its own: the setting is for good."""
    script = (
        "import torch\n"
        "from foldwise.hardware.memory import keep_freed_memory, release_freed_memory\n"
        "def held():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096 >> 20\n"
        "keep_freed_memory()\n"
        "blocks = [torch.ones(1 << 20) for _ in range(96)]\n"  # 4 MiB each
        "full = held()\n"
        "del blocks[:-1:2], blocks[:10]\n"
        "kept = held()\n"
        "release_freed_memory()\n"
        "print(full, kept, held(), sum(map(len, blocks)) >> 18)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    full, kept, given, in_use = map(int, done.stdout.split())
    assert full - kept < 8
    assert full - given == pytest.approx(96 * 4 - in_use, abs=16)


def test_each_evaluation_training_and_validation_gives_back_what_it_left(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    monkeypatch.setattr(fold, "release_freed_memory", lambda: given.append("training"))
    monkeypatch.setattr(validate, "release_freed_memory", lambda: given.append("validation"))
    cross_validate(make_config(training={"epochs": 2}), only=[1, 2])
    # Before the evaluation at the end of either epoch, and after the last step.
    assert given == [*["training"] * 3, "validation"] * 2
