# amaranth: UnusedElaboratable=no
"""The chain of stages, and every way of not being one."""

import pytest
from amaranth.hdl import C, Module, Signal

from hw.formal_control import OtherMachine
from hw.formal_structure import check_chain, part_nets, paths_within_a_cycle
from hw.geometry import Geometry
from hw.netlist import map_verilog
from hw.projection import Projection
from hw.prove import decoder_verilog, prove_decoder
from tests.cases import random_code

CODE = random_code(2, 1, 6)
GEOMETRY = Geometry(CODE, 9)


def mapped(monkeypatch=None, projection=Projection):
    if monkeypatch is not None:
        monkeypatch.setattr("hw.projections.Projection", projection)
    return map_verilog(decoder_verilog(GEOMETRY))


@pytest.mark.parametrize(
    ("shape", "stages"),
    [
        ((2, 1, 6, 0), 2),
        ((2, 1, 10, 4), 3),
        ((2, 1, 10, 8), 5),
        ((9, 2, 0, 0), 3),
        ((1, 1, 0, 0), 1),
    ],
)
def test_stages_are_counted(shape, stages):
    code = random_code(*shape)
    netlist = map_verilog(decoder_verilog(Geometry(code, 9, 2)))
    assert check_chain(netlist, part_nets(netlist, "projection")) == stages
    assert paths_within_a_cycle(netlist) == []


def _around(self, ready, valid, payload):
    """A projection inside of another's ports, three of which a test may spoil."""
    m = Module()
    m.submodules.inner = inner = Projection(self.geometry)
    m.d.comb += [
        inner.i.valid.eq(self.i.valid), inner.i.payload.eq(self.i.payload),
        inner.o.ready.eq(self.o.ready), self.i.ready.eq(ready(inner)),
        self.o.valid.eq(valid(inner)), self.o.payload.eq(payload(inner)),
    ]  # fmt: skip
    return m


class _AlwaysMoves(Projection):
    def _control(self, m, stages):
        return [C(1) for _ in super()._control(m, stages)]


class _LastMovesAlone(Projection):
    def _control(self, m, stages):
        moves = super()._control(m, stages)
        return [*moves[:-1], self.o.ready]


class _NoGapsClose(Projection):
    def _control(self, m, stages):
        valids = [Signal(name=f"valid_{s}") for s in range(stages)]
        with m.If(self.o.ready):
            m.d.sync += [v.eq(valids[s - 1] if s else self.i.valid) for s, v in enumerate(valids)]
        m.d.comb += [self.i.ready.eq(self.o.ready), self.o.valid.eq(valids[-1])]
        return [self.o.ready] * stages


class _LosesReset(Projection):
    def _control(self, m, stages):
        valids = [Signal(name=f"valid_{s}", reset_less=s == 0) for s in range(stages)]
        moves = [Signal(name=f"move_{s}") for s in range(stages)]
        for s, valid in enumerate(valids):
            following = moves[s + 1] if s + 1 < stages else self.o.ready
            m.d.comb += moves[s].eq(~valid | following)
            with m.If(moves[s]):
                m.d.sync += valid.eq(valids[s - 1] if s else self.i.valid)
        m.d.comb += [self.i.ready.eq(moves[0]), self.o.valid.eq(valids[-1])]
        return moves


class _ValidIsLate(Projection):
    def _control(self, m, stages):
        return super()._control(m, stages + 1)[:stages]


class _ReadyIsBold(Projection):
    """Says ready always, while its stages do not move."""

    def elaborate(self, platform):
        return _around(self, lambda p: C(1), lambda p: p.o.valid, lambda p: p.o.payload)


class _PayloadPastAStage(Projection):
    def elaborate(self, platform):
        return _around(
            self,
            lambda p: p.i.ready,
            lambda p: p.o.valid,
            lambda p: p.o.payload ^ self.i.payload[0],
        )


@pytest.mark.parametrize(
    ("projection", "message"),
    [
        (_AlwaysMoves, "does not move with stage"),
        (_LastMovesAlone, "does not move with stage 1"),
        (_NoGapsClose, "valid bit 1 is not what it should become"),
        (_LosesReset, "valid bit 0 is not"),
        (_ValidIsLate, "2 stages of data, but 3 of valid bits"),
        (_ReadyIsBold, "ready is not that the first stage moves"),
        (_PayloadPastAStage, "reaches the payload past a stage"),
    ],
)
def test_other_machines_are_refused(monkeypatch, projection, message):
    netlist = mapped(monkeypatch, projection)
    with pytest.raises(OtherMachine, match=message):
        check_chain(netlist, part_nets(netlist, "projection"))


def test_broken_move_is_refuted_in_the_whole(monkeypatch):
    monkeypatch.setattr("hw.projections.Projection", _AlwaysMoves)
    proofs = {p.claim: p for p in prove_decoder(GEOMETRY, decoder_verilog(GEOMETRY))}
    assert {claim for claim, p in proofs.items() if p.outcome != "proved"} == {"pipeline"}
    assert proofs["sums"].outcome == "proved"  # the registers read as wires are still right


class _ValidSeesReady(Projection):
    def elaborate(self, platform):
        return _around(
            self, lambda p: p.i.ready, lambda p: p.o.valid & self.o.ready, lambda p: p.o.payload
        )


def test_a_path_from_ready_to_valid_is_named(monkeypatch):
    netlist = mapped(monkeypatch, _ValidSeesReady)
    assert paths_within_a_cycle(netlist) == ["o__valid depends on o__ready within a cycle"]
