"""Templates fit the decoder: Verilator elaborates them without a word about their ports."""

import json
import re
import subprocess

import pytest

from hw.capacity import Capacity
from hw.decoder import Decoder
from hw.export import export
from hw.export_loadable import export_loadable
from hw.output import Output, Scale
from sim.toolchain import tool_environment
from tests.cases import random_code


def lint(folder, name):
    """What Verilator says of the template, and whether it accepts it."""
    command = [
        "verilator", "--lint-only", "-Wall", "-Wno-fatal", "-Wno-DECLFILENAME", "--quiet",
        "--top-module", f"{name}_template", f"{name}.template.v", f"{name}.v",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env=tool_environment("verilator"), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if f"{name}.template.v" in line]
    return said, done.returncode == 0


def scaled(folder):
    output = Output(8, Scale("out", 16, 20))
    decoder = Decoder(random_code(5, 2, 4), 9, 2, output=output, mark_last=True)
    return export(decoder, folder, "some_name", {})


def plain(folder):
    return export(Decoder(random_code(12, 5, 9, 2), 9), folder, "some_name", {})


def loadable(folder):
    return export_loadable(Capacity(6, 3, 8, 2), folder, "some_name", {})


@pytest.mark.parametrize("made", [plain, scaled, loadable])
def test_templates_fit(tmp_path, made):
    verilog, sidecar, template, component = made(tmp_path)
    assert template.name == "some_name.template.v"
    assert lint(tmp_path, "some_name") == ([], True)
    described = json.loads(sidecar.read_text())
    for port in described["ports"]:
        assert re.search(
            rf"{port['name']},? +// {re.escape(port['meaning'])}", template.read_text()
        )
    assert described["files"] == {
        "verilog": verilog.name, "template": template.name, "component": component.name,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[31:0] i__payload", "[30:0] i__payload"),
        (".o__ready   ", ".o__redy    "),
        (".rst        (rst),", ""),
    ],
    ids=["width", "name", "missing"],
)
def test_a_template_that_does_not_fit_is_seen(tmp_path, old, new):
    template = plain(tmp_path)[2]
    text = template.read_text()
    assert text.count(old) == 1
    template.write_text(text.replace(old, new))
    assert lint(tmp_path, "some_name") != ([], True)


@pytest.mark.parametrize("made", [scaled, loadable])
def test_the_component_declares_every_port(tmp_path, made):
    _, sidecar, _, component = made(tmp_path)
    described, text = json.loads(sidecar.read_text()), component.read_text()
    found = re.findall(r"^ +(\S+) : (in |out) std_logic(?:_vector\((\d+) downto 0\))?", text, re.M)
    modes = {"input": "in ", "output": "out"}
    assert [(name.strip("\\"), mode, int(high or 0) + 1) for name, mode, high in found] == [
        (port["name"], modes[port["direction"]], port["width"]) for port in described["ports"]
    ]
    # two underscores are no plain name in VHDL
    assert all((name[0] == "\\") == ("__" in name) for name, _, _ in found)
    assert re.search(r"std_logic(_vector\(\d+ downto 0\))? +-- .*\n    \);", text)
