import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from algo.shipped import shipped_codes
from liftquant.cli import run
from liftquant.codes_plot import plot_data


def test_points_are_the_records() -> None:
    points = {p["name"]: p for family in plot_data().values() for p in family}
    for name, shipped in shipped_codes().items():
        assert (points[name]["rate"], points[name]["mse"]) == (shipped.code.rate, shipped.mse)
        assert points[name]["gap_db"] == pytest.approx(shipped.gap)
    others = set(points) - set(shipped_codes())
    assert others == {"LQ-32/16", "E8P", "INT2", "INT3", "INT4"}
    assert all(points[name]["source"] for name in others)


def test_families_hold_what_they_are_named_for() -> None:
    for family, points in plot_data().items():
        for code in [shipped_codes()[p["name"]].code for p in points if family.startswith("win")]:
            assert family.split(",")[0] == f"window {code.window}"
            assert ("parities" in family) == bool(code.parities)
        assert [p["rate"] for p in points] == sorted(p["rate"] for p in points)


def test_svg_is_drawn_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in files:
        assert run(["codes", "plot", str(file), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(plot_data()))
    assert files[0].read_bytes() == files[1].read_bytes()
    tree = ElementTree.parse(files[0])
    markers = [e for e in tree.iter() if e.tag.endswith("}use")]
    drawn = sum(len(points) for points in plot_data().values())
    assert len(markers) >= 2 * drawn  # both panels, and the ticks
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.svg", "two.svg"]


def test_png_is_drawn_too(tmp_path: Path) -> None:
    file = tmp_path / "codes.png"
    assert run(["codes", "plot", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")


def test_other_formats_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["codes", "plot", str(tmp_path / "codes.pdf")]) == 2
    assert "must end in .svg or .png" in capsys.readouterr().err
