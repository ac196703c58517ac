"""The commands as a user gives them: help, schema, and one tiny run that is trained and used."""

import csv
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
import typer
from sklearn.metrics import accuracy_score, f1_score

from conftest import PRECISION, ROUNDING
from foldwise import cli
from foldwise.commands.labelling import Models
from foldwise.config.load import load_config
from foldwise.table.written import NewTable

FOLDWISE = [sys.executable, "-c", "from foldwise.cli import main; main()"]
HEAVY = ("torch", "transformers", "sklearn", "polars", "accelerate", "altair", "pandas")
REPOSITORY = Path(__file__).parents[2]


def commands() -> Iterator[tuple[list[str], Any]]:
    """List every command with the words that call it."""

    def below(words: list[str], command: Any) -> Iterator[tuple[list[str], Any]]:
        yield words, command
        for name, child in getattr(command, "commands", {}).items():
            yield from below([*words, name], child)

    return below([], typer.main.get_command(cli.app))


@pytest.fixture
def run_main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command that must succeed in this process; return what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["foldwise", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed, message = capsys.readouterr()
        assert ended.value.code == 0, message
        return printed

    return run


def test_help_imports_nothing_heavy_and_comes_quickly() -> None:
    program = (
        "import sys; sys.argv = ['foldwise', '--help']\n"
        "from foldwise.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 3  # of the processor: a busy machine doesn't count
    assert done.stderr == "[]\n"
    for name in ("train", "validate", "predict", "evaluate", "schema", "data"):
        assert f" {name} " in done.stdout


@pytest.mark.parametrize(
    "module", ["config.load", "parts.registry", "run.folder", "commands.predict"]
)
def test_what_runs_before_a_refusal_imports_nothing_heavy(module: str) -> None:
    program = f"import sys, foldwise.{module}\nprint([n for n in {HEAVY[:3]} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("words", [words for words, _ in commands()], ids=" ".join)
def test_help_tells_what_each_command_and_option_does(
    words: list[str], run_main: Callable[..., str]
) -> None:
    command = dict((tuple(w), c) for w, c in commands())[tuple(words)]
    printed = run_main(*words, "--help")
    assert command.help.split("\n")[0].split()[0] in printed
    for parameter in command.params:
        assert parameter.help, f"{words} {parameter.name} has no help"


@pytest.mark.parametrize(("name", "own"), [("predict", ["-o", "out.csv"]), ("evaluate", [])])
def test_what_labels_and_what_is_labelled_arrive_alike_in_both_commands(
    name: str, own: list[str], run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(f"foldwise.commands.{name}.{name}", lambda *given, **_: taken.extend(given))
    options = "--folds 1,2 --trust-code --online --precision bf16 --member linear"
    options += " --delimiter ; --encoding cp1252"
    run_main(name, "runs/demo", "new.csv", *own, *options.split())
    options_of = {"trust_code": True, "online": True, "precision": "bf16", "member": "linear"}
    models = Models(Path("runs/demo"), "1,2", **options_of)
    assert taken[:2] == [models, NewTable("new.csv", delimiter=";", encoding="cp1252")]
    given = asdict(taken[0]) | asdict(taken[1])
    assert all(given.values()), "a field that neither command has an option for"


def test_schema_is_json_schema_that_takes_the_shipped_configs_and_refuses_a_typo(
    run_main: Callable[..., str],
) -> None:
    schema = json.loads(run_main("schema"))
    validator = jsonschema.validators.validator_for(schema, default=None)
    validator.check_schema(schema)
    config = load_config(REPOSITORY / "configs" / "demo.yaml").model_dump()
    validator(schema).validate(config)
    with pytest.raises(jsonschema.ValidationError, match="epoch"):
        validator(schema).validate(config | {"training": {"epoch": 1}})


# One run, trained by the real command in a process of its own.

PROBABILITIES = ["prob_card", "prob_debt", "prob_loan"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def trained(
    place: Path, backbone: Path, table_path: Path
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The run folder, and what the command printed."""
    values = {
        "run": {"name": "tiny"},
        "data": {"path": str(table_path), "target": "label", "text": ["text"]},
        "folds": {"n": 3, "duplicates": "identical"},
        "selection": {"rows": "inner"},
        "text": {"max_length": 24},
        "model": {"backbone": str(backbone)},
        "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
        "training": {"epochs": 9, "batch_size": 8, "device": "cpu", "precision": PRECISION},
        "metrics": ["accuracy", "f1_macro"],
        "ensemble": "model",
        "calibration": "none",
    }
    (place / "config.yaml").write_text(json.dumps(values), "utf-8")
    command = [*FOLDWISE, "train", "config.yaml", "--set", "training.epochs=3"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place / "runs" / "tiny", done


def test_train_prints_the_table_of_scores_and_the_run_folder(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run, done = trained
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    lines = [line.split() for line in done.stdout.splitlines()]
    # The verdict comes first, in the words that the run keeps.
    title = lines.index(["tiny"])
    above = " ".join(word for line in lines[:title] for word in line)
    assert above == f"{metrics['verdict']['told']} Next: {metrics['verdict']['next']}"
    assert ["accuracy", "f1_macro"] in lines
    means = [f"{metrics['mean'][name]:.3f}" for name in ("accuracy", "f1_macro")]
    pooled = [f"{metrics['oof'][name]['value']:.3f}" for name in ("accuracy", "f1_macro")]
    assert ["model", *means] in lines
    assert ["model", *pooled] in lines
    assert {"majority", "linear"} <= {line[0] for line in lines if line}
    assert done.stdout.splitlines()[-1] == "run folder: runs/tiny"
    assert "Warning" not in done.stderr


def test_set_replaces_a_value_of_the_config(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    config = load_config(trained[0] / "config.yaml")
    assert config.training.epochs == 3
    assert config.training.batch_size == 8


def test_the_same_command_on_a_finished_run_prints_its_table_and_touches_nothing(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
    place: Path,
    run_main: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    printed = run_main("train", "config.yaml", "--set", "training.epochs=3")
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    assert printed.split() == trained[1].stdout.split()


def test_train_with_folds_says_which_are_done(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
    place: Path,
    run_main: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    settings = ["--set", "training.epochs=1", "--set", "run.name=parts", "--folds", "1,3"]
    assert run_main("train", "config.yaml", *settings) == (
        "folds done so far: 1, 3; the others complete the run\nrun folder: runs/parts\n"
    )
    assert not (place / "runs" / "parts" / "metrics.json").exists()


def test_validate_gives_the_same_scores_and_predictions_again(
    trained: tuple[Path, subprocess.CompletedProcess[str]], run_main: Callable[..., str]
) -> None:
    run, done = trained
    before = (run / "metrics.json").read_bytes(), (run / "oof.parquet").read_bytes()
    printed = run_main("validate", str(run), "--precision", PRECISION)
    assert ((run / "metrics.json").read_bytes(), (run / "oof.parquet").read_bytes()) == before
    assert printed.splitlines()[-1] == f"run folder: {run}"
    assert printed.split()[:-3] == done.stdout.split()[:-3]


def test_predict_labels_every_row_in_the_table_s_order_and_writes_nothing_else_of_it(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
    tmp_path: Path,
    table_path: Path,
    run_main: Callable[..., str],
) -> None:
    run = str(trained[0])
    rows = pl.read_csv(table_path, infer_schema_length=0).with_columns(secret=pl.lit("=cmd()"))
    rows[3, "text"] = ""
    rows.drop("label").write_csv(tmp_path / "new.csv")
    message = "90 rows labelled by the model of fold 1, 2, 3: labels.{}\n"
    for suffix in ("csv", "parquet"):
        printed = run_main("predict", run, "new.csv", "-o", f"labels.{suffix}")
        assert printed == message.format(suffix)
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    labels = pl.read_parquet(tmp_path / "labels.parquet")
    assert (
        labels.columns
        == list(written[0])
        == [
            "row",
            "prediction",
            "confidence",
            *PROBABILITIES,
            "problem",
        ]
    )
    assert labels["problem"].null_count() == 90
    assert (
        labels["confidence"].to_list()
        == labels.select(pl.max_horizontal(PROBABILITIES)).to_series().to_list()
    )
    assert labels["row"].to_list() == [int(line["row"]) for line in written] == list(range(90))
    assert labels["prediction"].to_list() == [line["prediction"] for line in written]
    for name in PROBABILITIES:
        assert labels[name].to_list() == pytest.approx([float(line[name]) for line in written])
    assert labels.select(pl.sum_horizontal(PROBABILITIES)).to_series().to_list() == pytest.approx(
        [1.0] * 90
    )
    largest = labels.select(PROBABILITIES).to_numpy().argmax(axis=1)
    assert labels["prediction"].to_list() == [["card", "debt", "loan"][i] for i in largest]


def test_predict_abstains_weighs_costs_and_gives_sets(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
    tmp_path: Path,
    table_path: Path,
    run_main: Callable[..., str],
) -> None:
    run = trained[0]
    costs = "true,card,debt,loan,ask\ncard,0,1,1,.5\ndebt,1,0,1,.5\nloan,1,1,0,.5\n"
    (tmp_path / "costs.csv").write_text(costs, "utf-8")
    asked = ["--abstain", "0.5", "--costs", "costs.csv", "--sets", "0.6"]
    printed = run_main("predict", str(run), str(table_path), "-o", "sure.parquet", *asked)
    labels = pl.read_parquet(tmp_path / "sure.parquet")
    known = pl.read_parquet(run / "oof.parquet")
    sure = labels["confidence"] >= 0.5
    assert (
        labels["confidence"].to_list()
        == labels.select(pl.max_horizontal(PROBABILITIES)).to_series().to_list()
    )
    assert (labels["prediction"].is_not_null() == sure).all()
    # To ask costs a half: what is less sure is asked about (Chow 1970).
    assert ((labels["decision"] != "ask") == sure).all()
    sizes = [len(cell.split(";")) if cell else 0 for cell in labels["set"]]
    assert labels["set_size"].to_list() == sizes
    above = known.select(pl.max_horizontal(PROBABILITIES)).to_series() >= 0.5
    right = (known["target"] == known["prediction"]).filter(above).mean()
    lines = printed.splitlines()
    assert lines[0] == (
        f"{sure.mean():.1%} of the rows have a confidence of 0.5 or more and keep their "
        f"prediction; out of fold {above.mean():.1%} have, and {right:.1%} of them are right"
    )
    assert lines[-1] == "90 rows labelled by the model of fold 1, 2, 3: sure.parquet"


def test_predict_by_one_fold_gives_that_model_s_probabilities(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
    table_path: Path,
    tmp_path: Path,
    run_main: Callable[..., str],
) -> None:
    run = trained[0]
    chosen = ["--folds", "2,2", "--precision", PRECISION]
    printed = run_main("predict", str(run), str(table_path), "-o", "two.parquet", *chosen)
    assert printed == "90 rows labelled by the model of fold 2: two.parquet\n"
    scored = pl.read_parquet(run / "fold-2" / "predictions.parquet")
    again = pl.read_parquet(tmp_path / "two.parquet").filter(
        pl.col("row").is_in(scored["row"].to_list())
    )
    for name in PROBABILITIES:
        assert again[name].to_list() == pytest.approx(scored[name].to_list(), abs=ROUNDING)


def test_a_member_can_be_asked_alone(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
    table_path: Path,
    tmp_path: Path,
    run_main: Callable[..., str],
) -> None:
    run, chosen = trained[0], ["--folds", "2", "--member"]
    printed = run_main("predict", str(run), str(table_path), "-o", "m.parquet", *chosen, "linear")
    assert printed == "90 rows labelled by the linear model of fold 2: m.parquet\n"
    scored = pl.read_parquet(run / "fold-2" / "members" / "linear" / "predictions.parquet")
    again = pl.read_parquet(tmp_path / "m.parquet")
    again = again.filter(pl.col("row").is_in(scored["row"].to_list()))
    for name in PROBABILITIES:
        assert again[name].to_list() == pytest.approx(scored[name].to_list(), abs=1e-6)
    assert "by the linear model of fold 2" in run_main(
        "evaluate", str(run), str(table_path), *chosen, "linear"
    )


def test_evaluate_prints_what_scikit_learn_makes_of_the_predictions(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
    table_path: Path,
    tmp_path: Path,
    run_main: Callable[..., str],
) -> None:
    run = str(trained[0])
    run_main("predict", run, str(table_path), "-o", "labels.parquet")
    predicted = pl.read_parquet(tmp_path / "labels.parquet")["prediction"].to_list()
    target = pl.read_csv(table_path)["label"].to_list()
    printed = run_main("evaluate", run, str(table_path))
    values = {
        cells[0]: cells[1]
        for line in printed.splitlines()
        if len(cells := [cell.strip() for cell in line.split("│")[1:-1]]) == 4
    }
    assert values == {
        "accuracy": f"{accuracy_score(target, predicted):.3f}",
        "f1_macro": f"{f1_score(target, predicted, average='macro'):.3f}",
    }
    assert "tiny on 90 rows" in printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_is_left_to_end_the_process_at_once(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = []

    def interrupted() -> None:
        try:
            os.kill(os.getpid(), number)
        except (KeyboardInterrupt, SystemExit):
            left.append(signal.getsignal(number))

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(cli, "app", interrupted)
    try:
        cli.main()
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
    assert left == [signal.SIG_DFL]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("within", ["collection", "finalizer"])
def test_a_signal_where_python_only_prints_what_is_raised_ends_the_command(
    number: signal.Signals,
    within: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Ended:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def told(phase: str, about: dict[str, int]) -> None:
        gc.callbacks.remove(told)
        signal.raise_signal(number)

    def work() -> None:
        if within == "collection":
            gc.callbacks.append(told)
            gc.collect()
        else:
            Ended()
        for _ in range(200):
            time.sleep(0.05)

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(cli, "app", work)
    try:
        with pytest.raises((SystemExit, KeyboardInterrupt)) as ended:
            cli.main()
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
    if number == signal.SIGTERM:
        assert getattr(ended.value, "code", None) == 128 + number
    else:
        assert ended.type is KeyboardInterrupt
    assert sys.unraisablehook is hook
    assert capsys.readouterr().err == ""


def test_what_else_python_only_prints_is_printed_still(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        def __del__(self) -> None:
            raise ValueError("of no signal")

    seen: list[Any] = []
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "unraisablehook", lambda told: seen.append(str(told.exc_value)))
    monkeypatch.setattr(cli, "app", Ended)
    cli.main()
    assert seen == ["of no signal"]
