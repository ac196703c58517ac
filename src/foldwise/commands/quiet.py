"""Keep libraries from talking over the progress bar, and rich from reading what users wrote."""

from __future__ import annotations

import os

from rich.console import Console


def stay_offline(online: bool) -> None:
    """Keep libraries from asking the hub, unless the user wants it; before they are imported.

    What Foldwise loads of a run is loaded from files on this machine anyway; this holds for what
    the libraries do beside that.
    """
    if not online:
        os.environ["HF_HUB_OFFLINE"] = "1"


def quiet_libraries() -> None:
    """Silence transformers' loading bars and advice; errors still come through."""
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
