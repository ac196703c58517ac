"""`foldwise serve`: where it listens, what it needs, and how it ends."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from foldwise.cli import app, main
from foldwise.errors import FoldwiseError
from foldwise.predictor import Predictor
from foldwise.serving.listening import address_of, bind, listen, read_token

from .conftest import count_words, made

TOKEN = "a-token-of-24-characters"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_what_was_taken_in_is_answered(number: signal.Signals) -> None:
    began, go, answers = threading.Event(), threading.Event(), []

    def slow(rows: pl.DataFrame) -> pl.DataFrame:
        began.set()
        assert go.wait(20)
        return count_words(rows)

    with bind("127.0.0.1", 0, None) as bound:
        address = address_of(bound)
        bound.listen()

        def ask() -> None:
            row = {"text": "a b", "kind": None, "amount": 1}
            answers.append(httpx.post(f"{address}/predict", json={"rows": [row]}, timeout=20))

        def end() -> None:
            assert began.wait(20)
            os.kill(os.getpid(), number)
            while True:  # until nobody is let in any more
                try:
                    httpx.get(f"{address}/health", timeout=20)
                except httpx.HTTPError:
                    break
            go.set()

        threads = [threading.Thread(target=work) for work in (ask, end)]
        for thread in threads:
            thread.start()
        before = signal.getsignal(number)
        listen(made(slow), bound)
        for thread in threads:
            thread.join(20)
    assert answers[0].status_code == 200
    assert answers[0].json()["rows"][0]["prediction"] == "long"
    assert signal.getsignal(number) is before


@pytest.fixture
def _signals() -> Iterator[None]:
    """Give back the handlers that a command sets for its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_the_command_serves_a_run_and_exits_with_0(
    trained: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"text": "my credit card", "kind": "c1", "amount": 0.5}
    told, answers = list[str](), list[httpx.Response]()
    read, write = os.pipe()
    with os.fdopen(read) as printed, os.fdopen(write, "w") as terminal:

        def ask() -> None:
            told.append(printed.readline())
            address = re.search(r"http://127\.0\.0\.1:\d+", told[0])
            if address is None:
                return
            try:
                for _ in range(200):
                    try:
                        where = f"{address[0]}/predict"
                        answers.append(httpx.post(where, json={"rows": [row]}, timeout=20))
                        break
                    except httpx.ConnectError:
                        time.sleep(0.05)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(sys, "stdout", terminal)
        words = ["foldwise", "serve", str(trained.run.path), "--port", "0"]
        monkeypatch.setattr(sys, "argv", words)
        asking = threading.Thread(target=ask)
        asking.start()
        with pytest.raises(SystemExit) as end:
            main()
        terminal.close()
        asking.join(20)
        rest = printed.read()
    assert end.value.code == 0
    found = re.search(
        r"^the model of fold 1, 2 of .* answers at (http://127\.0\.0\.1:\d+);", told[0]
    )
    assert found is not None
    assert rest == f"stopped: {found[1]}\n"
    expected = trained.predict(pl.DataFrame([row])).to_dicts()[0]
    (answer,) = answers[0].json()["rows"]
    assert answer["prediction"] == expected["prediction"]
    assert answer["probabilities"]["card"] == expected["prob_card"]


@pytest.mark.usefixtures("_signals")
def test_a_signal_in_a_callback_of_the_garbage_collection_ends_it_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(phase: str, about: dict[str, int]) -> None:
        gc.callbacks.remove(told)
        signal.raise_signal(signal.SIGTERM)

    def load_models(models: object) -> None:
        gc.callbacks.append(told)
        gc.collect()
        for _ in range(200):
            time.sleep(0.05)

    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setattr("foldwise.commands.serve.load_models", load_models)
    monkeypatch.setattr(sys, "argv", ["foldwise", "serve", str(tmp_path), "--port", "0"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr() == ("", "")


def test_an_address_that_others_can_reach_needs_a_token() -> None:
    for host in ("0.0.0.0", "::"):
        with pytest.raises(FoldwiseError, match=rf"^--host {host}: others can reach it.*TOKEN"):
            bind(host, 0, None)
    with bind("0.0.0.0", 0, TOKEN) as bound:
        assert bound.getsockname()[1] > 0
    with bind("localhost", 0, None) as bound:
        assert bound.getsockname()[0] in ("127.0.0.1", "::1")


def test_an_address_that_is_taken_or_elsewhere_is_told_before_the_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FoldwiseError, match=r"can't be listened on \(Address already in use\)"):
            bind("127.0.0.1", port, None)
    with pytest.raises(FoldwiseError, match="can't be listened on"):
        bind("192.0.2.1", 0, TOKEN)
    with pytest.raises(FoldwiseError, match="is no address of this machine"):
        bind("no such name", 0, TOKEN)


def test_a_token_comes_from_a_file_or_the_environment_and_is_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FOLDWISE_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("FOLDWISE_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}-2\n")
    assert read_token(file) == f"{TOKEN}-2"
    for content, told in (
        ("", "at least 24 characters, this one 0"),
        ("short\n", "at least 24 characters, this one 5"),
        (f"{TOKEN}\n{TOKEN}", "ASCII without spaces, on one line"),
        (f"{TOKEN}\u00e9", "ASCII without spaces, on one line"),
    ):
        file.write_text(content)
        with pytest.raises(FoldwiseError, match=told) as caught:
            read_token(file)
        assert TOKEN not in str(caught.value)
    with pytest.raises(FoldwiseError, match=r"can't be read \(No such file or directory\)"):
        read_token(tmp_path / "none")


def test_absent_packages_are_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("foldwise.serving.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "manifest.json").write_text("{}")
    from typer.testing import CliRunner

    found = CliRunner().invoke(app, ["serve", str(tmp_path)])
    assert isinstance(found.exception, FoldwiseError)
    assert str(found.exception) == (
        "serve needs the package fastapi: pip install 'foldwise[serve]'"
    )


def test_what_is_no_run_is_told_first(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    found = CliRunner().invoke(app, ["serve", str(tmp_path), "--host", "0.0.0.0"])
    assert "not a run folder" in str(found.exception)
    assert os.listdir(tmp_path) == []
