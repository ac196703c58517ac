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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaos.draws import Draw, draw
from chaos.faults import Event
from chaos.plays import RUN, Play
from conftest import make_table, save_backbone

HERE = Path(__file__).parent
OUTSIDE = "outside"  # of the run: what a planted link points at
LIST = "list of files"
PATIENCE_S = 120


@dataclass(frozen=True)
class Call:
    """How a call of a command ended: exit code (-n by signal n, None if it hung), its words."""

    code: int | None
    words: str


@dataclass(frozen=True)
class Damage:
    """A file that was damaged, and what was in it."""

    path: Path
    content: bytes


class Stage:
    """An undisturbed run, and a process that can play any number of disturbed ones.

    Args:
        folder: an empty one; every draw gets a folder in it.
        process: the zygote.
        given: the run, and what is given on it.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[str], given: Play) -> None:
        self.folder, self.process, self.given = folder, process, given
        self.template = folder / "template"
        self.template.mkdir()
        self.drawn = folder / "drawn"
        self.drawn.mkdir()
        save_backbone(self.template / "bert")
        make_table().write_csv(self.template / "table.csv")
        (self.template / "config.yaml").write_text(yaml.safe_dump(given.config), encoding="utf-8")
        self.whole = folder / "whole"
        shutil.copytree(self.template, self.whole)
        self.traces: dict[str, list[Event]] = {}
        self.expected: dict[str, dict[str, str]] = {}
        for command in given.calls:
            trace = folder / f"{command}.trace"
            [call] = self.call(self.whole, command, trace=trace)
            assert call.code == 0, call.words
            lines = trace.read_text(encoding="utf-8").splitlines()
            self.traces[command] = [Event(*line.split("\t")) for line in lines]
            self.expected[command] = outcome(self.whole, command, call)

    def play(self, seed: int, command: str | None = None) -> None:
        """Play a draw, and print it.

        Args:
            seed: of the draw.
            command: that something befalls; None: drawn too.

        Raises:
            AssertionError: it didn't end as the undisturbed run did.
        """
        commands = self.given.drawn if command is None else (command,)
        drawn = draw(seed, self.traces, self.given.kinds, commands)
        of = "" if command is None else f" FOLDWISE_CHAOS_OF={command}"
        story = [f"{drawn}", f"replay: FOLDWISE_CHAOS_SEED={seed}{of} pytest tests/chaos -k one"]
        print(*story, sep="\n")
        with self.scene(drawn.command) as root:
            try:
                self._play(drawn, root, story.append)
            except AssertionError as error:
                raise AssertionError("\n".join([*story, str(error)])) from None

    @contextmanager
    def scene(self, command: str) -> Iterator[Path]:
        """Give a folder where a command is about to be given for the first time."""
        root = self.folder / "scene"
        shutil.copytree(self.template if command == "train" else self.whole, root)
        (root / "labels.parquet").unlink(missing_ok=True)
        if command == "refit":
            shutil.rmtree(root / RUN / "refit")
        try:
            yield root
        finally:
            shutil.rmtree(root)

    def call(
        self,
        root: Path,
        command: str,
        fate: dict[str, Any] | None = None,
        *,
        trace: Path | None = None,
        meanwhile: str | None = None,
        more: Sequence[str] = (),
    ) -> list[Call]:
        """Give a command in a process of its own, and wait for its end.

        Args:
            root: the working directory.
            command: of what is given.
            fate: what befalls it.
            trace: file that takes its file operations.
            meanwhile: the command that another process is given while this one is stopped.
            more: further arguments.

        Returns:
            How it ended; then how the other one did, if it began.
        """
        words = [self.folder / f"words-{number}" for number in (0, 1)]
        shared = {"root": str(root), "drawn": str(self.drawn), "trace": None, "fate": {}}
        calls = [
            {
                **shared,
                "given": [*self.given.calls[command], *more],
                "words": str(words[0]),
                "fate": fate or {},
                "trace": trace and str(trace),
            }
        ]
        if meanwhile is not None:
            calls.append({**shared, "given": self.given.calls[meanwhile], "words": str(words[1])})
        for path in words:
            path.unlink(missing_ok=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"calls": calls, "patience_s": PATIENCE_S}) + "\n")
        self.process.stdin.flush()
        codes = json.loads(self.process.stdout.readline())["codes"]
        return [
            Call(code, path.read_text(encoding="utf-8", errors="replace"))
            for code, path in zip(codes, words, strict=False)
            if path.exists()
        ]

    def _play(self, drawn: Draw, root: Path, tell: Callable[[str], None]) -> None:
        def give(fate: dict[str, Any] | None = None) -> Call:
            meanwhile = drawn.command if drawn.another else None
            calls = self.call(root, drawn.command, fate, meanwhile=meanwhile)
            for call in calls:
                tell(f"exit {call.code}: {call.words[-1500:]}")
                assert call.code is not None, "it hangs"
                assert "Traceback" not in call.words, "a traceback"
            for other in calls[1:]:
                assert other.code in (0, 2), "not how a second process ends"
            return calls[0]

        last = None
        for fate in drawn.fates:
            last = give(fate)
            check_end(drawn, fate, last)
            if last.code == 0:
                break
        found = damage(root / RUN, drawn) if drawn.damage else None
        if found is not None:
            tell(f"{drawn.damage} {found.path}")
            last = give()
            outside = root / OUTSIDE
            assert not outside.exists() or outside.read_bytes() == found.content, "written outside"
            if last.code == 0:
                self._check_unread(drawn, root, last, found)
            else:
                assert last.code in (1, 2), "not an exit code of ours"
                assert found.path.name in last.words, "it doesn't name the file"
                tell(done := put_right(root, found, last.words))
                if drawn.command != "train" and done.startswith("removed"):
                    [call] = self.call(root, "train")  # as such a message says
                    tell(f"exit {call.code}: {call.words[-1500:]}")
                last = None
        if last is None or last.code != 0:
            last = give()
        if drawn.command == "predict" and "is there already" in last.words:
            last = Call(0, last.words)  # it was written whole before the end came
        assert last.code == 0, "the same command didn't end well"
        self._check_outcome(drawn.command, root, last)

    def _check_outcome(self, command: str, root: Path, call: Call) -> None:
        differing = differences(outcome(root, command, call), self.expected[command])
        assert not differing, f"differs from the undisturbed run's: {', '.join(differing)}"

    def _check_unread(self, drawn: Draw, root: Path, call: Call, damaged: Damage) -> None:
        # A command that had no need of the damaged file ends well: whoever needs it must see it.
        found, expected = outcome(root, drawn.command, call), self.expected[drawn.command]
        differing = differences(found, expected)
        for name in differing:
            own = name == LIST or root / RUN / name == damaged.path
            assert own, f"{name} differs from the undisturbed run's"
            assert name not in ("oof.parquet", "metrics.json"), f"{name} is accepted damaged"
        if not differing:
            return
        [reader] = self.call(root, "evaluate")
        if reader.code == 0:
            assert outcome(root, "evaluate", reader) == self.expected["evaluate"]
        else:
            assert (reader.code, "Traceback" in reader.words) == (2, False), reader.words
            assert damaged.path.name in reader.words, reader.words
        put_right(root, damaged, "")


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Return the names whose values differ."""
    return sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))


