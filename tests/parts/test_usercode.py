"""User code: the files under `code:`, each run once, and their mistakes told with file and line."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest

from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode


def written(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def message_of(code: UserCode, dotted: str) -> str:
    with pytest.raises(FoldwiseError) as caught:
        code.find(dotted, "model.head")
    return str(caught.value)


def test_a_name_is_found_in_its_file(tmp_path: Path) -> None:
    one = written(tmp_path, "one.py", "VALUE = 1")
    two = written(tmp_path, "two.py", "VALUE = 2")
    code = UserCode([one, str(two)])
    assert (code.find("one.VALUE", "x"), code.find("two.VALUE", "x")) == (1, 2)
    assert [code.has(name) for name in ("one.VALUE", "one.other", "three.VALUE")] == [
        True,
        True,
        False,
    ]


def test_a_file_is_run_once_and_only_when_it_is_needed(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    path = written(tmp_path, "one.py", f"open({str(counter)!r}, 'a').write('x')\nA = B = 1")
    code = UserCode([path])
    code.hashes()
    assert not counter.exists()
    code.find("one.A", "x")
    code.find("one.B", "x")
    assert counter.read_text() == "x"


def test_a_file_edited_in_the_same_second_is_run_as_it_stands(tmp_path: Path) -> None:
    for value in (1, 2):
        path = written(tmp_path, "one.py", f"VALUE = {value}")
        assert UserCode([path]).find("one.VALUE", "x") == value
    assert [found.name for found in tmp_path.iterdir()] == ["one.py"]


def test_classes_of_a_file_can_be_pickled_for_worker_processes(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "one.py",
        "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: 'int'\n",
    )
    point = UserCode([path]).find("one.Point", "x")
    assert callable(point)
    assert pickle.loads(pickle.dumps(point(3))) == point(3)


def test_a_name_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = written(tmp_path, "one.py", "class Head: pass\n_HIDDEN = 1\ndef pool(): pass")
    message = message_of(UserCode([path]), "one.Haed")
    assert message == f"model.head: {path} has no 'Haed' (it has: Head, pool)"


def test_a_file_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "one.py", "A = 1\n\nB = A / 0\n")
    assert message_of(UserCode([path]), "one.B") == (
        f"code: {path} fails when loaded (line 3): ZeroDivisionError: division by zero"
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def broken(:", "SyntaxError: "),
        ("import no_such_module_anywhere", "ModuleNotFoundError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_whatever_a_file_fails_with_is_told(tmp_path: Path, text: str, error: str) -> None:
    path = written(tmp_path, "one.py", text)
    message = message_of(UserCode([path]), "one.X")
    assert message.startswith(f"code: {path} fails when loaded")
    assert error in message


def test_a_file_that_failed_is_tried_again(tmp_path: Path) -> None:
    path = written(tmp_path, "one.py", "1 / 0")
    code = UserCode([path])
    assert "ZeroDivisionError" in message_of(code, "one.VALUE")
    path.write_text("VALUE = 5")
    assert code.find("one.VALUE", "x") == 5


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [written(tmp_path / folder, "one.py", "A = 1") for folder in ("a", "b")]
    with pytest.raises(FoldwiseError) as caught:
        UserCode(paths)
    assert str(caught.value) == "code: two files have the same name; rename one of them"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FoldwiseError) as caught:
        UserCode([tmp_path / "gone.py"])
    assert str(caught.value) == f"code: {tmp_path / 'gone.py'}: no such file"


def test_hashes_are_those_of_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, "one.py", "VALUE = 1")
    assert UserCode([path]).hashes() == {"one.py": hashlib.sha256(b"VALUE = 1").hexdigest()}
