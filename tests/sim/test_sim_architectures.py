"""One decoder of every architecture as Verilog, in Verilator."""

import pytest

from hw.architecture import parse_architecture
from hw.geometry import Geometry
from sim.verify import simulate_decoder
from tests.cases import random_code, random_words


@pytest.mark.parametrize("architecture", ["tables:6,flow=credit", "tree,levels=2", "shared:3"])
def test_in_verilator(tmp_path, architecture):
    code = random_code(5, 2, 4, parities=2)
    words = random_words(code, 11, 40)
    free = simulate_decoder(
        code, words, 11, 2, stalls=(0, 0), workdir=tmp_path, architecture=architecture
    )
    geometry = Geometry(code, 11, 2, parse_architecture(architecture))
    assert free.passed, free.summary()
    assert (free.latency, free.cycles) == (geometry.latency, geometry.cycles(40))
    for seed, stalls in [(1, (0.25, 0.25)), (2, (0.0, 0.7))]:
        held = simulate_decoder(
            code, words, 11, 2, seed=seed, stalls=stalls, workdir=tmp_path,
            architecture=architecture,
        )  # fmt: skip
        assert held.passed, held.summary()
        assert held.weights == 40 * 11 * 2