def check_end(drawn: Draw, fate: dict[str, Any], call: Call) -> None:
    """Check a disturbed call's exit code: done, its signal's, or 1 with a message."""
    numbers = {"SIGKILL": 9, "SIGTERM": 15, "SIGINT": 2, "SIGHUP": 1}
    sent = [numbers[name] for name in fate.get("signals", []) if name in numbers]
    allowed = {0, *(-n for n in sent), *(128 + n for n in sent)}
    if "error" in fate:
        allowed = {0, 1}
    if "nan" in fate:
        allowed = {1}
    if drawn.another:
        allowed.add(2)  # the other one may have begun the run meanwhile
    assert call.code in allowed, f"exit code {call.code} isn't among {sorted(allowed)}"


def outcome(root: Path, command: str, call: Call) -> dict[str, str]:
    """Return what a command has come to: sha256 by file, or its words."""
    if command == "evaluate":
        return {"words": call.words}
    if command == "predict":
        return {"labels.parquet": _sha256(root / "labels.parquet")}
    run = root / RUN
    if command == "refit":
        return _outcome_of_refit(run)
    wanted = ["oof.parquet", "metrics.json", "folds.parquet", "classes.json", "config.yaml"]
    for fold in ("fold-1", "fold-2"):
        wanted += [f"{fold}/{name}.json" for name in ("best", "encoders", "validation")]
        wanted += [f"{fold}/metrics.jsonl", f"{fold}/predictions.parquet"]
    wanted += [str(path.relative_to(run)) for path in run.glob("fold-*/*/step-*/model.safetensors")]
    wanted += [str(p.relative_to(run)) for p in run.glob("**/members/**/*") if p.is_file()]
    # Whatever happened, nothing is left over and the report is drawn.
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    listed = "\n".join(name for name in names if "/damaged-" not in name)
    return {LIST: listed, **{name: _sha256(run / name) for name in wanted}}


def _outcome_of_refit(run: Path) -> dict[str, str]:
    wanted = ["oof.parquet", "metrics.json", "seal.json"]  # which it leaves alone
    # Its log and seal hold times of day, its training.json how long it took.
    timed = {"log.jsonl", "seal.json", "training.json", "measured.json", ".lock"}
    files = [path for path in (run / "refit").rglob("*") if path.is_file()]
    wanted += [
        str(p.relative_to(run)) for p in files if p.name not in timed and "step-" not in str(p)
    ]
    wanted += [str(p.relative_to(run)) for p in files if p.name == "model.safetensors"]
    measured = json.loads((run / "refit" / "measured.json").read_text(encoding="utf-8"))
    told = {name: value for name, value in measured.items() if name != "ms_a_row"}
    listed = "\n".join(sorted(str(path.relative_to(run)) for path in files))
    found = {LIST: listed, "measured.json": json.dumps(told)}
    return {**found, **{name: _sha256(run / name) for name in wanted}}


def damage(run: Path, drawn: Draw) -> Damage | None:
    """Damage one of a run's files; None where it has none yet."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    if not files:
        return None
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
        copy = run.parent.parent / OUTSIDE
        copy.write_bytes(content)
        path.symlink_to(copy)
    return Damage(path, content)


def put_right(root: Path, damaged: Damage, words: str) -> str:
    """Remove what the message says is to be removed, or put the damaged file back.

    Returns:
        Which of the two was done.
    """
    said = re.search(r"remove (\S+?)[,;]?(?: and (\S+\.\w+))?(?:\s|$)", words)
    doomed = root / said[1] if said else root
    if said and doomed.exists() and root / RUN in doomed.parents:
        for path in (doomed, *([doomed.parent / said[2]] if said[2] else [])):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return f"removed {said[1]} {said[2] or ''}"
    path = damaged.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(damaged.content)
    return f"put back {path}"


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
