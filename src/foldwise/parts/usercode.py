"""Load the files named under `code:`; the only way user code gets in.

In: paths of Python files. Out: their modules by stem, so that `my_parts.GatedPooling` is the class
`GatedPooling` of `my_parts.py`. A config never imports anything else of the user's.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from foldwise.errors import FoldwiseError
from foldwise.run.files import sha256


class UserCode:
    """The modules of a config's `code:` files.

    Args:
        paths: the files; each is run once, when it is first needed.

    Raises:
        FoldwiseError: a file is absent, or two have the same stem.
    """

    def __init__(self, paths: Sequence[str | Path] = ()) -> None:
        self.paths = {Path(path).stem: Path(path) for path in paths}
        if len(self.paths) != len(paths):
            raise FoldwiseError("code: two files have the same name; rename one of them")
        for path in self.paths.values():
            if not path.is_file():
                raise FoldwiseError(f"code: {path}: no such file")
        self._modules: dict[str, ModuleType] = {}

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its name."""
        return {path.name: sha256(path) for path in self.paths.values()}

    def find(self, dotted: str, where: str) -> object:
        """Return what `stem.Name` stands for.

        Args:
            dotted: `stem.Name`; the stem must be one of the files'.
            where: the config key that names it, for the message.

        Raises:
            FoldwiseError: the file fails when run, or has no such name.
        """
        stem, _, name = dotted.partition(".")
        module = self._module(stem)
        if not hasattr(module, name):
            public = [key for key in vars(module) if not key.startswith("_")]
            raise FoldwiseError(
                f"{where}: {self.paths[stem]} has no {name!r} (it has: {', '.join(public)})"
            )
        return getattr(module, name)

    def has(self, dotted: str) -> bool:
        """Return whether the first part of a dotted name is one of the files."""
        return dotted.partition(".")[0] in self.paths

    def _module(self, stem: str) -> ModuleType:
        if stem not in self._modules:
            path = self.paths[stem]
            spec = importlib.util.spec_from_file_location(f"foldwise_user_{stem}", path)
            if spec is None:
                raise FoldwiseError(f"code: {path}: not a Python file")
            module = importlib.util.module_from_spec(spec)
            # Registered before it runs: dataclasses and pickling of workers look it up there.
            sys.modules[spec.name] = module
            try:
                # Not by the loader: its cache beside the file would outlive a refused run, and
                # take a file for unchanged that was edited twice in one second.
                exec(compile(path.read_bytes(), path, "exec"), vars(module))
            except (Exception, SystemExit) as error:
                del sys.modules[spec.name]
                lines = [
                    f.lineno for f in extract_tb(error.__traceback__) if f.filename == str(path)
                ]
                place = f" (line {lines[-1]})" if lines else ""  # a SyntaxError names its own
                raise FoldwiseError(
                    f"code: {path} fails when loaded{place}: {type(error).__name__}: {error}"
                ) from error
            self._modules[stem] = module
        return self._modules[stem]
