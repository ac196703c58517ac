"""Where a draw is played: real processes, a first call that something befalls, the same call again.

In: a draw. Out: nothing, or an AssertionError with all that happened. Played well, a draw ends with
the bytes of the undisturbed run; a damage may also be named, with exit code 2 or 1, and is then put
right as the message says.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaos.draws import Draw, draw
from chaos.faults import Event

HERE = Path(__file__).parent
RUN = Path("runs/run")
CALLS = {
    "train": ("train", "config.yaml"),
    "predict": ("predict", str(RUN), "table.csv", "-o", "labels.parquet"),
    "evaluate": ("evaluate", str(RUN), "table.csv"),
}
CONFIG: dict[str, Any] = {
    "run": {"name": "run", "dir": "runs", "seed": 7},
    "data": {"path": "table.csv", "target": "label", "text": ["text"]},
    "folds": {"n": 2, "duplicates": "identical"},
    "text": {"max_length": 16},
    "model": {"backbone": "bert"},
    "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
    "training": {
        "epochs": 2,
        "batch_size": 8,
        "device": "cpu",
        "precision": "float32",
        "save_minutes": 0,
        "log_every": 3,
    },
    "metrics": ["f1_macro"],
    "trackers": [],
    "baselines": False,
}
PATIENCE_S = 120
PAUSE_S = 0.3  # between STOP and CONT
MOST_CALLS = 6


@dataclass(frozen=True)
class Call:
    """How a call of a command ended: exit code (-n by signal n, None if it hung), its words."""

    code: int | None
    words: str


class Stage:
    """An undisturbed run, and a process that can play any number of disturbed ones.

    Args:
        folder: an empty one; every draw gets a folder in it.
        process: the zygote.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        from conftest import make_table, save_backbone

        self.folder, self.process = folder, process
        self.template = folder / "template"
        self.template.mkdir()
        self.drawn = folder / "drawn"
        self.drawn.mkdir()
        save_backbone(self.template / "bert")
        make_table().write_csv(self.template / "table.csv")
        (self.template / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
        self.whole = folder / "whole"
        shutil.copytree(self.template, self.whole)
        self.traces: dict[str, list[Event]] = {}
        self.expected: dict[str, dict[str, str]] = {}
        for command in CALLS:
            trace = folder / f"{command}.trace"
            call = self.call(self.whole, command, trace=trace)
            assert call.code == 0, call.words
            lines = trace.read_text(encoding="utf-8").splitlines()
            self.traces[command] = [Event(*line.split("\t")) for line in lines]
            self.expected[command] = outcome(self.whole, command, call)

    def play(self, seed: int) -> Draw:
        """Play a draw.

        Raises:
            AssertionError: it didn't end as the undisturbed run did.
        """
        drawn = draw(seed, self.traces)
        root = self.folder / f"seed-{seed}"
        shutil.copytree(self.template if drawn.command == "train" else self.whole, root)
        (root / "labels.parquet").unlink(missing_ok=True)
        story = [f"{drawn}", f"replay: FOLDWISE_CHAOS_SEED={seed} pytest tests/chaos -k one"]
        try:
            self._play(drawn, root, story)
        except AssertionError as error:
            raise AssertionError("\n".join([*story, str(error), f"see {root}"])) from None
        shutil.rmtree(root)
        return drawn

    def call(
        self,
        root: Path,
        command: str,
        fate: dict[str, Any] | None = None,
        trace: Path | None = None,
    ) -> Call:
        """Give a command in a process of its own, and wait for its end."""
        words = self.folder / "words"
        request = {
            "root": str(root),
            "given": CALLS[command],
            "words": str(words),
            "fate": fate or {},
            "trace": trace and str(trace),
            "drawn": str(self.drawn),
            "patience_s": PATIENCE_S,
            "pause_s": PAUSE_S,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code = json.loads(self.process.stdout.readline())["code"]
        return Call(code, words.read_text(encoding="utf-8", errors="replace"))

    def _play(self, drawn: Draw, root: Path, story: list[str]) -> None:
        def tell(call: Call) -> Call:
            story.append(f"exit {call.code}: {call.words[-1500:]}")
            assert call.code is not None, "it hangs"
            assert "Traceback" not in call.words, "a traceback"
            return call

        first = tell(self.call(root, drawn.command, drawn.fate)) if drawn.fate else None
        if first is not None:
            check_end(drawn, first)
        if drawn.damage is None:
            last = first
            if first is None or first.code != 0:
                last = tell(self.call(root, drawn.command))
            assert last is not None
            assert last.code == 0, "the same command didn't end well"
            assert outcome(root, drawn.command, last) == self.expected[drawn.command]
            return
        path, content = damage(root / RUN, drawn)
        if path is None:
            return
        story.append(f"{drawn.damage} {path}")
        last = tell(self.call(root, drawn.command))
        if last.code == 0:
            assert outcome(root, drawn.command, last) == self.expected[drawn.command]
            return
        assert last.code in (1, 2), "not an exit code of ours"
        assert path.name in last.words, "it doesn't name the file"
        put_right(root, path, content, last.words, story)
        last = tell(self.call(root, drawn.command))
        assert last.code == 0, "put right, it doesn't end well"
        assert outcome(root, drawn.command, last) == self.expected[drawn.command]


def check_end(drawn: Draw, call: Call) -> None:
    """Check a disturbed call's exit code: done, its signal's, or 1 with a message."""
    numbers = {"SIGKILL": 9, "SIGTERM": 15, "SIGINT": 2, "SIGHUP": 1}
    sent = [numbers[name] for name in drawn.fate.get("signals", []) if name in numbers]
    allowed = {0, *(-n for n in sent), *(128 + n for n in sent)}
    if "error" in drawn.fate or "nan" in drawn.fate:
        allowed = {0, 1}
    assert call.code in allowed, f"exit code {call.code} isn't among {sorted(allowed)}"


def outcome(root: Path, command: str, call: Call) -> dict[str, str]:
    """Return what a command has come to: sha256 by file, or its words."""
    if command == "evaluate":
        return {"words": call.words}
    if command == "predict":
        return {"labels.parquet": _sha256(root / "labels.parquet")}
    run = root / RUN
    wanted = ["oof.parquet", "metrics.json", "folds.parquet", "classes.json", "config.yaml"]
    for fold in ("fold-1", "fold-2"):
        names = ("predictions.parquet", "validation.json", "metrics.jsonl", "encoders.json")
        best = json.loads((run / fold / "best.json").read_text(encoding="utf-8"))["folder"]
        weights = f"checkpoints/{best}/model.safetensors"
        wanted += [f"{fold}/{name}" for name in (*names, weights)]
    return {name: _sha256(run / name) for name in wanted}


def damage(run: Path, drawn: Draw) -> tuple[Path | None, bytes]:
    """Damage one of a run's files; return which, and what was in it."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    if not files:
        return None, b""
    which, place = drawn.where
    path = files[int(which * len(files))]
    content = path.read_bytes()
    if drawn.damage == "flip":
        flipped = bytearray(content)
        bit = int(place * len(content) * 8)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
    elif drawn.damage == "truncate":
        path.write_bytes(content[: int(place * len(content))])
    else:
        path.unlink()
    if drawn.damage == "link":
        copy = run.parent.parent / "outside"
        copy.write_bytes(content)
        path.symlink_to(copy)
    return path, content


def put_right(root: Path, path: Path, content: bytes, words: str, story: list[str]) -> None:
    """Remove what the message says is to be removed, or put the damaged file back."""
    for name in re.findall(r"remove (\S+)", words):
        doomed = root / name.rstrip(".,;)")
        if doomed.exists() and root / RUN in doomed.parents:
            story.append(f"removed {doomed}")
            shutil.rmtree(doomed) if doomed.is_dir() else doomed.unlink()
            return
    story.append(f"put back {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@contextmanager
def zygote() -> Iterator[subprocess.Popen[str]]:
    """Start the process that forks a child for each command; it ends with the block."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, str(HERE / "zygote.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline(), "the zygote doesn't start"
        yield process
    finally:
        process.communicate()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
