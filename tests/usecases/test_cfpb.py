import csv
import gzip
import io
import json
import re
import zipfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from foldwise.errors import FoldwiseError
from foldwise.run.lock import locked
from foldwise.synthetic.complaints import complaints
from foldwise.usecases import cfpb
from foldwise.usecases.cfpb import prepare

REQUIRED = ["Consumer complaint narrative", "Sub-issue", "ZIP code", "Product"]
KEPT = [
    "Date received",
    "Product",
    "Sub-issue",
    "Consumer complaint narrative",
    "Company",
    "State",
    "ZIP code",
    "Complaint ID",
]
HEADER = b"Product,Consumer complaint narrative,Sub-issue,ZIP code"
REAL = Path(__file__).parents[2].parent / "shared/data/cfpb_dev_nullable.csv.gz"


@pytest.fixture(scope="module")
def table_csv() -> str:
    return complaints(600).write_csv()


@pytest.fixture(scope="module")
def zip_bytes(table_csv: str) -> bytes:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("complaints.csv", table_csv)
    return stored.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def by_hand(text: str) -> list[dict[str, str | None]]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    kept = [row for row in rows if all(row[column].strip() for column in REQUIRED)]
    return [{column: row[column] or None for column in KEPT} for row in kept]


@pytest.fixture
def archive(zip_bytes: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "complaints.csv.zip"
    path.write_bytes(zip_bytes)
    return path


class TestPrepare:
    @pytest.mark.parametrize("part_rows", [1, 7, 50_000])
    def test_full_is_what_filtering_by_hand_leaves_cell_by_cell(
        self, archive, table_csv, tmp_path, monkeypatch, part_rows
    ):
        monkeypatch.setattr(cfpb, "PART_ROWS", part_rows)
        files = prepare(archive, tmp_path / "out")
        full = pl.read_parquet(files["full"])
        assert full.schema == dict.fromkeys(KEPT, pl.String)
        assert full.to_dicts() == by_hand(table_csv)
        assert names(tmp_path / "out") == [
            "cfpb_counts.json",
            "cfpb_debug.parquet",
            "cfpb_full.parquet",
            "cfpb_partial.parquet",
        ]

    def test_cells_stay_as_they_stand(self, tmp_path):
        text = (
            "Product,Consumer complaint narrative,Sub-issue,ZIP code,State,Ignored\r\n"
            'Loan,"a ""quoted"", cell\nof two lines ",x,00501,,y\r\n'
            "Loan,ünïcode,x,331XX,NY,y\r\n"
            "\r\n"
            "Loan, \t ,x,331XX,NY,y\r\n"
            "Loan,text,,,NY,y\r\n"
            "Loan,text,x,,NY,y\r\n"
            ",text,x,331XX,NY,y\r\n"
        )
        path = tmp_path / "some.csv"
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        files = prepare(path, tmp_path / "out")
        assert pl.read_parquet(files["full"]).rows() == [
            ("Loan", "x", 'a "quoted", cell\nof two lines ', None, "00501"),
            ("Loan", "x", "ünïcode", "NY", "331XX"),
        ]
        assert json.loads(files["counts"].read_text()) == {
            "rows_read": 6,
            "rows_dropped": {
                "Consumer complaint narrative": 1,
                "Sub-issue": 1,
                "ZIP code": 1,
                "Product": 1,
            },
            "rows_kept": 2,
            "classes": {"Loan": 2},
            "seed": 42,
        }

    def test_subsets_hold_at_most_their_rows_a_class_in_order_and_nested(
        self, archive, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(cfpb, "PER_CLASS", {"partial": 30, "debug": 5})
        files = prepare(archive, tmp_path / "out")
        full, partial, debug = (
            pl.read_parquet(files[kind]).rows() for kind in ("full", "partial", "debug")
        )
        sizes = Counter(row[1] for row in full)
        assert max(sizes.values()) > 30 > min(sizes.values())
        assert Counter(row[1] for row in partial) == {p: min(n, 30) for p, n in sizes.items()}
        assert Counter(row[1] for row in debug) == {p: min(n, 5) for p, n in sizes.items()}
        chosen, smaller = set(partial), set(debug)
        assert [row for row in full if row in chosen] == partial
        assert [row for row in partial if row in smaller] == debug

    def test_subsets_are_drawn_evenly_over_the_table(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cfpb, "PER_CLASS", {"partial": 400, "debug": 100})
        header = "Product,Consumer complaint narrative,Sub-issue,ZIP code\n"
        path = tmp_path / "long.csv"
        path.write_text(header + "".join(f"Loan,text,x,{i:05d}\n" for i in range(4000)))
        files = prepare(path, tmp_path / "out")
        for kind, n in (("partial", 400), ("debug", 100)):
            places = pl.read_parquet(files[kind])["ZIP code"].cast(pl.Int64)
            assert places.n_unique() == n
            # The mean of n draws without replacement from 0..3999, within 4 standard errors.
            assert abs(places.mean() - 1999.5) < 4 * 1155 / n**0.5

    def test_seed_draws_the_subsets_and_not_the_full_table(self, archive, tmp_path):
        first, again, other = (
            {kind: path.read_bytes() for kind, path in prepare(archive, out, seed).items()}
            for out, seed in ((tmp_path / "a", 1), (tmp_path / "b", 1), (tmp_path / "c", 2))
        )
        assert first == again
        assert first["full"] == other["full"]
        assert first["debug"] != other["debug"]

    def test_plain_and_gzipped_csv_give_the_same_as_the_zip(self, archive, table_csv, tmp_path):
        plain, gzipped = tmp_path / "c.csv", tmp_path / "c.csv.gz"
        plain.write_bytes(table_csv.encode())
        gzipped.write_bytes(gzip.compress(table_csv.encode()))
        expected = prepare(archive, tmp_path / "zip")["full"].read_bytes()
        assert prepare(plain, tmp_path / "csv")["full"].read_bytes() == expected
        assert prepare(gzipped, tmp_path / "gz")["full"].read_bytes() == expected

    def test_preparing_again_touches_nothing(self, archive, tmp_path):
        files = prepare(archive, tmp_path / "out")
        before = {path: path.stat().st_mtime_ns for path in files.values()}
        assert prepare(archive, tmp_path / "out") == files
        assert {path: path.stat().st_mtime_ns for path in files.values()} == before

    def test_what_a_killed_run_left_is_completed(self, archive, tmp_path):
        out = tmp_path / "out"
        files = prepare(archive, out)
        files["counts"].unlink()
        (out / ".cfpb.staging" / "parts").mkdir(parents=True)
        (out / ".cfpb.staging" / "parts" / "000000.parquet").write_bytes(b"half")
        assert prepare(archive, out) == files
        assert ".cfpb.staging" not in names(out)
        assert files["counts"].exists()

    def test_other_files_are_never_overwritten(self, archive, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        mine = out / "cfpb_partial.parquet"
        mine.write_bytes(b"mine")
        with pytest.raises(FoldwiseError) as caught:
            prepare(archive, out)
        assert str(caught.value) == (
            f"{mine}: exists with other content, from another archive or seed: move it away or "
            "choose another folder"
        )
        assert names(out) == ["cfpb_partial.parquet"]
        assert mine.read_bytes() == b"mine"

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.csv", b"", "has no column 'Consumer complaint narrative', only none"),
            ("a.csv", b"Product,State\n1,2\n", "has no column 'Consumer complaint narrative'"),
            ("a.csv", b"HEADER\na,b,c,d\na,b\n", r"row 1 \(line 3\) has 2 cells under 4 columns"),
            ("a.csv", b"HEADER\na,b,c,d\na,\xff,c,d\n", r"row 0 \(after line 0\) is no readable"),
            ("a.csv", b"HEADER\n,b,c,d\n", "none of its 1 rows has all of Consumer complaint"),
            ("a.csv.zip", b"no zip", r"is damaged, after row 0 \(File is not a zip file\)"),
            (
                "a.csv.gz",
                gzip.compress(HEADER + b"\na,b,c,d" * 9, mtime=0)[:-9],
                "is damaged, after row",
            ),
            ("a.csv.gz", b"no gzip", "is damaged, after row 0"),
            ("a.xlsx", b"", "is none of .zip, .csv and .csv.gz"),
        ],
    )
    def test_unreadable_archives_are_refused_and_leave_nothing(
        self, tmp_path, name, content, message
    ):
        path = tmp_path / name
        path.write_bytes(content.replace(b"HEADER", HEADER))
        with pytest.raises(FoldwiseError, match=rf"^{re.escape(str(path))}: {message}"):
            prepare(path, tmp_path / "out")
        assert names(tmp_path / "out") == []

    def test_damage_inside_the_zip_is_found_while_reading(self, zip_bytes, tmp_path):
        path = tmp_path / "complaints.csv.zip"
        path.write_bytes(zip_bytes[:5000] + b"zzzz" + zip_bytes[5004:])
        with pytest.raises(FoldwiseError, match=r"is damaged, after row .*Bad CRC-32"):
            prepare(path, tmp_path / "out")
        assert names(tmp_path / "out") == []

    def test_a_zip_of_two_tables_is_refused(self, tmp_path):
        path = tmp_path / "two.zip"
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr("a.csv", "x")
            opened.writestr("b.csv", "x")
        with pytest.raises(FoldwiseError) as caught:
            prepare(path, tmp_path / "out")
        assert str(caught.value) == (
            f"{path}: holds 2 CSV files instead of one: unzip it and pass the CSV"
        )

    def test_an_archive_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(FoldwiseError) as caught:
            prepare(tmp_path / "gone.zip", tmp_path / "out")
        assert str(caught.value) == (
            f"{tmp_path / 'gone.zip'}: there is no such file; `foldwise data cfpb` downloads it"
        )
        assert not (tmp_path / "out").exists()

    def test_a_folder_in_use_is_refused(self, archive, tmp_path):
        with locked(tmp_path), pytest.raises(FoldwiseError) as caught:
            prepare(archive, tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}: another process is fetching or preparing data here: wait for its end"
        )

    def test_a_folder_that_is_a_file_is_one_message(self, archive):
        with pytest.raises(FoldwiseError) as caught:
            prepare(archive, archive)
        assert str(caught.value) == (
            f"{archive}: File exists: check the permissions and the free space"
        )

    @pytest.mark.skipif(not REAL.exists(), reason=f"real complaints are not here: {REAL}")
    def test_real_complaints(self, tmp_path):
        files = prepare(REAL, tmp_path)
        with gzip.open(REAL, "rt", encoding="utf-8", newline="") as opened:
            expected = by_hand(opened.read())
        assert len(expected) == 9152
        assert pl.read_parquet(files["full"]).to_dicts() == expected
        partial = Counter(pl.read_parquet(files["partial"])["Product"])
        assert partial == {
            p: min(n, 1000) for p, n in Counter(r["Product"] for r in expected).items()
        }
