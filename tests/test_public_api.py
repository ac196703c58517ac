from __future__ import annotations

import subprocess
import sys

import foldwise


def test_public_names_are_functions_and_classes_even_after_their_rooms_were_imported() -> None:
    # A room of the same name would take the function's place once anything had imported it.
    names = sorted(set(foldwise.__all__) - {"__version__"})
    code = (
        f"import foldwise.workflow, foldwise.predictor; from foldwise import {', '.join(names)}; "
        f"assert all(map(callable, [{', '.join(names)}]))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_foldwise_costs_nothing() -> None:
    code = "import sys, foldwise; assert not {'torch', 'polars', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
