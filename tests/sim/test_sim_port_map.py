"""A wrong port map gets one answer that names the field or the port."""

import pytest

from algo.errors import LiftError
from algo.shipped import load_code
from sim.beat_layout import BeatLayout
from sim.bench_wrapper import check_ports, wrapper
from sim.design_ports import Port, design_ports
from sim.port_map import read_port_map
from tests.sim.foreign_cases import FIXED_LATENCY, FOREIGN, READY_VALID, VALID_ONLY

GOOD = READY_VALID.map.read_text()


def changed(tmp_path, old, new, good=GOOD):
    assert old in good
    path = tmp_path / "ports.toml"
    path.write_text(good.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[input]", "[inputs]", "inputs: unknown field; known here: protocol, latency, clock, res"),
        ('kind = "sync"', "", "reset.kind is missing; one of sync, async"),
        ("kind =", "type =", "reset.type: unknown field; known here: port, active, kind"),
        ('active = "high"', 'active = "up"', r"reset.active = 'up': Input should be 'high' or"),
        ("weight_bits = 12", "", "output.weight_bits is missing; a whole number"),
        ("weight_bits = 12", "weight_bits = 0", "output.weight_bits = 0: Input should be greater"),
        ("weight_bits = 12", 'weight_bits = "12"', "output.weight_bits = '12': Input should be a"),
        (
            "weight_bits = 12",
            "weight_bits = 12\nlanes = 2",
            "output.lanes: unknown field; known he",
        ),
        ('payload = "group"', "", "input.payload is missing; the name of a port"),
        ('carries = "groups"', 'carries = "bits"', "input.carries = 'bits': Input should be 'word"),
        ('protocol = "ready-valid"', "", "protocol is missing; one of ready-valid, valid-only, f"),
        ('clock = "clk"', "", "clock is missing; only a fixed-latency decoder of latency 0 has"),
        ('ready = "group_ready"', "", "input.ready is missing; protocol ready-valid has one"),
        ('"ready-valid"', '"valid-only"', "input.ready = 'group_ready': protocol valid-only has"),
        ('"ready-valid"', '"fixed-latency"', "latency is missing; protocol fixed-latency needs"),
        ('clock = "clk"', 'clock = "clk"\nlatency = 2', "latency = 2 has no meaning with protocol"),
        ("[input]", "[input", "is not TOML"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, old, new, message):
    with pytest.raises(LiftError, match=message):
        read_port_map(changed(tmp_path, old, new))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LiftError, match=r"none\.toml does not exist"):
        read_port_map(tmp_path / "none.toml")


def ports_of(design):
    return design_ports([FOREIGN / design.file], [FOREIGN], design.top)


def test_the_ports_of_a_design_are_found():
    assert list(ports_of(FIXED_LATENCY).values()) == [
        Port("clk", "input", 1),
        Port("rst_n", "input", 1),
        Port("bypass", "input", 1),
        Port("bits_i", "input", 8),
        Port("weights_o", "output", 44),
    ]


def test_ports_that_are_no_vectors_are_named(tmp_path):
    source = tmp_path / "odd.sv"
    source.write_text(
        "typedef logic [3:0] nibble;\n"
        "module odd__x(input nibble [1:0] a__b, input integer \\b+ , output logic [0:4] c);\n"
        "endmodule\n"
        "module worse(input clk, output logic q [3]); endmodule\n"
    )
    found = design_ports([source], [], "odd__x")
    assert [(port.name, port.width) for port in found.values()] == [
        ("a__b", 8), ("b+", 32), ("c", 5),
    ]  # fmt: skip
    with pytest.raises(LiftError, match="port q has type unpackarray, not a vector of bits"):
        design_ports([source], [], "worse")


def test_sources_that_cannot_be_read_are_quoted(tmp_path):
    source = tmp_path / "broken.v"
    source.write_text("module broken(input clk); assign = 1; endmodule\n")
    with pytest.raises(LiftError, match=r"(?s)sources of broken cannot be read.*syntax error"):
        design_ports([source], [], "broken")
    with pytest.raises(LiftError, match=r"(?s)sources of no_such cannot be.*'no_such' was not fo"):
        design_ports([FOREIGN / READY_VALID.file], [FOREIGN], "no_such")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"group"', '"data"', r"input.payload = 'data': \w+ has no such port; .* clk \(input, 1 b"),
        ('"clk"', '"weights"', "clock = 'weights' must be an input of block_ready_valid, but is"),
        ('"weights_valid"', '"group_valid"', "output.valid = 'group_valid' must be an output of"),
        ('"groups"', '"words"', "has 16 bits, but 1 word of LQ-16/8 per beat takes 32 bits"),
        ("weights = 8", "weights = 4", "'weights' has 96 bits, but 4 weights of 12 bits takes 48"),
        ('port = "rst"', 'port = "clk"', "reset.port and clock both name port 'clk'"),
        (
            '[reset]\nport = "rst"\nactive = "high"\nkind = "sync"\n',
            "",
            r"input port rst of block_ready_valid is not in the map; name it, or give it a constan",
        ),
    ],
)
def test_a_map_that_does_not_fit_the_design_is_answered(tmp_path, old, new, message):
    layout = BeatLayout(load_code("LQ-16/8"), 5, read_port_map(changed(tmp_path, old, new)))
    with pytest.raises(LiftError, match=message) as caught:
        check_ports(layout, ports_of(READY_VALID), READY_VALID.top)
    assert "weights_ready (input, 1 bit)" in str(caught.value)


@pytest.mark.parametrize(
    ("new", "message"),
    [("bypass = 2", r"tie.bypass = 2 does not fit 1 bit"), ("pass = 0", "tie.pass = 'pass': slid")],
)
def test_ties_must_fit(tmp_path, new, message):
    path = changed(tmp_path, "bypass = 0", new, FIXED_LATENCY.map.read_text())
    layout = BeatLayout(load_code("LQ-2/1+6"), 24, read_port_map(path))
    with pytest.raises(LiftError, match=message):
        check_ports(layout, ports_of(FIXED_LATENCY), FIXED_LATENCY.top)


def test_the_wrapper_is_verilog_with_the_bench_s_ports(tmp_path):
    for design in (READY_VALID, VALID_ONLY, FIXED_LATENCY):
        code = load_code(design.code)
        layout = BeatLayout(code, design.weights // code.group, read_port_map(design.map))
        found = ports_of(design)
        path = tmp_path / f"{design.top}.sv"
        path.write_text(wrapper(layout, found, design.top))
        outer = design_ports([FOREIGN / design.file, path], [FOREIGN], "liftquant_bench")
        assert {port.name: port.width for port in outer.values()} == {
            "clk": 1, "rst": 1, "i_valid": 1, "i_ready": 1, "i_payload": layout.input_bits,
            "o_valid": 1, "o_ready": 1, "o_payload": layout.output_bits,
        }  # fmt: skip
