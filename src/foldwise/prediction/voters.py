"""Who votes: a run, and which of its models were asked for, in; their folders and weights out.

And loaded: each voting fold with the task, the fine-tuned model and the members that its answer
hangs on, and the frozen backbone where one of them reads its vectors. What is read is checked
against the run's seal first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from accelerate import Accelerator
from torch import nn

from foldwise.config.members import MODEL, beside_the_model
from foldwise.config.schema import Config
from foldwise.ensemble.choose import Chosen
from foldwise.errors import FoldwiseError
from foldwise.evaluation.answer import chosen_of
from foldwise.evaluation.validate import load_task
from foldwise.members.frozen import Frozen
from foldwise.members.member import Member
from foldwise.members.roster import build_member, outputs_of, reads_embedding
from foldwise.members.store import restore
from foldwise.models.adapters import merge_adapters
from foldwise.parts.usercode import UserCode
from foldwise.prediction.fitted import Fitted
from foldwise.preparation.build import build_fold_model, holds
from foldwise.run import checkpoints
from foldwise.run.folder import DISTILLED, ONES, REFIT, FoldFolder, RunFolder
from foldwise.run.ones import first_stage, is_fitted
from foldwise.run.seal import check, read_metrics, sealed_folds, trained_folds
from foldwise.run.weights import load_weights
from foldwise.tasks.task import Task


def folders_of(run: RunFolder, folds: Sequence[int] | None, model: str) -> list[FoldFolder]:
    """Return the folders of the fold models that vote, or that of the one model.

    Args:
        run: the run.
        folds: numbers; None for all that are trained.
        model: all, `fold-2`, refit or distilled.

    Raises:
        FoldwiseError: there is no such model, or it isn't trained.
    """
    numbers = [] if model in ONES and not folds else _trained(run, folds, model)
    folders = [run.fold(number) for number in numbers] or [run.one(model)]
    for folder in folders:
        if folder.for_all and not is_fitted(folder):
            making = "distill" if model == DISTILLED else model
            raise FoldwiseError(
                f"{run.path}: has no model {model!r}; make it by: foldwise {making} {run.path}"
            )
        check(folder.path, first_stage(folder) or "trained")
    if model == REFIT and not run.finished:
        raise FoldwiseError(
            f"{run.path}: isn't finished any more, so the weights of its answer aren't known; go "
            "on with it by foldwise train"
        )
    return folders


def choose_members(
    run: RunFolder,
    config: Config,
    folder: FoldFolder,
    member: str | None,
    *,
    as_scored: bool = False,
) -> Chosen:
    """Return the members that predict, and their weights.

    Args:
        run: the run.
        config: as it ran.
        folder: of one of the models that vote.
        member: the name of one that predicts alone; None for the answer.
        as_scored: the answer's weights are to be those that the fold's own rows were scored by.

    Raises:
        FoldwiseError: the run has no such member.
    """
    if member is None:
        metrics = read_metrics(run) if run.finished else {}
        chosen = chosen_of(metrics)
        if as_scored and len(sealed_folds(run)) > 1:  # a single fold's rows were dealt to parts
            folds = (metrics.get("answer") or {}).get("folds", {})
            chosen = chosen_of({"answer": folds.get(str(folder.number))}) if folds else chosen
        if folder.path.name == DISTILLED:
            # It was taught what the members say together, tempered, by a loss that weighs classes.
            decision = replace(chosen.decision, temperature=1.0, class_weights=())
            return Chosen((MODEL,), np.ones(1), False, {}, decision)
        names = [MODEL, *(part.name for part in beside_the_model(config))]
        if unknown := [name for name in chosen.voting if name not in names]:
            raise FoldwiseError(
                f"{run.metrics}: its answer names {unknown[0]!r}, which the run's config "
                f"has no member of; put it back from a copy of the run, or give --member"
            )
        return chosen
    there = [path.name for path in sorted(folder.member("").path.glob("*"))]
    if first_stage(folder) == "trained":
        there = [MODEL, *there]
    if member not in there:
        raise FoldwiseError(f"{run.path}: has no member {member!r}; it has: {', '.join(there)}")
    return Chosen((member,), np.ones(1), False, {})


@dataclass(frozen=True)
class Loader:
    """Loads what votes.

    Attributes:
        run: the run.
        config: as it ran, resolved for this machine.
        code: the run's.
        chosen: the members that vote.
        accelerator: device and precision.
        online: ask the hub for the backbone that adapters stand beside.
    """

    run: RunFolder
    config: Config
    code: UserCode
    chosen: Chosen
    accelerator: Accelerator
    online: bool

    def fold(self, folder: FoldFolder) -> Fitted:
        """Load a fold's task and the members of it that vote."""
        task = load_task(self.run, folder, self.config, self.code, stores=None, online=self.online)
        model = self._model(folder, task) if MODEL in self.chosen.voting else None
        names = [name for name in self.chosen.voting if name != MODEL]
        return Fitted(task, model, {name: self._member(folder, task, name) for name in names})

    def frozen(self) -> Frozen | None:
        """Load the frozen backbone; None where no voting member reads its vectors."""
        parts = {part.name: part for part in beside_the_model(self.config)}
        voting = [parts[name] for name in self.chosen.voting if name != MODEL]
        if not any(reads_embedding(part, self.config, self.code) for part in voting):
            return None
        if self.run.frozen.exists():
            name = str(self.run.frozen.relative_to(self.run.path))
            check(self.run.path, "finished", only=[name])
        return Frozen.stored(self.config, self.run, self.accelerator, online=self.online)

    def _model(self, folder: FoldFolder, task: Task) -> nn.Module:
        checkpoint = checkpoints.load_best(folder)
        model = build_fold_model(task, self.config, folder)
        load_weights(model, checkpoint.model)
        # Rounded to bf16, the sum of weights and adapters isn't what was validated.
        exact = self.config.training.precision == "float32"
        if self.config.model.lora is not None and exact:
            merge_adapters(model)
        return model.to(self.accelerator.device).eval()

    def _member(self, folder: FoldFolder, task: Task, name: str) -> Member:
        place = folder.member(name)
        files = [str(path.relative_to(folder.path)) for path in (place.state, place.arrays)]
        check(folder.path, "members", only=files)
        parts = {part.name: part for part in beside_the_model(self.config)}
        kind, width = holds(task), outputs_of(task)
        member = build_member(parts[name], self.config, self.code, kind, width)
        restore(member, place.path)
        return member


def _trained(run: RunFolder, folds: Sequence[int] | None, model: str) -> list[int]:
    named = re.fullmatch(r"fold-([1-9]\d{0,5})", model)
    if named is None and model not in ("all", *ONES):
        raise FoldwiseError(
            f"--model {model}: choose all, fold-1 (or another fold), {' or '.join(ONES)}"
        )
    if folds and model != "all":
        raise FoldwiseError(f"--model {model}: is one model; --folds chooses among all of them")
    trained = trained_folds(run)
    chosen = sorted(set(folds or ([int(named[1])] if named else trained)))
    if lacking := sorted(set(chosen) - set(trained)):
        raise FoldwiseError(f"{run.path}: fold {lacking[0]} isn't trained; trained are: {trained}")
    if not chosen:
        raise FoldwiseError(f"{run.path}: no fold is trained yet")
    return chosen
