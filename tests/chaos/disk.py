"""What a disk holds after a power cut: what was fsynced, and no more.

In: the file operations of a process (`faults.watched`). Out: the same folder as it would be found.
The strictest reading of POSIX: a file has the bytes of its last fsync, a folder the names of its
last one. Real file systems keep more, and none promises to.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from chaos.faults import Event


class Disk:
    """The durable state of a folder; all that is in it now counts as durable.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.contents: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.held: dict[int, int] = {}  # open, so that no other file gets the inode's number
        for path in [root, *root.rglob("*")]:
            self._sync(path)

    def after(self, event: Event) -> None:
        """Take note of an fsync, and of a file that is about to be written over."""
        path = Path(event.path)
        if event.kind == "fsync":
            self._sync(path)
        elif event.kind == "write":
            self.contents.pop(path.stat().st_ino, None)

    def cut_power(self) -> None:
        """Make the folder what it would be after a power cut now."""
        entries = list(self.names[self.root.stat().st_ino].items())
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._write(entries, self.root)
        self.close()

    def close(self) -> None:
        """Let go of the inodes."""
        for descriptor in self.held.values():
            os.close(descriptor)
        self.held.clear()

    def _sync(self, path: Path) -> None:
        inode = path.stat().st_ino
        if inode not in self.held:
            self.held[inode] = os.open(path, os.O_RDONLY)
        if path.is_dir():
            self.names[inode] = {entry.name: entry.inode() for entry in os.scandir(path)}
            # A folder is told from a file that was never synced by being one.
            for entry in os.scandir(path):
                if entry.is_dir():
                    self.names.setdefault(entry.inode(), {})
                    self.held.setdefault(entry.inode(), os.open(entry.path, os.O_RDONLY))
        else:
            self.contents[inode] = path.read_bytes()

    def _write(self, entries: list[tuple[str, int]], folder: Path) -> None:
        for name, inode in entries:
            if inode in self.names:
                (folder / name).mkdir()
                self._write(list(self.names[inode].items()), folder / name)
            else:
                (folder / name).write_bytes(self.contents.get(inode, b""))
