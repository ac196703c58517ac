import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foldwise.cli import app
from foldwise.commands import data
from foldwise.commands.data import data_cfpb
from foldwise.commands.output import output
from foldwise.synthetic.complaints import complaints
from foldwise.usecases import download


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "by hand.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("complaints.csv", complaints(300).write_csv())
    return path


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.usefixtures("wide")
def test_an_archive_brought_by_hand_is_prepared_without_network(
    archive, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(data, "fetch", lambda folder, url: pytest.fail("fetched"))
    folder = tmp_path / "my data"
    data_cfpb(folder, archive, None)
    printed = capsys.readouterr().out

    table = complaints(300)
    kept = table.drop_nulls(["Consumer complaint narrative", "Sub-issue", "ZIP code"]).height
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    assert ["read", "300"] in cells
    assert ["kept", str(kept)] in cells
    largest = table.drop_nulls()["Product"].value_counts(sort=True).row(0)
    assert [largest[0], str(largest[1])] in cells
    assert any(row[:2] == [str(folder / "cfpb_full.parquet"), str(kept)] for row in cells)
    setting = f"'data.path={folder / 'cfpb_partial.parquet'}'"
    assert printed.splitlines()[-1] == f"next: foldwise train configs/cfpb.yaml --set {setting}"


def test_a_program_gets_the_counts_and_files_and_quiet_leaves_the_next_command(archive, tmp_path):
    command = ["data", "cfpb", "--archive", str(archive), "--to", str(tmp_path / "tables")]
    told = CliRunner().invoke(app, [*command, "--json"])
    result = json.loads(told.stdout)
    counts = json.loads((tmp_path / "tables" / "cfpb_counts.json").read_text())
    partial = str(tmp_path / "tables" / "cfpb_partial.parquet")
    assert {key: result[key] for key in counts} == counts
    assert result["files"]["partial"] == partial
    assert result["next"].endswith(f"--set data.path={partial}")
    quiet = CliRunner().invoke(app, [*command, "--quiet"])
    assert (quiet.stdout, quiet.stderr) == (f"next: {result['next']}\n", "")


def test_quiet_downloading_draws_no_bar(archive, tmp_path, capsys):
    output(quiet=True, as_json=False)
    with archive.open("rb") as response:
        download._append(response, tmp_path / "got.zip", 0, archive.stat().st_size)
    assert capsys.readouterr() == ("", "")
    output(quiet=False, as_json=False)
    with archive.open("rb") as response:
        download._append(response, tmp_path / "again.zip", 0, archive.stat().st_size)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("url", "asked"), [(None, data.ARCHIVE_URL), ("http://mirror/c.zip", "http://mirror/c.zip")]
)
def test_without_archive_it_is_fetched_from_the_url(archive, tmp_path, monkeypatch, url, asked):
    calls = []
    monkeypatch.setattr(data, "fetch", lambda *arguments: calls.append(arguments) or archive)
    data_cfpb(tmp_path / "data", None, url)
    assert calls == [(tmp_path / "data", asked)]
    assert (tmp_path / "data" / "cfpb_full.parquet").exists()
