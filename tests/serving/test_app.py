"""The paths of a server: answers, refusals, limits and who may ask."""

from __future__ import annotations

import copy
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import ROUNDING, make_table
from foldwise import explain
from foldwise.decisions.decision import Decision
from foldwise.errors import FoldwiseError
from foldwise.explanation.effort import Effort
from foldwise.explanation.explain import explain_row
from foldwise.predictor import Predictor
from foldwise.serving.answers import labels_by
from foldwise.serving.app import Server
from foldwise.serving.described import describe
from foldwise.serving.explaining import explains_by
from foldwise.serving.limits import Limits

from .conftest import ROW, count_words, made, running

Client = Callable[..., Any]
JSON = {"Content-Type": "application/json"}


def rows_of(count: int, seed: int = 5) -> list[dict[str, Any]]:
    table = make_table(count, seed).with_columns(pl.col("amount").cast(pl.Float64)).drop("label")
    odd = [
        {"text": None, "kind": "unseen", "amount": None},
        {"text": "\x00 \U0001f600 \u05d0\r\n", "kind": " ", "amount": 1e6},
    ]
    return [*table.to_dicts(), *odd]


def served(predictor: Predictor, **settings: Any) -> Server:
    limits = Limits(**settings)
    about = describe(predictor, limits, None)
    return Server(labels_by(predictor), about, explains_by(predictor), limits)


def test_class_weights_that_name_the_label_are_told(trained: Predictor, client: Client) -> None:
    told = client(served(trained)).get("/metadata").json()
    assert told["class_weights"] is None  # the model answers alone
    weights = {name: 1.0 + place for place, name in enumerate(told["classes"])}
    weighed = copy.copy(trained)
    decision = Decision(class_weights=tuple(weights.values()))
    weighed.chosen = replace(trained.chosen, decision=decision)
    assert client(served(weighed)).get("/metadata").json()["class_weights"] == weights


def test_an_answer_is_what_predict_gives_to_the_last_digit(
    trained: Predictor, client: Client
) -> None:
    rows = rows_of(20)
    expected = trained.predict(pl.DataFrame(rows))
    answer = client(served(trained)).post("/predict", json={"rows": rows})
    assert answer.status_code == 200
    found = answer.json()["rows"]
    assert [row["prediction"] for row in found] == expected["prediction"].to_list()
    for name in ("card", "debt", "loan"):
        assert [row["probabilities"][name] for row in found] == expected[f"prob_{name}"].to_list()
    assert [row["confidence"] for row in found] == expected.select(
        pl.max_horizontal("^prob_.*$")
    ).to_series().to_list()


def test_requests_at_the_same_time_get_what_they_would_alone(
    trained: Predictor, client: Client
) -> None:
    rows = rows_of(30)
    expected = trained.predict(pl.DataFrame(rows)).select("^prob_.*$").to_numpy()
    asking = client(served(trained))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda row: asking.post("/predict", json={"rows": [row]}), rows))
    assert {answer.status_code for answer in answers} == {200}
    found = [list(answer.json()["rows"][0]["probabilities"].values()) for answer in answers]
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


def test_metadata_says_what_is_served_and_no_path_of_the_machine(
    trained: Predictor, client: Client
) -> None:
    found = client(served(trained)).get("/metadata").json()
    assert found["classes"] == ["card", "debt", "loan"]
    assert {c["name"]: c["values"] for c in found["columns"]}["text"] == []
    assert [(c["name"], c["role"]) for c in found["columns"]] == [
        ("text", "text"),
        ("kind", "categorical"),
        ("amount", "numeric"),
    ]
    assert (found["model"], found["folds"], found["members"]) == ("all", [1, 2], {"model": 1.0})
    score = found["scores"]["f1_macro"]
    assert score["low"] <= score["value"] <= score["high"]
    assert found["scored"] == "the model, out of fold, all folds"
    assert "/" not in json.dumps(found).replace("application/json", "")


def test_the_schema_names_the_columns_and_the_page_is_served_without_others(
    client: Client,
) -> None:
    asking = client()
    schema = asking.get("/openapi.json").json()["paths"]["/predict"]["post"]
    row = schema["requestBody"]["content"]["application/json"]["schema"]["properties"]["rows"]
    assert row["items"]["required"] == ["text", "kind", "amount"]
    assert row["items"]["properties"]["amount"] == {"type": ["number", "null"]}
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "javascript")):
        answer = asking.get(path)
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        assert "//" not in answer.text.replace("// ", "")  # no address
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert asking.get("/docs").status_code == 404  # FastAPI's own loads scripts from elsewhere


