"""`rtl verify` passes decoders that are right, and says of wrong ones what is wrong."""

import json
import re
import shutil
from pathlib import Path

import pytest

from algo.decode import decode_words
from algo.shipped import load_code
from liftquant.cli import run
from sim.vectors import random_vectors
from tests.pictures import check_layout
from tests.sim.foreign_cases import (
    FIXED_LATENCY,
    FOREIGN,
    READY_VALID,
    VALID_ONLY,
    VHDL,
    Foreign,
    copy_with,
)

# Icarus Verilog builds at once; where it is not installed Verilator does the same, more slowly
QUICK = "icarus" if shutil.which("iverilog") else "verilator"


def verify(
    design: Foreign,
    workdir: Path,
    capsys: pytest.CaptureFixture[str],
    simulator: str = "verilator",
    source: Path | None = None,
    ports: Path | None = None,
    json_wanted: bool = True,
) -> tuple[int, str]:
    """Exit status, and the answer on standard output or, without one, standard error."""
    status = run(
        ["rtl", "verify", "--code", design.code, "--rtl", str(source or FOREIGN / design.file),
         "--top", design.top, "--ports", str(ports or design.map), "--weights",
         str(design.weights), "--simulator", simulator, "--workdir", str(workdir),
         *["--json"] * json_wanted]
    )  # fmt: skip
    captured = capsys.readouterr()
    return status, captured.out or captured.err


@pytest.mark.skipif(shutil.which("ghdl") is None, reason="GHDL is not installed")
def test_vhdl_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer = verify(VHDL, tmp_path / "right", capsys, QUICK)
    assert status == 0, answer
    wrong = copy_with(VHDL, tmp_path, {"119, 121)": "119, 120)"})
    status, answer = verify(VHDL, tmp_path / "wrong", capsys, QUICK, wrong)
    assert status == 1
    first = json.loads(answer)["passes"][0]["result"]["first_mismatch"]
    assert (first["expected"], first["got"]) == (-375, -374)


