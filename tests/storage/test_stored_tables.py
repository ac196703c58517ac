"""Tables in a store: fetched whole and once, seen to be replaced, told in one message."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from conftest import make_table
from foldwise.config.load import load_config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.table.formats import find_files

TABLE = make_table(30).write_csv().encode()


def test_a_table_is_fetched_with_its_bytes(bucket) -> None:
    url = bucket.put("in/table.csv", TABLE)
    (file,) = find_files(url)
    assert Path(file).name == "table.csv"
    assert Path(file).read_bytes() == TABLE


def test_a_table_that_is_here_is_not_fetched_again(bucket, store) -> None:
    url = bucket.put("table.csv", TABLE)
    first = find_files(url)
    store.faults.asked.clear()
    assert find_files(url) == first
    assert not [asked for asked in store.faults.asked if asked.startswith("GET")]


def test_a_table_that_was_replaced_is_fetched_anew(bucket) -> None:
    url = bucket.put("table.csv", TABLE)
    before = find_files(url)
    bucket.put("table.csv", TABLE + b"more,c1,1,card\n")
    assert Path(find_files(url)[0]).read_bytes() == TABLE + b"more,c1,1,card\n"
    assert Path(before[0]).read_bytes() == TABLE


def test_a_pattern_names_its_tables_in_order(bucket) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        bucket.put(f"in/{name}", name.encode())
    found = find_files(bucket.url("in/*.csv"))
    assert [Path(file).read_text() for file in found] == ["a.csv", "b.csv"]


@pytest.mark.parametrize("fault", ["error", "hang", "cut", "short", "lost"])
def test_a_fault_on_the_way_never_makes_a_shorter_table(bucket, store, monkeypatch, fault) -> None:
    monkeypatch.setenv("FOLDWISE_STORE_SECONDS", "10")  # it gives up on a silent one after 2.5
    url = bucket.put("table.csv", TABLE)
    store.faults.only, store.faults.plan = "GET", [fault, fault]
    assert Path(find_files(url)[0]).read_bytes() == TABLE


def test_a_store_that_stays_down_stops_the_call_and_leaves_nothing(
    bucket, store, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("FOLDWISE_STORE_SECONDS", "1")
    url = bucket.put("table.csv", TABLE)
    store.faults.only, store.faults.share = "GET", 1.0
    with pytest.raises(RunInterrupted, match=r"the store fails .* give the same command again"):
        find_files(url)
    left = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert left <= {".readers"}  # a lock, empty


def test_a_name_that_is_not_there_is_bad_input(bucket) -> None:
    with pytest.raises(FoldwiseError, match=r"no file matches 's3://.*/none.csv'"):
        find_files(bucket.url("none.csv"))
    with pytest.raises(FoldwiseError, match="no file matches"):
        find_files("s3://no-such-bucket-at-all/table.csv")


def test_what_is_no_table_is_refused_before_it_is_fetched(bucket, store) -> None:
    url = bucket.put("picture.png", b"x")
    with pytest.raises(FoldwiseError, match="can't be read as a table"):
        find_files(url)
    assert not [asked for asked in store.faults.asked if asked.startswith("GET")]


def test_missing_credentials_are_bad_input(bucket, monkeypatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    from foldwise.storage import systems

    systems.file_system.cache_clear()
    with pytest.raises(FoldwiseError, match="no credentials were found"):
        find_files(bucket.url("table.csv"))
    systems.file_system.cache_clear()


@pytest.mark.parametrize(
    ("kind", "package", "needed"),
    [("gs", "gcsfs", r"foldwise\[gs\]"), ("az", "adlfs", "adlfs")],
)
def test_a_package_that_is_absent_is_named(kind, package, needed) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    told = rf"{kind}:// needs the package {package}: pip install '{needed}'"
    with pytest.raises(FoldwiseError, match=told):
        find_files(f"{kind}://bucket/table.csv")


def test_a_file_url_is_a_local_path(tmp_path) -> None:
    (tmp_path / "table.csv").write_bytes(TABLE)
    assert find_files(f"file://{tmp_path}/table.csv") == [str(tmp_path / "table.csv")]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("simplecache::s3://b/t.csv", "chains of file systems"),
        ("zip://t.csv::s3://b/t.zip", "chains of file systems"),
        ("s3://AKIA:secret@b/t.csv", "set it where the store's package looks for it"),
        ("https://h/t.csv?token=secret", "may be a secret"),
        ("memory://t.csv", "memory:// is no store"),
        ("s3://b/../t.csv", "isn't a bucket and a name in it"),
        ("file://t.csv", "needs a whole path"),
    ],
)
def test_addresses_that_are_no_plain_object_are_refused_without_their_secret(url, said) -> None:
    with pytest.raises(FoldwiseError, match=said) as caught:
        find_files(url)
    assert "secret@" not in str(caught.value)
    assert "token=" not in str(caught.value)


@pytest.mark.parametrize("key", ["data.path", "holdout.path", "run.dir"])
def test_a_config_with_a_secret_in_an_address_is_refused_without_it(tmp_path, key) -> None:
    (tmp_path / "config.yaml").write_text("run: {name: x}\ndata: {path: a.csv, target: label}\n")
    with pytest.raises(FoldwiseError, match=f"{key}: s3://...@...: an address with") as caught:
        load_config(tmp_path / "config.yaml", [f"{key}=s3://AKIA:geheim@b/x"])
    assert "geheim" not in str(caught.value).replace(f"--set {key}=s3://AKIA:geheim@b/x", "")
