import json
import re
import subprocess
import sys

import pytest

import liftquant
from liftquant import console
from tests.conftest import ROOT


def test_progress_prints_lines_with_an_eta_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 11))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.progress("working") as meter:
        meter.start(4)
        meter.advance(1, "first")
        meter.advance(1, "second")
    err = capsys.readouterr().err
    assert "working ..." in err
    assert "25%, 66 s left  first" in err
    assert "50%, 33 s left  second" in err
    assert "working: done in" in err


def test_json_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json([{"a": "x" * 300}])
    assert json.loads(capsys.readouterr().out) == [{"a": "x" * 300}]


def test_public_names_are_there() -> None:
    for name in liftquant.__all__:
        first = getattr(liftquant, name)
        assert callable(first)
        assert getattr(liftquant, name) is first
    with pytest.raises(AttributeError, match="liftquant has no 'nothing'"):
        liftquant.nothing  # noqa: B018


def test_folders_import_only_what_they_may() -> None:
    allowed = {
        "algo": {"algo"}, "hw": {"algo", "hw"}, "sim": {"algo", "hw", "sim"}, "gpu": {"algo", "gpu"}
    }  # fmt: skip
    for folder, may in allowed.items():
        for path in (ROOT / folder).glob("*.py"):
            found = re.findall(
                r"^\s*(?:from|import) (algo|hw|sim|gpu|liftquant)\b", path.read_text(), re.M
            )
            assert set(found) <= may, path


def test_start_up_imports_nothing_heavy() -> None:
    heavy = ["torch", "triton", "amaranth", "cocotb", "transformers", "numba"]
    script = f"import sys, liftquant.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
