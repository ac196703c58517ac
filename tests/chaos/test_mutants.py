"""What the mutants delete is there: a mutant that changes nothing would survive unseen."""

from __future__ import annotations

import pytest

from chaos.mutants import MUTANTS, ROOT, Mutant, occurrences


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_line_that_a_mutant_changes_occurs_once(mutant: Mutant) -> None:
    for pattern, _ in mutant.edits:
        assert len(occurrences(ROOT / "src", pattern)) == 1, pattern


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_test_that_is_to_kill_a_mutant_is_there(mutant: Mutant) -> None:
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8"), test
