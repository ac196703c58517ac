"""An S3 server for all tests of stores, a bucket and a cache for each."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("moto", reason="moto[server] isn't installed: no S3 server to ask")
pytest.importorskip("s3fs", reason="s3fs isn't installed")

from storage.s3_server import S3Server


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    """One server for all."""
    running = S3Server()
    yield running
    running.stop()


@pytest.fixture
def store(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server without faults, with this process's environment set to it and an empty cache."""
    for name, value in environment(server, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    server.faults.plan, server.faults.share, server.faults.only = [], 0.0, ""
    server.faults.hang_s = 3.0
    server.faults.asked.clear()
    yield server
    server.faults.plan, server.faults.share, server.faults.only = [], 0.0, ""


def environment(server: S3Server, cache: Path, seconds: float = 20) -> dict[str, str]:
    """Return what a process needs to ask the server, and where its cache lies."""
    return {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "FOLDWISE_CACHE": str(cache),
        "FOLDWISE_STORE_SECONDS": str(seconds),
    }


@pytest.fixture(scope="session")
def client(server: S3Server) -> Any:
    """Botocore's client of the server."""
    import botocore.session

    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=server.address,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


@pytest.fixture
def bucket(store: S3Server, client: Any) -> Bucket:
    """An empty bucket."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return Bucket(client, name)


class Bucket:
    """What lies in a bucket."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, content: bytes) -> str:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)
        return self.url(key)

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))
