"""Keep libraries from talking over the progress bar, and rich from reading what users wrote."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from foldwise.run.folder import RunFolder


def begin(path: Path, *, online: bool) -> RunFolder:
    """Begin a command on a run: what each does before it imports torch.

    A wrong path is told in a blink; importing takes seconds.

    Args:
        path: the run folder.
        online: let libraries ask the hub.

    Raises:
        FoldwiseError: no run lies there.
    """
    run = RunFolder(path)
    run.check_is_run()
    quiet_libraries(online=online)
    return run


def quiet_libraries(*, online: bool) -> None:
    """Silence transformers' loading bars and advice; errors still come through.

    Args:
        online: let libraries ask the hub. What Foldwise loads of a run is loaded from files on this
            machine anyway; this holds for what the libraries do beside that.
    """
    if not online:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read as they are imported
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it stands.

    By default rich takes `[/te]xt` for markup, and stops at a tag that was never opened: a column,
    a label or a path may be called so. In a file what goes on is told in whole lines.
    """
    made = Console(stderr=stderr, markup=False, emoji=False)
    made.soft_wrap = stderr and not made.is_terminal
    return made
