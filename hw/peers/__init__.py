"""Decoders of other formats, written from their papers to be compared in cost.

Each is as lean as it can honestly be made: integers instead of floating point wherever these give
the same values up to a scale, no bit that is never read, constant multiplications as few additions
as were found, tables in the order that suits logic where the format leaves it open.
"""

import math

from hw.peers.codebook import Codebook
from hw.peers.e8p import E8P
from hw.peers.hyb import Hyb, HybBlocks
from hw.peers.lanes import LaneDecoder
from hw.peers.mad import Mad
from hw.peers.peer import Peer
from hw.peers.three_inst import ThreeInst, ThreeInstExact
from hw.peers.uniform import Int2Midpoint, Int2ZeroPoint, Int4Midpoint, Int4ZeroPoint


def _peer(
    name: str, source: str, rate: float, mse: float, note: str, decoder: type[LaneDecoder]
) -> Peer:
    """A peer whose sizes are those of its decoder."""
    return Peer(
        name, source, rate, decoder.weights, decoder.bits, decoder.stages, mse, note, decoder
    )


_QTIP = "QTIP, arXiv 2406.11235"
_VITERBI = "Viterbi search over all states, 200000 weights, best scale, standard error 0.0003"
_NEAREST = "nearest codeword, 1000000 weights, best scale"
_SCALAR = "nearest level, 200000 weights, best step"

PEERS: tuple[Peer, ...] = (
    _peer("INT2", "uniform", 2, 0.1182, _SCALAR, Int2Midpoint),
    _peer("INT2 zero point", "GPTQ, AWQ", 2, 0.1494, _SCALAR, Int2ZeroPoint),
    _peer("INT4", "uniform", 4, 0.0114, _SCALAR, Int4Midpoint),
    _peer("INT4 zero point", "GPTQ, AWQ", 4, 0.0119, _SCALAR, Int4ZeroPoint),
    _peer("E8P", "QuIP#, arXiv 2402.04396", 2, 0.0913, _NEAREST, E8P),
    _peer("QTIP 1MAD", _QTIP, 2, 0.07, _VITERBI, Mad),
    _peer("QTIP 3INST", _QTIP, 2, 0.07, _VITERBI, ThreeInst),
    _peer("QTIP 3INST exact", _QTIP, 2, 0.07, _VITERBI, ThreeInstExact),
    _peer("QTIP HYB", _QTIP, 2, 0.07, _VITERBI, Hyb),
    _peer("QTIP HYB blocks", _QTIP, 2, 0.07, _VITERBI, HybBlocks),
    _peer(
        "AQLM 1x16",
        "AQLM, arXiv 2401.06118",
        2,
        math.nan,
        "not measured: entries are learned per layer; these are arbitrary",
        Codebook,
    ),
)
