"""`foldwise serve`: a run behind HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldwise.commands.labelling import Models, load_models, who_labels
from foldwise.commands.output import PLAIN, Output
from foldwise.errors import FoldwiseError
from foldwise.run.folder import RunFolder
from foldwise.storage.places import called


@dataclass(frozen=True)
class Place:
    """Where a server listens, and who may ask it.

    Attributes:
        host: an address of this machine.
        port: 0 for a free one.
        names: further names that a Host header may say.
        token_file: holds the token; None: the environment variable does, or there is none.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()
    token_file: Path | None = None


@dataclass(frozen=True)
class Bounds:
    """What is asked of the limits of a server, in the units of the command line.

    Attributes:
        rows: of a request.
        characters: of a text.
        body_mb: of a request, in MiB.
        queue: rows that wait.
        timeout_s: until an answer.
        explain_s: until an explanation.
        batch_rows: labelled together.
        wait_ms: for company.
    """

    rows: int
    characters: int
    body_mb: float
    queue: int
    timeout_s: float
    explain_s: float
    batch_rows: int
    wait_ms: float


def serve(
    models: Models,
    place: Place,
    bounds: Bounds,
    onnx: Path | None = None,
    tell: Output = PLAIN,
) -> None:
    """Serve a run until SIGTERM or Ctrl-C.

    Args:
        models: of a run.
        place: where to listen.
        bounds: of requests.
        onnx: a folder of `foldwise export` whose model labels in the place of the run's; or None.
        tell: prints.

    Raises:
        FoldwiseError: bad input, or a package that serves isn't installed.
    """
    RunFolder(models.run).check_is_run()
    try:
        from foldwise.serving.answers import labels_by
        from foldwise.serving.app import Server
        from foldwise.serving.described import describe
        from foldwise.serving.explaining import explains_by
        from foldwise.serving.limits import Limits
        from foldwise.serving.listening import address_of, bind, listen, read_token
        from foldwise.serving.onnx import open_export
    except ModuleNotFoundError as error:
        raise FoldwiseError(
            f"serve needs the package {error.name}: pip install 'foldwise[serve]'"
        ) from None
    limits = Limits(
        body_bytes=int(bounds.body_mb * 2**20),
        rows=bounds.rows,
        characters=bounds.characters,
        queued_rows=bounds.queue,
        timeout_s=bounds.timeout_s,
        explain_s=bounds.explain_s,
        batch_rows=bounds.batch_rows,
        wait_s=bounds.wait_ms / 1000,
    )
    token = read_token(place.token_file)
    with bind(place.host, place.port, token) as bound:
        predictor = load_models(models)
        explain, why_not = None, None
        try:
            explain = explains_by(predictor)
        except FoldwiseError as error:
            why_not = str(error)
        engine = None if onnx is None else open_export(predictor, onnx)
        about = None if engine is None else engine.about
        served = describe(predictor, limits, why_not, about)
        label = labels_by(predictor, engine)
        server = Server(label, served, explain, limits, place.names, token)
        address = address_of(bound)
        tell.say(
            f"{who_labels(predictor)} of {called(models.run)} answers at {address}; Ctrl-C ends it"
        )
        if engine is not None:
            tell.say(_engine_in_words(engine.about))
        if why_not is not None:
            tell.say(f"it doesn't explain its answers: {why_not}")
        listen(server, bound)
    tell.end(f"stopped: {address}", {"run": called(models.run), "address": address})


def _engine_in_words(about: dict[str, Any]) -> str:
    return (
        f"labels by onnxruntime in {about['precision']}: of {about['made_up_rows']} rows of random "
        f"words {about['other_labels']} get another label than by the run's own model, and values "
        f"differ by up to {about['largest_difference']:.2g}"
    )
