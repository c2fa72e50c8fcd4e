"""Costs as tables and as a picture."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from liftquant.costs_plot import drawn_rows, pareto_front, plot
from liftquant.costs_table import cost_table, markdown


def row(name: str, price: float | None, gap: float | None, **others: Any) -> dict[str, Any]:
    """A row of a report."""
    return {
        "name": name, "source": "ours", "unit": "projection", "architecture": "tables:4",
        "lanes": 1, "rate": 2.0, "mse": None if gap is None else 0.0625 * 10 ** (gap / 10),
        "gap_db": gap, "mse_note": "", "latency": 3, "weights_per_cycle": 1.0,
        "verilog_sha256": "0", "lut": 1234, "carry": 20, "lut_ram": 0, "ff": 55, "bram": 0,
        "dsp": 0, "placed_sites": 1300, "mhz": 250.4, "mhz_min": 240.2, "mhz_max": 260.0,
        "placements": [], "placement_note": "", "check": None, "without_dsp": None,
        "gates": {"two_input": 777, "inverters": 0, "flip_flops": 55}, "lut_price": price,
        "lut_per_weight_per_cycle": price, "weights_per_second": 250.4e6,
        "weights_per_second_per_lut": price and 250.4e6 / price, **others,
    }  # fmt: skip


def peer(name: str, price: float | None, gap: float | None, **others: Any) -> dict[str, Any]:
    return row(name, price, gap, source="a paper", architecture="", **others)


def report(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "versions": {"yosys": "1", "nextpnr": "2", "amaranth": "3"}, "device": "LFE5U-45F",
        "yosys": "", "nextpnr": "--45k", "seeds": [1, 2, 3], "designs": list(rows),
    }  # fmt: skip


REPORT = report(
    row("LQ-A", 30, 1.1), row("LQ-A", 26, 1.1, lanes=8), row("LQ-B", 45, 0.8),
    row("LQ-C", 80, 1.5, rate=2.4, architecture="tree"), peer("E8P", 46, 1.53),
    peer("1MAD", 120, 0.5, dsp=3, without_dsp={"lut": 120, "mhz": 99.0}),
    peer("AQLM", None, 1.6, bram=256, mhz=None, placement_note="does not fit: 256 bram"),
    peer("UNKNOWN", 9, None),
    row("LQ-A", 60, 1.1, unit="decoder"),
)  # fmt: skip


def test_the_front_is_what_nothing_beats() -> None:
    rows = [row("a", 30, 1.0), row("b", 26, 1.1), row("c", 45, 1.0), row("d", 50, 0.4)]
    rows += [row("e", 26, 1.2), row("f", 60, 0.5)]
    assert [r["name"] for r in pareto_front(rows)] == ["b", "a", "d"]
    for n, r in enumerate(rows):
        beaten = any(
            o["lut_per_weight_per_cycle"] <= r["lut_per_weight_per_cycle"]
            and o["gap_db"] <= r["gap_db"]
            for m, o in enumerate(rows)
            if m != n
        )
        assert beaten == (r not in pareto_front(rows))


def test_only_what_is_logic_and_known_is_drawn() -> None:
    drawn, left_out = drawn_rows(REPORT)
    assert [r["name"] for r in drawn] == ["LQ-A", "LQ-A", "LQ-B", "LQ-C", "E8P", "1MAD"]
    assert [r["name"] for r in left_out] == ["AQLM"]


def test_the_picture_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        plot(REPORT, tmp_path / folder)
    first, second = (tmp_path / folder / "pareto.svg" for folder in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    comments = [e.text for e in ElementTree.parse(first).iter() if e.tag.endswith("g")]
    assert comments  # it is a picture
    text = first.read_text()
    for label in ("LQ-A", "LQ-B", "LQ-C (2.4 bits)", "E8P", "1MAD", "front at 2 bits"):
        assert text.count(f"<!-- {label} -->") == 1
    assert "<!-- not drawn: AQLM, 256 block RAM -->" in text
    assert "UNKNOWN" not in text
    assert (tmp_path / "one" / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_labels_do_not_overlap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names at nearly one point go to different places."""
    from matplotlib.axes import Axes
    from matplotlib.text import Text

    labels = []
    annotate = Axes.annotate
    monkeypatch.setattr(
        Axes, "annotate", lambda *a, **k: labels.append(annotate(*a, **k)) or labels[-1]
    )
    rows = [peer(f"FORMAT {n}", 46 + n / 10, 1.5 + n / 100) for n in range(6)]
    plot(report(*rows, row("LQ-A", 20, 0.3), row("LQ-B", 200, 3.0)), tmp_path)
    kept = [label for label in labels if label.axes is not None]
    assert len(kept) == 8
    boxes = [Text.get_window_extent(label) for label in kept]
    for n, box in enumerate(boxes):
        assert box.count_overlaps(boxes[:n]) == 0


def test_an_empty_report_is_a_picture_too(tmp_path: Path) -> None:
    plot(report(peer("UNKNOWN", 9, None)), tmp_path)
    assert (tmp_path / "pareto.svg").exists()


def test_markdown_has_every_figure() -> None:
    text = markdown(REPORT)
    lines = text.splitlines()
    assert lines[0].startswith("yosys 1, nextpnr 2, amaranth 3. LFE5U-45F")
    assert lines[0].endswith("seeds 1, 2, 3.")
    (found,) = [line for line in lines if line.startswith("| LQ-B")]
    assert found == (
        "| LQ-B | `tables:4` | 1 | 1,234 | 20 | 55 |  |  |  | 1,300 | 250, 240-260 | 3 | 1 | 45.0 "
        "| 5.56 | 777 | 0.07514 | 0.80 |"
    )
    assert any("| 120 at 99 |" in line for line in lines)
    assert any("| 256 |" in line and "| does not fit |" in line for line in lines)
    assert sum(line.startswith("| LQ-A") for line in lines) == 3
    assert {line.count("|") for line in lines if line.startswith("| LQ-A")} == {19, 16}


def test_tables_fit_a_terminal() -> None:
    long = row(
        "QTIP 3INST exact", 345.6, 0.5, architecture="tables:4,flow=credit", lut=12345, ff=23456,
        lut_ram=96, gates={"two_input": 65432}, latency=12, weights_per_cycle=1.25, lanes=16,
    )  # fmt: skip
    tables = cost_table({**REPORT, "designs": [*REPORT["designs"], long]})
    assert len(tables) == 2
    console = Console(width=132)
    with console.capture() as capture:
        console.print(tables[0])
    assert "…" not in capture.get(), capture.get()
    assert "250, 240-260" in capture.get()
