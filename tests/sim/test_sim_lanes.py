"""The bench on lanes of a netlist is the bench on any other simulator."""

from dataclasses import replace
from functools import partial

from hw.decoder import Decoder
from hw.geometry import Geometry
from hw.netlist import map_verilog
from hw.netlist_sim import NetlistSimulator
from hw.prove import decoder_verilog
from sim.amaranth_sim import run_amaranth
from sim.bench import exercise
from sim.decoder_passes import decoder_passes, judge
from sim.lanes import Lanes, reset
from tests.cases import random_code

GEOMETRY = Geometry(random_code(5, 2, 4), 11, 2)


def plain(result):
    return replace(result, simulator="", seconds=0.0)


def test_every_pass_runs_cycle_by_cycle_as_in_amaranth():
    passes = [
        one for one in decoder_passes(GEOMETRY, seed=2) if not one.broken_off and not one.long
    ]
    lanes = Lanes(NetlistSimulator(map_verilog(decoder_verilog(GEOMETRY)), len(passes)))

    async def program(design):
        await reset(design)
        return await exercise(design, passes[design.lane].stimulus)

    results = lanes.run(range(len(passes)), program)
    for lane, one in enumerate(passes):
        decoder = Decoder(GEOMETRY.code, GEOMETRY.groups, GEOMETRY.lanes)
        expected = run_amaranth(decoder, one.stimulus)
        assert expected.passed, expected.summary()
        assert plain(results[lane]) == plain(expected)
        assert judge(GEOMETRY, one, results[lane], expected) is None


def test_a_lane_that_ends_waits_for_the_others():
    lanes = Lanes(NetlistSimulator(map_verilog(decoder_verilog(GEOMETRY)), 3))
    seen = []

    async def program(steps, design):
        for _ in range(steps[design.lane]):
            await design.settle()
            await design.edge()
        return design.lane

    ended = lanes.run([0, 2], partial(program, {0: 4, 2: 7}), lambda: seen.append(lanes.cycle))
    assert ended == {0: 0, 2: 2}
    assert seen == list(range(1, 8))


def test_passes_are_the_same_for_the_same_seed():
    one, same, other = (decoder_passes(GEOMETRY, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert not one[0].resets
    assert {p.broken_off for p in one} >= {1, GEOMETRY.beats_in, GEOMETRY.beats_in + 1}


def test_spare_bits_of_last_beats_are_not_zero():
    (first, *_) = decoder_passes(GEOMETRY, 1)
    lasts = first.stimulus.inputs[GEOMETRY.beats_in - 1 :: GEOMETRY.beats_in]
    assert any(payload >> GEOMETRY.last_beat_bits for payload in lasts)
