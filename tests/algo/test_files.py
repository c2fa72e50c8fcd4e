import json
from pathlib import Path

import pytest

from algo.errors import LiftError
from algo.files import check_folder, read_json, write_json, write_text, written_aside


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "new" / "deeper")
    for folder in ("file", "file/new/deeper"):
        with pytest.raises(LiftError, match=r"file is a file; give a directory"):
            check_folder(tmp_path / folder)


def test_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "one")

    def fail_half_way() -> None:
        with written_aside(path) as aside:
            aside.write_text("tw")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_files_get_ordinary_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize(
    "value",
    [{}, {"a": [], "b": {}}, {"taps": [[1, 2], [3, 4]], "long": list(range(99))}, {"x": "é"}],
)
def test_json_round_trips(tmp_path: Path, value: dict[str, object]) -> None:
    write_json(tmp_path / "v.json", value)
    assert read_json(tmp_path / "v.json") == value
    assert json.loads((tmp_path / "v.json").read_text()) == value


def test_bad_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text('{"a": ')
    with pytest.raises(LiftError, match=r"v.json is not valid JSON"):
        read_json(tmp_path / "v.json")
    (tmp_path / "w.json").write_bytes(b"\xff\xfe")
    with pytest.raises(LiftError, match=r"w.json is not valid JSON"):
        read_json(tmp_path / "w.json")
    with pytest.raises(LiftError, match="does not exist"):
        read_json(tmp_path / "none.json")
