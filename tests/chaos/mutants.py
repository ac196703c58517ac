"""Take away, one by one, what keeps runs safe and honest; show that a test notices each time.

    make mutants

In: src/ and the tests named below. Out: a line a mutant with the test that killed it; exit code 1
if one survives, if a line that is to be deleted isn't there any more, or if the tests fail without
any mutant. Only those few tests are run for each, so all takes a few minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600
HANGS = 124  # as timeout(1) has it
STORE = "tests/chaos/test_store.py::test_the_newest_committed_step_is_always_found"
LOOP = "tests/training/test_loop.py"


@dataclass(frozen=True)
class Mutant:
    """One thing taken away.

    Attributes:
        name: what is missing.
        edits: (pattern, replacement); each pattern occurs once in all of src/.
        tests: at least one of them must fail then.
    """

    name: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


MUTANTS = (
    Mutant("the fsync", ((r"os\.fsync\(descriptor\)", "pass"),), (STORE,)),
    Mutant(
        "the rename (files are written in place)",
        ((r"( +)yield temporary\n", r"\1yield path\n\1sync_file(path)\n\1return\n"),),
        (STORE,),
    ),
    Mutant(
        "the manifest check",
        ((r"if .*\bsha256\(path\) != entry\[.*:", "if False:"),),
        (STORE,),
    ),
    Mutant(
        "the flock",
        (
            (r"fcntl\.flock\(descriptor, fcntl\.LOCK_EX\)", "pass"),
            (r"fcntl\.flock\(descriptor, fcntl\.LOCK_EX \| fcntl\.LOCK_NB\)", "pass"),
        ),
        (STORE,),
    ),
    Mutant(
        "the reseed for each batch",
        (
            (r"( +)reseed\(\*settings\.seed, step\.epoch, micro, 1\)\n", ""),
            (r"( +)reseed\(\*self\.seed, number, 0\)\n", ""),
        ),
        (f"{LOOP}::test_resume_from_the_checkpoint_of_every_step_ends_with_the_same_bytes",),
    ),
    Mutant(
        "the check for NaN",
        ((r"(?m)^( +)_check_finite\((?:.*\)|\n(?:\1 .*\n)+\1\))\n", ""),),
        (f"{LOOP}::test_gradient_that_is_not_finite_stops_too",),
    ),
    Mutant(
        "the split by groups (duplicates straddle folds)",
        (
            (
                r"group = _joined\(grouped\[0\]\.group, kept, config\)",
                "group = np.arange(kept.height)",
            ),
        ),
        ("tests/preparation/test_prepare.py",),
    ),
    Mutant(
        "fitting on the training rows alone",
        ((r"task\.fit_rows\(prepared\.frame\[train\]\)", "task.fit_rows(prepared.frame)"),),
        (
            "tests/tasks/test_columns.py::test_a_scored_rows_values_do_not_reach_the_encoders",
            "tests/test_workflow.py::test_labels_of_validation_rows_do_not_reach_the_weights",
        ),
    ),
    Mutant(
        "the order in which a run is sent to a store",
        ((r"begun = _MANIFEST in there", "return [sorted(names)]"),),
        ("tests/storage/test_order_of_sending.py::test_every_state_of_the_store_is_a_killed_runs",),
    ),
)


def main() -> int:
    """Run the tests without a mutant, then against each."""
    tests = tuple(dict.fromkeys(test for mutant in MUTANTS for test in mutant.tests))
    code, failed = run_tests((), tests)
    if code != 0:
        print(f"without any mutant the tests end in {code}: {', '.join(failed)}")
        return 1
    survivors = 0
    for number, mutant in enumerate(MUTANTS, 1):
        code, failed = run_tests(mutant.edits, mutant.tests)
        killed = code == 1 and bool(failed)  # 2 and above: pytest itself didn't come to the tests
        survivors += not killed
        told = f"killed by {failed[0]}" if killed else f"SURVIVES (pytest ends in {code})"
        print(f"{number}. without {mutant.name}: {told}", flush=True)
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} killed")
    return int(survivors > 0)


def run_tests(edits: tuple[tuple[str, str], ...], tests: tuple[str, ...]) -> tuple[int, list[str]]:
    """Run tests against a copy of src/ with some edits.

    Returns:
        pytest's exit code, HANGS where it took too long, and the tests that failed.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        for pattern, replacement in edits:
            edit(source, pattern, replacement)
        environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
        options = ("-q", "-x", "-rf", "-p", "no:cacheprovider", "--rootdir", str(ROOT))
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *tests],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return HANGS, []
    return ended.returncode, re.findall(r"^FAILED (\S+)", ended.stdout, re.M)


def edit(source: Path, pattern: str, replacement: str) -> None:
    """Replace the one occurrence of a pattern in a folder of Python files.

    Raises:
        SystemExit: it occurs never or more than once.
    """
    places = occurrences(source, pattern)
    if len(places) != 1:
        sys.exit(f"{pattern!r} is to be there once; found in {places}: put the mutant right")
    text = places[0].read_text(encoding="utf-8")
    places[0].write_text(re.sub(pattern, replacement, text), encoding="utf-8")


def occurrences(source: Path, pattern: str) -> list[Path]:
    """Return where a pattern occurs in a folder of Python files, a file once for each time."""
    return [
        path
        for path in sorted(source.rglob("*.py"))
        for _ in re.finditer(pattern, path.read_text(encoding="utf-8"))
    ]


if __name__ == "__main__":
    sys.exit(main())
