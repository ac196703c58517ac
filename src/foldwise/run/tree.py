"""Nothing in a run's folder leads out of it: the one check before anything in it is opened.

In: a folder that may come from somebody else. Out: nothing, or a FoldwiseError that names what
isn't a plain file or folder. The folder itself may be reached through links (`runs` on a big disk);
below it a link could have Foldwise read what isn't the sender's to read, or write over it. Hard
links can't be told from files: those are refused where a file is written in place (files.py).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from foldwise.errors import FoldwiseError

MOST_ENTRIES = 1_000_000  # a few seconds' walk; ten folds leave some hundreds, trackers maybe more
DEEPEST = 32
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_tree(root: Path, own: str) -> None:
    """Check that a folder holds plain files and folders only.

    Args:
        root: the folder; it may be a link itself.
        own: regular expression of the names that Foldwise gives in it. In other folders at its top,
            which are trackers' of the user's choice (wandb links its latest run), a link may stand
            as long as it stays inside that folder: Foldwise itself opens none of them.

    Raises:
        FoldwiseError: a link, pipe, socket or device, a folder that can't be listed, or more than
            a run has.
    """
    seen = 0
    waiting = [(root, root, 0)]
    while waiting:
        folder, top, depth = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            continue  # a training beside us has finished with it
        except OSError as error:
            raise FoldwiseError(f"{folder}: can't be listed ({error.strerror})") from None
        seen += len(entries)
        if seen > MOST_ENTRIES or depth > DEEPEST:
            raise FoldwiseError(f"{root}: holds more, or deeper, than a run does ({folder})")
        for entry in entries:
            path = Path(entry.path)
            above = path if folder == root else top
            try:
                mode = entry.stat(follow_symlinks=False).st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISLNK(mode):
                theirs = above != path and not re.fullmatch(own, above.name)
                if not (theirs and _stays(path, above)):
                    raise FoldwiseError(
                        f"{path}: is a link (to {os.readlink(path)!r}); nothing in a run's folder "
                        "may lead out of it: put the file or folder itself there, or remove it"
                    )
            elif stat.S_ISDIR(mode):
                waiting.append((path, above, depth + 1))
            elif not stat.S_ISREG(mode):
                kind = next(word for is_kind, word in _KINDS if is_kind(mode))
                raise FoldwiseError(f"{path}: is {kind}, which no run holds; remove it")


def _stays(link: Path, folder: Path) -> bool:
    return Path(os.path.realpath(link)).is_relative_to(os.path.realpath(folder))