def test_an_explanation_is_that_of_foldwise_explain_for_a_table_of_the_row(
    trained: Predictor, client: Client
) -> None:
    row = {"text": "my card was\tlost \U0001f600", "kind": "c1", "amount": 0.5}
    answer = client(served(trained)).post("/explain", json={"rows": [row]})
    assert answer.status_code == 200
    (found,) = answer.json()["explanations"]
    expected = explain(trained, [row], effort=Effort(steps=16, random=0)).rows[0].as_json()
    assert found["words"] == expected["words"]
    assert found["words"][0].keys() == {"column", "start", "end", "text", "value", "read"}
    assert [word["text"] for word in found["words"]] == ["my", "card", "was", "lost", "\U0001f600"]
    assert {each["column"] for each in found["columns"]} == {"text", "kind", "amount"}
    for name in ("of", "value", "prediction", "probabilities", "columns", "members", "gradients"):
        assert found[name] == expected[name], name
    assert client().post("/explain", json={"rows": [ROW, ROW]}).status_code == 422


def test_numbers_of_an_explanation_that_are_not_finite_are_null(
    trained: Predictor, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(*given: Any) -> Any:
        (found,) = explain_row(*given)
        found.credit.values[:] = np.nan
        return [found]

    monkeypatch.setattr("foldwise.serving.explaining.explain_row", spoiled)
    found = client(served(trained)).post("/explain", json={"rows": [ROW]}).json()
    assert {word["value"] for word in found["explanations"][0]["words"]} == {None}


def test_without_captum_it_labels_and_says_why_it_does_not_explain(
    trained: Predictor, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(FoldwiseError, match=r"needs the package captum.*foldwise\[explain\]") as no:
        explains_by(trained)
    limits = Limits()
    asking = client(Server(labels_by(trained), describe(trained, limits, str(no.value))))
    answer = asking.post("/explain", json={"rows": [ROW]})
    assert answer.status_code == 501
    assert answer.json()["error"] == f"this server doesn't explain: {no.value}"
    assert asking.get("/metadata").json()["unexplained"] == str(no.value)
    assert list(asking.get("/openapi.json").json()["paths"])[:2] == ["/predict", "/health"]
    assert asking.post("/predict", json={"rows": [ROW]}).status_code == 200


def test_past_its_own_deadline_an_explanation_ends(client: Client) -> None:
    ended = threading.Event()

    def endless(row: pl.DataFrame, between: Callable[[], object]) -> dict[str, Any]:
        try:
            while True:
                between()
                time.sleep(0.01)
        finally:
            ended.set()

    asking = client(explain=endless, explain_s=0.3)
    answer = asking.post("/explain", json={"rows": [ROW]})
    assert answer.status_code == 504
    assert "not answered within 0.3 s" in answer.json()["error"]
    assert ended.wait(10)
    assert asking.post("/predict", json={"rows": [ROW]}).status_code == 200


def test_numbers_that_are_not_finite_are_a_problem_of_their_row(client: Client) -> None:
    def odd(rows: pl.DataFrame) -> pl.DataFrame:
        amount = rows["amount"]
        return count_words(rows).with_columns(
            prob_long=pl.when(amount > 1e9).then(float("nan")).otherwise("prob_long")
        )

    answer = client(label=odd).post("/predict", json={"rows": [ROW, {**ROW, "amount": 1e300}]})
    first, second = answer.json()["rows"]
    assert first["problem"] is None
    assert second == {
        "prediction": None,
        "confidence": None,
        "probabilities": None,
        "problem": "the model's numbers for this row aren't finite",
    }


def test_a_bad_field_is_named_and_the_model_is_not_asked(client: Client) -> None:
    answer = client(label=None).post("/predict", json={"rows": [ROW, {**ROW, "amount": "x"}]})
    assert answer.status_code == 422
    assert answer.json() == {
        "error": "the request has fields that can't be taken",
        "fields": [{"row": 1, "column": "amount", "message": "must be a number or null"}],
    }


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json; charset=latin-1"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({**JSON, "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": 'Application/JSON; charset="UTF-8"'}, 200),
        ({**JSON, "Host": "evil.example"}, 421),
        ({**JSON, "Host": "127.0.0.1.evil.example"}, 421),
        ({**JSON, "Host": "x@127.0.0.1"}, 421),
        ({**JSON, "Host": ""}, 421),
        ({**JSON, "Host": "127.0.0.1:9999"}, 200),
        ({**JSON, "Host": "tickets.example"}, 200),
        ({**JSON, "Origin": "http://evil.example"}, 403),
        ({**JSON, "Origin": "null"}, 403),
        ({**JSON, "Origin": "http://127.0.0.1:9999"}, 403),
        ({**JSON, "Origin": "http://127.0.0.1"}, 200),
        ({**JSON, "Host": "tickets.example", "Origin": "https://tickets.example"}, 200),
    ],
)
def test_only_json_of_this_servers_own_pages_and_names_is_taken(
    client: Client, headers: dict[str, str], status: int
) -> None:
    body = json.dumps({"rows": [ROW]})
    answer = client(names=("tickets.example",)).post("/predict", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Basic a-token-of-24-characters", 401),
        ("Bearer \u00e9", 401),
        ("Bearer a-token-of-24-characters", 200),
        ("bearer  a-token-of-24-characters", 200),
    ],
)
def test_a_server_with_a_token_answers_those_who_bring_it(
    client: Client, given: str | None, status: int
) -> None:
    asking = client(token="a-token-of-24-characters")
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    answers = [
        asking.post("/predict", json={"rows": [ROW]}, headers=headers),
        *(asking.get(path, headers=headers) for path in ("/metadata", "/metrics", "/openapi.json")),
    ]
    assert {answer.status_code for answer in answers} == {status}
    if status == 401:
        assert answers[0].headers["www-authenticate"] == "Bearer"
    assert asking.get("/health").status_code == 200
    assert asking.get("/").status_code == 200


