"""What `predict` and `evaluate` share: a run's models and a table's rows, as the options name them.

In: the options, in two values. Out: the models, loaded, and the rows, read. An option that both
commands take is one field here and one line in each of their signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldwise.commands.output import Output
from foldwise.commands.quiet import begin
from foldwise.commands.train import parse_folds
from foldwise.config.training import Precision
from foldwise.decisions.asked import Asked
from foldwise.table.written import NewTable

if TYPE_CHECKING:
    import polars as pl

    from foldwise.prediction.file import Lines
    from foldwise.predictor import Predictor
    from foldwise.table.chunks import Chunk


@dataclass(frozen=True)
class Models:
    """Which of a run's models label, and how they are loaded.

    Attributes:
        run: the run folder.
        folds: comma-separated folds whose models vote; None for all.
        trust_code: run the Python files that lie in the run folder.
        online: ask the hub for what is needed.
        precision: float32, bf16 or fp16; None: the run's, where the device computes in it.
        member: one that labels alone; None for the run's answer.
        model: all fold models, one of them, or the one model that stands for all.
    """

    run: Path
    folds: str | None = None
    trust_code: bool = False
    online: bool = False
    precision: Precision | None = None
    member: str | None = None
    model: str = "all"


def load_models(models: Models) -> Predictor:
    """Load the models.

    Raises:
        FoldwiseError: not a run, or a fold that isn't trained.
    """
    voting = None if models.folds is None else parse_folds(models.folds)
    begin(models.run, online=models.online)
    from foldwise.predictor import Predictor

    return Predictor(
        models.run,
        voting,
        trust_code=models.trust_code,
        online=models.online,
        precision=models.precision,
        member=models.member,
        model=models.model,
    )


@dataclass(frozen=True)
class Labeller:
    """Makes what labels chunks, on whichever machine of a Ray it is called.

    Attributes:
        models: of a run.
        asked: what is decided beyond naming labels.
    """

    models: Models
    asked: Asked

    def __call__(self) -> tuple[Mapping[str, Any], Callable[[Chunk], Lines]]:
        """Load the models; return which they are, and what labels a chunk by them."""
        from foldwise.prediction.file import labelled

        predictor = load_models(self.models)
        if self.asked.anything:
            predictor.decide(self.asked)
        labels = predictor.labels()
        return labels.models, partial(labelled, labels=labels)


def load_both(
    models: Models, table: NewTable, *, labelled: bool, tell: Output
) -> tuple[Predictor, pl.DataFrame]:
    """Load the models, read the rows whole, and print what was odd about them.

    Args:
        models: of a run.
        table: the rows.
        labelled: the target column must be there.
        tell: prints.

    Raises:
        FoldwiseError: not a run, a fold that isn't trained, or a table that can't be read.
    """
    predictor = load_models(models)
    frame = predictor.read(
        table.path, labelled=labelled, delimiter=table.delimiter, encoding=table.encoding
    )
    for note in predictor.notes:
        tell.note(note)
    return predictor, frame


def who_labels(predictor: Predictor) -> str:
    """Say who labels: `the blend of ... of fold 1, 2`, one member, or `..., refit`."""
    from foldwise.evaluation.words import in_a_sentence, listed

    names = [in_a_sentence(name) for name in predictor.chosen.voting]
    folds = f" of fold {', '.join(map(str, predictor.folds))}" if predictor.folds else ""
    where = folds or f", {predictor.model}"
    return f"{'the blend of ' if len(names) > 1 else ''}{listed(names)}{where}"