@pytest.mark.parametrize(
    ("design", "simulator", "stalls", "toggled"),
    [
        (READY_VALID, QUICK, ["none", "both sides", "input", "output", "bursts"], 96 - 8),
        (VALID_ONLY, "verilator", ["none", "input", "bursts"], 256 - 16),
        (FIXED_LATENCY, "verilator", ["none"], 44 - 4),
    ],
    ids=["ready-valid", "valid-only", "fixed-latency"],
)
def test_right_decoders_pass(
    design: Foreign, simulator: str, stalls: list[str], toggled: int, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    status, answer = verify(design, tmp_path, capsys, simulator)
    found = json.loads(answer)
    assert status == 0
    assert found["passed"]
    assert (found["waves"], found["picture"]) == (None, None)
    names = [one["name"] for one in found["passes"]]
    assert [name for name in names if name.startswith("stalls")] == [f"stalls: {s}" for s in stalls]
    assert sum(name.startswith("reset after") for name in names) == 4
    assert len(names) == found["planned_passes"]
    coverage = found["coverage"]
    assert coverage["output_bits_toggled"] == toggled
    if simulator == "verilator":  # every word of 16 bits, every window of 8
        assert coverage["windows_seen"] == coverage["windows"]
    waits = {one["stalls"]: one["result"]["waits"] for one in found["passes"]}
    for pattern in ("output", "bursts"):
        if design is READY_VALID:
            assert min(waits[pattern]) > 50


READY_VALID_FAULTS = (
    "wrong tap", "swapped weights", "lost beat", "payload changes", "no reset", "overflow",
)  # fmt: skip


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ready/valid decoder with every fault, which a file switches on: one build for all."""
    on = [f"(fault[0] == {n})" for n in range(len(READY_VALID_FAULTS))]
    tap, swap, lost, moves, reset, overflow = on
    return copy_with(
        READY_VALID,
        tmp_path_factory.mktemp("faulty"),
        {
            '`include "lq_16_8_taps.vh"': '`include "lq_16_8_taps.vh"\n  reg [7:0] fault [0:0];\n'
            '  initial $readmemh("fault.mem", fault);\n  initial weights_valid = 1\'b0;',
            "tap = TAPS[8 * (16 * i + j) +: 8];": "tap = TAPS[8 * (16 * i + j) +: 8];\n"
            f"        if ({tap} && i == 7 && j == 3) tap = tap + 8'sd3;",
            "weight(group, n)": f"weight(group, n ^ {swap})",
            "!weights_valid || weights_ready": f"!weights_valid || weights_ready || {lost}",
            "else if (group_ready) begin": f"else if (group_ready || {moves} && group_valid) begin",
            "weights_valid <= group_valid;": "if (group_ready) weights_valid <= group_valid;",
            "if (rst)": f"if (rst && !{reset})",
            "weight = sum;": f"weight = {overflow} ? {{{{4{{sum[8]}}}}, sum[7:0]}} : sum;",
        },
    )


def switch(faulty: Path, fault: str) -> None:
    """Switch one fault on, or all off."""
    number = (*READY_VALID_FAULTS, "none").index(fault)
    (faulty.parent / "fault.mem").write_text(f"{number:x}\n")


WAITED = "output (payload changed while it waited for|valid fell before) ready"


@pytest.mark.parametrize(
    ("fault", "first_wrong", "failure", "place", "likeness"),
    [
        ("wrong tap", "stalls: none", None, 7, None),
        ("swapped weights", "stalls: none", None, 0, "it is what weight 1 of the stream should be"),
        ("lost beat", "stalls: both sides", WAITED, None, None),
        ("payload changes", "stalls: both sides", WAITED, None, None),
        ("no reset", "reset after 1 input beats", "surplus output beat after the", 0, None),
        ("overflow", "stalls: none", None, 0, None),
    ],
)
def test_wrong_ready_valid_decoders_are_found(
    faulty: Path, fault: str, first_wrong: str, failure: str | None, place: int | None,
    likeness: str | None, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    switch(faulty, fault)
    status, answer = verify(READY_VALID, faulty.parent / "work", capsys, QUICK, faulty)
    found = json.loads(answer)
    assert status == 1
    assert not found["passed"]
    wrong = next(one for one in found["passes"] if not one["passed"])
    assert wrong["name"] == first_wrong
    assert re.search(failure or "^None$", str(wrong["result"]["failure"])), wrong
    assert Path(found["waves"]).stat().st_size > 0
    picture = Path(found["picture"]).read_text()
    check_layout(picture)
    assert first_wrong in picture
    first = wrong["difference"]
    if first:
        assert f"expected {first['expected']}, got {first['got']}" in picture
    assert (first and first["place"]) == place
    if first:
        assert sum(term["product"] for term in first["terms"]) == first["expected"]
        assert first["expected"] != first["got"]
    if likeness:
        assert likeness in first["looks_like"]
    if fault == "wrong tap":
        assert abs(first["got"] - first["expected"]) == 3


def test_the_decoder_with_its_faults_off_is_right(
    faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    switch(faulty, "none")
    work = faulty.parent / "work"
    work.mkdir(exist_ok=True)
    (work / "waves.svg").write_text("of an earlier verdict")
    assert verify(READY_VALID, work, capsys, QUICK, faulty)[0] == 0
    assert not (work / "waves.svg").exists()


@pytest.mark.parametrize(
    ("design", "change", "said"),
    [
        (
            FIXED_LATENCY,
            {"last ? head : bits_i": "bits_i"},
            "its window goes on with 1s where it should wrap round",
        ),
        (FIXED_LATENCY, {"BEATS - 1);\n    else": "BEATS - 2);\n    else"}, ""),
        (VALID_ONLY, {"{pending[0], word_valid}": "{pending[0], 1'b1}"}, ""),
        (VALID_ONLY, {"posedge clock or posedge areset)": "posedge clock)"}, ""),
    ],
    ids=["wrap-round", "phase after reset", "valid ignored", "reset needs a clock"],
)
def test_wrong_decoders_of_other_protocols_are_found(
    design: Foreign, change: dict[str, str], said: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = copy_with(design, tmp_path, change)
    status, answer = verify(design, tmp_path / "work", capsys, QUICK, source, json_wanted=False)
    assert status == 1
    assert "WRONG." in answer
    assert said in answer
    assert f"picture: {tmp_path / 'work' / 'waves.svg'}" in answer.replace("\n", "")
    check_layout((tmp_path / "work" / "waves.svg").read_text())


@pytest.mark.parametrize(
    ("design", "old", "new"),
    [
        (READY_VALID, 'carries = "groups"', 'carries = "groups"\nfirst = "msb"'),
        (FIXED_LATENCY, "latency = 3", "latency = 2"),
        (FIXED_LATENCY, 'weight_bits = 11\nfirst = "msb"', "weight_bits = 11"),
    ],
    ids=["bit order", "latency", "weight order"],
)
def test_a_map_that_says_otherwise_than_the_design_is_found(
    design: Foreign, old: str, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = tmp_path / "ports.toml"
    text = design.map.read_text()
    assert old in text
    ports.write_text(text.replace(old, new))
    status, _ = verify(design, tmp_path / "work", capsys, QUICK, ports=ports)
    assert status == 1


def test_bad_input_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer = verify(READY_VALID, tmp_path, capsys, "vcs")
    assert (status, "simulator 'vcs' builds no Verilog here" in answer) == (2, True)
    status, answer = verify(READY_VALID, tmp_path, capsys, source=tmp_path / "none.v")
    assert (status, "none.v: there is no such file" in answer) == (2, True)
    status, answer = verify(READY_VALID, tmp_path, capsys, ports=VALID_ONLY.map)
    assert status == 2
    assert "clock = 'clock': block_ready_valid has no such port; the ports of" in answer
    vhdl = tmp_path / "their.vhd"
    vhdl.touch()
    if shutil.which("ghdl") is None:
        status, answer = verify(READY_VALID, tmp_path, capsys, source=vhdl)
        assert (status, "their.vhd is VHDL, which takes ghdl" in answer) == (2, True)


def test_real_words_are_sent_too(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Our own decoder, exported, as if it were somebody else's."""
    status = run(
        ["rtl", "export", "LQ-12/5+9^12", str(tmp_path), "--weights", "48", "--lanes", "2"]
    )
    assert status == 0
    (tmp_path / "ports.toml").write_text(EXPORTED)
    layer = "model.layers.0.self_attn.q_proj"
    arguments = [
        "--code", "LQ-12/5+9^12", "--rtl", str(tmp_path / "liftquant_decoder.v"), "--top",
        "liftquant_decoder", "--ports", str(tmp_path / "ports.toml"), "--checkpoint",
        str(tiny_checkpoint), "--simulator", QUICK, "--workdir", str(tmp_path / "w"),
    ]  # fmt: skip
    capsys.readouterr()
    status = run(["rtl", "verify", *arguments, "--weights", "48", "--layer", layer, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert status == 0
    (stored,) = [one for one in found["passes"] if one["name"] == "stored streams"]
    assert stored["streams"] == 48
    for more, message in (
        (["--weights", "60", "--layer", layer], f"streams of layer {layer} have 10 groups"),
        (["--weights", "48", "--layer", "x"], "has no quantised layer 'x'"),
        (["--weights", "48"], "--checkpoint DIR and --layer NAME go together"),
    ):
        status = run(["rtl", "verify", *arguments, *more])
        assert (status, message in capsys.readouterr().err) == (2, True), message


EXPORTED = """\
protocol = "ready-valid"
clock = "clk"
reset = { port = "rst", active = "high", kind = "sync" }

[input]
payload = "i__payload"
valid = "i__valid"
ready = "i__ready"
carries = "words"

[output]
payload = "o__payload"
valid = "o__valid"
ready = "o__ready"
weights = 10
weight_bits = 12
"""


@pytest.fixture(scope="module")
def tiny_checkpoint(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rtl") / "out"
    assert run(["quantize", str(tiny_llama), str(folder), "--bits", "2.4", "--calib", "none"]) == 0
    return folder


def test_vectors_are_written(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = "model.layers.0.self_attn.q_proj"
    status = run(
        ["rtl", "vectors", "LQ-12/5+9^12", str(tmp_path / "v"), "--weights", "48", "--streams", "3",
         "--seed", "7", "--checkpoint", str(tiny_checkpoint), "--layer", layer]
    )  # fmt: skip
    assert status == 0
    whole = json.loads((tmp_path / "v" / "vectors.json").read_text())
    names = [stream["name"] for stream in whole["streams"]]
    assert names[-6:] == ["random 0", "random 1", "random 2", *(f"{layer} {n}" for n in range(3))]
    code = load_code("LQ-12/5+9^12")
    words = random_vectors(code, 10, 3, 7).words
    at = names.index("random 0")
    assert [stream["words"] for stream in whole["streams"][at : at + 3]] == words.tolist()
    expected = decode_words(words, 10, code).tolist()
    assert [stream["weights"] for stream in whole["streams"][at : at + 3]] == expected
    assert str(tmp_path / "v" / "README.md") in capsys.readouterr().out.splitlines()