def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(client: Client) -> None:
    asking, body = client(body_bytes=1000), b'{"rows": "' + b"x" * 5000 + b'"}'
    for content in (body, iter([body[:2000], body[2000:]])):
        answer = asking.post("/predict", content=content, headers=JSON)
        assert answer.status_code == 413
        assert "more than 1000 bytes" in answer.json()["error"]


def test_unknown_paths_and_methods_are_refused_in_the_same_form(client: Client) -> None:
    asking = client()
    assert asking.get("/other").json() == {"error": "Not Found", "fields": []}
    answer = asking.get("/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_what_the_run_refuses_is_the_requests_fault_and_a_crash_is_not_told(
    client: Client,
) -> None:
    def refuse(rows: pl.DataFrame) -> pl.DataFrame:
        raise FoldwiseError("rows: column 'kind' holds what it can't")

    def crash(rows: pl.DataFrame) -> pl.DataFrame:
        raise RuntimeError("/home/me/secret")

    answer = client(label=refuse).post("/predict", json={"rows": [ROW]})
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        "rows: column 'kind' holds what it can't",
    )
    answer = client(label=crash).post("/predict", json={"rows": [ROW]})
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_past_the_deadline_and_with_a_full_queue_it_says_so_at_once(client: Client) -> None:
    began, go = threading.Event(), threading.Event()

    def slow(rows: pl.DataFrame) -> pl.DataFrame:
        began.set()
        assert go.wait(10)
        return count_words(rows)

    asking = client(label=slow, timeout_s=0.3, queued_rows=2)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(asking.post, "/predict", json={"rows": [ROW]})
        assert began.wait(10)
        second = pool.submit(asking.post, "/predict", json={"rows": [ROW, ROW]})
        while b"foldwise_queued_rows 2.0" not in asking.get("/metrics").content:
            pass
        full = asking.post("/predict", json={"rows": [ROW]})
        late = [first.result(), second.result()]
    go.set()
    assert full.status_code == 429
    assert int(full.headers["retry-after"]) >= 1
    assert {answer.status_code for answer in late} == {504}
    assert "not answered within 0.3 s" in late[0].json()["error"]
    assert asking.post("/predict", json={"rows": [ROW]}).status_code == 200
    meters = asking.get("/metrics").text
    assert 'foldwise_dropped_requests_total{why="late"} 2.0' in meters
    assert 'foldwise_requests_total{code="429",path="/predict"} 1.0' in meters
    assert "foldwise_rows_total 2.0" in meters  # of the second, whose place was free again, none


def test_a_client_that_leaves_takes_its_rows_along_and_a_slow_one_is_told() -> None:
    batches: list[int] = []
    began, go = threading.Event(), threading.Event()

    def slow(rows: pl.DataFrame) -> pl.DataFrame:
        batches.append(rows.height)
        began.set()
        assert go.wait(10)
        return count_words(rows)

    body = json.dumps({"rows": [ROW, ROW]}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    server = made(slow, body_s=0.2)
    with running(server) as address:
        place = ("127.0.0.1", int(address.rpartition(":")[2]))
        server.batcher.ask(pl.DataFrame([ROW]))
        assert began.wait(10)
        with socket.create_connection(place, timeout=10) as leaving:
            leaving.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            wait_until(lambda: b"foldwise_queued_rows 2.0" in server.meters.text())
        wait_until(lambda: b"foldwise_queued_rows 0.0" in server.meters.text())
        go.set()
        assert b'dropped_requests_total{why="left"} 1.0' in server.meters.text()
        with socket.create_connection(place, timeout=10) as slow_one:
            slow_one.sendall(head + b"Content-Length: 100\r\n\r\n{")
            assert slow_one.recv(1000).startswith(b"HTTP/1.1 408 ")
        with socket.create_connection(place, timeout=10) as nameless:
            nameless.sendall(b"GET /metadata HTTP/1.0\r\n\r\n")
            assert nameless.recv(1000).startswith(b"HTTP/1.1 421 ")
    assert batches == [1]


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")
