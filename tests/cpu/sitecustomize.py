"""A CPU with or without bf16 instructions, whatever the machine has: FOLDWISE_TEST_CPU.

`amx` reports AMX tiles and AVX512-BF16, `plain` neither. torch reports that in this process and, as
tests/conftest.py puts this folder in PYTHONPATH, in every Python that a test starts. Only what is
reported changes, and with it what Foldwise chooses; torch goes on to use what is there.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

REPORTED = {"amx": True, "plain": False}
INSTRUCTIONS = ("amx_bf16", "amx_tile", "avx512_bf16", "bf16")


class _Pretending(MetaPathFinder, Loader):
    # torch itself is imported when the program wants it: many a test is about who doesn't.
    def __init__(self, cpu: str) -> None:
        self.reported = {name: REPORTED[cpu] for name in INSTRUCTIONS}
        self.found: ModuleSpec | None = None

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "torch.cpu" or self.found is not None:
            return None
        self.found = ModuleSpec(name, None)  # the search below passes here again
        self.found = find_spec(name)
        assert self.found is not None
        self.real, self.found.loader = self.found.loader, self
        return self.found

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        assert self.real is not None
        self.real.exec_module(module)
        has = module.get_capabilities
        module.get_capabilities = lambda: {**has(), **self.reported}


if cpu := os.environ.get("FOLDWISE_TEST_CPU"):
    sys.meta_path.insert(0, _Pretending(cpu))
