"""``liftquant kernels estimate`` as a user meets it."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gpu.speed_checks import SCENARIOS
from gpu.tiles import NVIDIA_TILES
from liftquant.cli import run
from tests.conftest import ROOT

FIGURES = {
    "tokens_per_second", "milliseconds", "expected_milliseconds_by_cause", "launches", "fits",
    "moved_bytes", "weights_only_tokens_per_second", "memory_bytes", "gpu_bytes", "model", "gpu",
    "bits", "code",
}  # fmt: skip


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A compile report with 1.5 lane-instructions per weight at 2.4 bits on sm_90."""
    file = tmp_path / "kernels.json"
    kernels = [
        {
            "kernel": f"bitmm-{t.rows}x{t.columns}x{t.inner}-plain", "code": "any",
            "target": target, "registers": 1, "spills": 0, "loop": True, "unit": "bit",
            "per_unit": 0.625,
        }
        for target in ("sm_80", "sm_89", "sm_90")
        for t in NVIDIA_TILES
    ]  # fmt: skip
    file.write_text(json.dumps({"format": 1, "versions": {}, "kernels": kernels}))
    return file


def answer(
    capsys: pytest.CaptureFixture[str], report: Path, *arguments: object
) -> tuple[int, str, str]:
    status = run(["kernels", "estimate", "--report", str(report), *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], report: Path, *arguments: object) -> Any:
    status, out, _ = answer(capsys, report, "--json", *arguments)
    assert status == 0
    return json.loads(out)


def test_json_has_every_combination_and_assumption(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = as_json(capsys, report, "--gpu", "h100,rtx-4090", "--bits", "2,2.4")
    assert result["note"] == "estimate, nothing was run on a GPU"
    rows = result["estimates"]
    assert [(r["model"], r["gpu"], r["bits"]) for r in rows] == [
        (model, gpu, bits)
        for model in ("llama-3-8b", "llama-3-70b")
        for gpu in ("h100", "rtx-4090")
        for bits in (2.0, 2.4)
    ]
    for row in rows:
        assert set(row) == FIGURES
        assert set(row["tokens_per_second"]) == set(row["milliseconds"]) == set(SCENARIOS)
        expected = row["milliseconds"]["expected"]
        assert expected == pytest.approx(1e3 / row["tokens_per_second"]["expected"])
        assert expected == pytest.approx(sum(row["expected_milliseconds_by_cause"].values()))
        assert row["fits"] == (row["memory_bytes"] <= row["gpu_bytes"])
    assert set(result["assumptions"]) == set(SCENARIOS)
    assert result["product"]["sm_90"]["lanes_per_bit"] == 0.625
    assert result["gpus"]["h100"]["bandwidth_tbs"] == 3.35
    assert {check["set_from_it"] for check in result["checks"]} == {True, False}
    assert all(figure["url"] for figure in result["published"])
    compared = [figure for figure in result["published"] if figure["ours_in_its_case"]]
    # of the H100 there is none; the RTX 6000 Ada runs what is compiled for the RTX 4090
    assert {figure["gpu"] for figure in compared} == {"rtx-4090", "rtx-6000-ada"}
    assert all(figure["bits"] <= 4 for figure in compared)
    assert any(missing["method"] == "LiftQuant" for missing in result["not_found"])


def test_tables_say_that_nothing_was_measured(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = answer(capsys, report, "--checks")
    assert status == 0
    titles = [line for line in out.splitlines() if line.startswith("llama-")]
    assert len(titles) == 2
    assert all("ESTIMATE for linear codes, nothing was run" in title for title in titles)
    assert "published by others, batch 1; ours: ESTIMATE" in out
    for text in ("NO", "set from it", "QTIP", "lane-instructions per bit", "LiftQuant (any)"):
        assert text in out


def test_the_committed_report_serves_every_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kernels", "estimate", "--gpu", "rtx-4090,a100,h100,b200", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["estimates"]) == 2 * 4 * 3
    assert set(result["product"]) == {"sm_80", "sm_89", "sm_90", "sm_100"}


def test_options_change_what_they_name(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def row(*arguments: object) -> Any:
        fixed = ("--model", "llama-3-70b", "--gpu", "rtx-4090", "--bits", "2.4")
        (only,) = as_json(capsys, report, *fixed, *arguments)["estimates"]
        return only

    usual = row()
    assert not usual["fits"]
    assert row("--embedding", "host")["fits"]
    assert row("--no-fused")["launches"] == usual["launches"] + 4 * 80
    assert row("--axis", "in")["moved_bytes"] > usual["moved_bytes"]
    assert row("--no-graphs")["milliseconds"]["optimistic"] >= usual["launches"] * 5e-3
    assert row("--head-bits", 8)["moved_bytes"] < usual["moved_bytes"]
    assert row("--kv-bits", 8)["moved_bytes"] < usual["moved_bytes"]
    assert row("--context", 8192)["moved_bytes"] > usual["moved_bytes"]
    # the same tile, but more columns than it has
    assert (
        row("--batch", 9)["expected_milliseconds_by_cause"]
        != (row("--batch", 9, "--activations", "a8")["expected_milliseconds_by_cause"])
    )


def test_any_config(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ROOT / "tests" / "configs" / "qwen2.5-32b.json"
    result = as_json(capsys, report, "--model", config, "--gpu", "a100", "--bits", 3)
    (row,) = result["estimates"]
    assert row["fits"]
    assert row["launches"] == 64 * 22 + 5
    assert result["published"] == []


def test_a_picture_is_drawn_the_same_each_time(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in files:
        few = ("--model", "llama-3-70b", "--gpu", "rtx-4090", "--bits", 2)
        assert answer(capsys, report, "--plot", file, *few)[0] == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    markers = [e for e in ElementTree.parse(files[0]).iter() if e.tag.endswith("}use")]
    assert len(markers) > 4  # ticks, and published points


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "llama-9"), "model 'llama-9' is none of llama-3-8b"),
        (("--model", "missing.json"), "missing.json"),
        (("--model", ","), "--model names nothing"),
        (("--gpu", "gtx"), "no estimate for GPU 'gtx'; known are rtx-4090, a100, h100, b200"),
        (("--gpu", "b200"), "no figure of the one-bit product in tiles of 64x8x128 for sm_100"),
        (("--bits", "two"), "--bits two must be numbers separated by commas"),
        (("--bits", "9"), "9 bits per weight are not between 1 and 4"),
        (("--bits", "nan"), "nan bits per weight are not between"),
        (("--bits", "2.33"), "no code has 2.33 bits per weight"),
        (("--batch", "0"), "batch must be from 1 to 128, not 0"),
        (("--context", "-3"), "context must be at least 1, not -3"),
        (("--axis", "up"), "--axis up is none of in, out"),
        (("--activations", "a4"), "--activations a4 is none of a8, a15"),
        (("--embedding", "disk"), "--embedding disk is none of gpu, host"),
        (("--head-bits", "1"), "head_bits must be from 2 to 16"),
        (("--plot", "picture.png"), "--plot picture.png must end in .svg"),
        (("--report", "none.json"), "none.json does not exist"),
    ],
)
def test_bad_input_is_one_message(
    report: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    status, out, err = answer(capsys, report, *arguments)
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    assert message in err.replace("\n", " ")
