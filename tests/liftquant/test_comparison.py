"""What a comparison shows: JSON, table, plot."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from algo.errors import LiftError
from algo.evaluate import Divergence, Perplexity
from liftquant.comparison import (
    Comparison,
    Entry,
    Missing,
    comparison_json,
    read_entry,
    write_entry,
)
from liftquant.comparison_plot import plot
from liftquant.comparison_table import comparison_table, plain_text


def entry(peer: str, label: str, bits: float, kl: float, error: float = 0.01) -> Entry:
    model = Perplexity(20 * math.exp(kl), error, 5110, 10, 512)
    return Entry(
        peer, label, bits, 12.0,
        Divergence(kl, error, 0.75, error, Perplexity(20.0, 1.0, 5110, 10, 512), model),
        "1.0", "a note",
    )  # fmt: skip


COMPARISON = Comparison(
    "some/model.gguf", "a text", "another text",
    [entry("liftquant", "2 bits", 2.05, 0.9), entry("hqq", "2 bits, group 64", 2.5, 1.9),
     entry("liftquant", "3 bits", 3.05, 0.2)],
    [Missing("gptq", None, "not installed")],
)  # fmt: skip


def test_entry_survives_its_file(tmp_path: Path) -> None:
    write_entry(tmp_path / "e.json", COMPARISON.entries[1], {"model": "x"})
    assert read_entry(tmp_path / "e.json") == COMPARISON.entries[1]


@pytest.mark.parametrize("text", ["{}", "[1]", '{"peer": "hqq", "bits": "many"}'])
def test_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(LiftError, match=r"e\.json is no entry of a comparison; remove it"):
        read_entry(tmp_path / "e.json")


def test_json_holds_every_figure() -> None:
    value = comparison_json(COMPARISON)
    assert value["original"]["perplexity"] == 20
    assert value["not_run"] == [{"peer": "gptq", "label": None, "reason": "not installed"}]
    first = value["entries"][0]
    assert (first["peer"], first["bits_per_weight"], first["kl"]) == ("liftquant", 2.05, 0.9)
    assert first["perplexity"] == pytest.approx(20 * math.exp(0.9))
    assert (first["kl_standard_error"], first["top1"], first["seconds"]) == (0.01, 0.75, 12)


def test_unknown_errors_are_null() -> None:
    one = Comparison("m", "t", "c", [entry("hqq", "x", 2, 1, math.nan)], [])
    (found,) = comparison_json(one)["entries"]
    assert found["kl_standard_error"] is None
    assert found["perplexity_standard_error"] is None
    assert comparison_json(Comparison("m", "t", "c", [], []))["original"] is None


def test_table_lists_original_and_entries_in_order() -> None:
    lines = plain_text(comparison_table(COMPARISON)).splitlines()
    rows = [line for line in lines if "│" in line]
    assert "original" in rows[0]
    assert [row.split("│")[1].strip() for row in rows[1:]] == ["2.050", "2.500", "3.050"]
    assert "1.9000 ± 0.0100" in rows[2]
    assert "75.00% ± 1.00%" in rows[2]


def test_plot_names_every_peer_and_setting(tmp_path: Path) -> None:
    plot(COMPARISON, tmp_path)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "plot.svg").read_text()
    for words in ("2 bits, group 64", "liftquant", "hqq", "perplexity", "nats per token"):
        assert f"<!-- {words}" in svg or words in svg, words
    assert "\N{UPWARDS ARROW}" not in svg
    plot(COMPARISON, tmp_path)
    assert (tmp_path / "plot.svg").read_text() == svg
    assert len(list(tmp_path.iterdir())) == 2


def test_broken_model_is_marked_at_the_edge_with_its_value(tmp_path: Path) -> None:
    broken = [entry("hqq", "1 bit", 1.5, 9.0), *COMPARISON.entries]
    plot(replace(COMPARISON, entries=broken), tmp_path)
    svg = (tmp_path / "plot.svg").read_text()
    assert f"1 bit: {20 * math.exp(9):.2g} \N{UPWARDS ARROW}" in svg
    assert "1 bit: 9 \N{UPWARDS ARROW}" in svg


def test_large_perplexities_are_short(tmp_path: Path) -> None:
    table = comparison_table(replace(COMPARISON, entries=[entry("rtn", "x", 2, 9.0)]))
    assert "1.62e+05 ± 1e-02" in plain_text(table)
