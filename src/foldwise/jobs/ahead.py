"""What of a run needs no GPU, done ahead: a config in, near-duplicates and token stores out.

The run itself isn't begun: on which device it computes, how precisely and by which attention is
chosen where it trains. That call finds by the hash of the texts what lies beside the runs, deals
the same folds, and trains; without it the same is done there.
"""

from __future__ import annotations

from foldwise.config.members import beside_the_model
from foldwise.config.schema import Config
from foldwise.hardware.device import build_accelerator
from foldwise.members.roster import check_members, reads_embedding
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import Prepared, encode_rows, prepare
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import RunFolder


def prepare_ahead(config: Config, run: RunFolder) -> Prepared:
    """Read, deduplicate, split and tokenize a run's rows, its holdout's too.

    Args:
        config: as loaded; its device needn't be here.
        run: where the run will lie, or does; it is left alone.

    Raises:
        FoldwiseError: the input doesn't allow the run, or it can't lie there.
        RunInterrupted: the disk is full.
    """
    if run.config.exists():
        run.check_is_run()
    else:
        run.check_place()
    training = config.training.model_copy(update={"device": "cpu", "precision": "float32"})
    model = config.model.model_copy(update={"attention": "auto", "quantize": None})
    config = resolve(config.model_copy(update={"training": training, "model": model}))
    code = UserCode(config.code)
    task = build_task(config, code, stores=run.token_stores)
    prepared = prepare(config, code, run, task, online=True)
    check_members(config, code, task)
    prepared = encode_rows(prepared)
    held = [] if prepared.holdout is None else [prepared.holdout]
    for rows in held:
        task.dataset(rows)
    if any(reads_embedding(part, config, code) for part in beside_the_model(config)):
        # Imported only now: transformers is slow to import, and not every run has a text.
        from foldwise.members.frozen import Frozen

        frozen = Frozen.of_run(prepared, build_accelerator(config.training))
        for rows in (prepared.frame, *held):
            frozen.texts(rows)
    return prepared
