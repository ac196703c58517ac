"""`foldwise serve`: where it listens, what it needs, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import polars as pl
import pytest

from foldwise.cli import app
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


def test_the_command_serves_a_run_and_exits_with_0(trained: Predictor) -> None:
    command = [sys.executable, "-m", "foldwise", "serve", str(trained.run.path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        told = process.stdout.readline()
        found = re.search(
            r"^the model of fold 1, 2 of .* answers at (http://127\.0\.0\.1:\d+);", told
        )
        assert found is not None
        row = {"text": "my credit card", "kind": "c1", "amount": 0.5}
        for _ in range(200):
            try:
                answer = httpx.post(f"{found[1]}/predict", json={"rows": [row]}, timeout=20)
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        expected = trained.predict(pl.DataFrame([row])).to_dicts()[0]
        assert answer.json()["rows"][0]["prediction"] == expected["prediction"]
        assert answer.json()["rows"][0]["probabilities"]["card"] == expected["prob_card"]
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == f"stopped: {found[1]}\n"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()


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
