"""Decoders of other formats, written from their papers to be compared in cost.

Each is as lean as it can honestly be made: integers instead of floating point wherever these give
the same values up to a scale, no bit that is never read, constant multiplications as few additions
as were found, tables in the order that suits logic where the format leaves it open.
"""

import math

from hw.peers.codebook import Codebook
from hw.peers.e8p import E8P
from hw.peers.hyb import Hyb, HybBlocks, HybMemory
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


def _level(step: float) -> str:
    return f"nearest level, step {step}, 1000000 weights"


def _searched(scale: float) -> str:
    return f"Viterbi search over all states, scale {scale}, 200000 weights, standard error 0.0002"


PEERS: tuple[Peer, ...] = (
    _peer("INT2", "uniform", 2, 0.1186, _level(1.001), Int2Midpoint),
    _peer("INT2 zero point", "GPTQ, AWQ", 2, 0.1495, _level(1.039), Int2ZeroPoint),
    _peer("INT4", "uniform", 4, 0.0115, _level(0.3352), Int4Midpoint),
    _peer("INT4 zero point", "GPTQ, AWQ", 4, 0.0119, _level(0.3378), Int4ZeroPoint),
    _peer(
        "E8P",
        "QuIP#, arXiv 2402.04396",
        2,
        0.0916,
        "nearest codeword, scale 0.2410, 1000000 weights, standard error 0.0002",
        E8P,
    ),
    _peer("QTIP 1MAD", _QTIP, 2, 0.06821, _searched(0.006913), Mad),
    _peer("QTIP 3INST", _QTIP, 2, 0.06805, _searched(9.960e-5), ThreeInst),
    _peer("QTIP 3INST exact", _QTIP, 2, 0.06805, _searched(9.959e-5), ThreeInstExact),
    _peer("QTIP HYB", _QTIP, 2, 0.07009, _searched(0.02852), Hyb),
    _peer("QTIP HYB memory", _QTIP, 2, 0.07009, _searched(0.02852), HybMemory),
    _peer("QTIP HYB blocks", _QTIP, 2, 0.07009, _searched(0.02852), HybBlocks),
    _peer(
        "AQLM 1x16",
        "AQLM, arXiv 2401.06118",
        2,
        math.nan,
        "not measured: the format's codebooks are learned layer by layer, this one is arbitrary",
        Codebook,
    ),
)
