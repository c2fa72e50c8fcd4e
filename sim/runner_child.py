"""The child process of `sim.cocotb_runner`: one call of cocotb's runner, told by JSON."""

import json
import sys
from typing import Any

from cocotb_tools.runner import get_runner


def main(request: dict[str, Any]) -> None:
    """Carry out one build or run; failures are exceptions or exit statuses, as in cocotb."""
    runner = get_runner(request["simulator"])
    if request["do"] == "build":
        runner.build(
            sources=request["sources"],
            includes=request["includes"],
            hdl_toplevel=request["top"],
            build_dir=request["directory"],
            build_args=request["arguments"],
            timescale=("1ns", "1ps"),
            always=True,
            waves=request["waves"],
        )
        return
    runner.test(
        test_module="sim.cocotb_bench",
        hdl_toplevel=request["top"],
        hdl_toplevel_lang="verilog",
        build_dir=request["directory"],
        test_dir=request["run_directory"],
        results_xml="results.xml",
        seed=request["seed"],
        plusargs=request["plusargs"],
        waves=request["waves"],
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
