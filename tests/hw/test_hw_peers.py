# amaranth: UnusedElaboratable=no

import math
from dataclasses import replace

import numpy as np
import pytest

from algo.errors import LiftError
from hw.peers import PEERS, hyb, mad, three_inst
from hw.peers.e8p import E8P, magnitudes
from hw.peers.hyb import Hyb
from hw.peers.hyb_table import hyb_table
from hw.peers.three_inst import ThreeInst, ThreeInstExact
from sim.amaranth_sim import run_amaranth
from tests.hw.peer_cases import every_window, netlist_weights, stimulus

STORED = ("QTIP HYB memory", "QTIP HYB blocks", "AQLM 1x16")  # memories are no gates
CODEBOOK = "AQLM 1x16"  # its simulation starts slowly

each_peer = pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)


@pytest.mark.parametrize(
    "peer", [peer for peer in PEERS if peer.name not in STORED], ids=lambda peer: peer.name
)
def test_every_window_decodes_as_the_reference_says(peer):
    decoder = peer.build(1)
    windows = every_window(decoder)
    assert np.array_equal(netlist_weights(decoder, windows), decoder.reference(windows))


@pytest.mark.parametrize(
    "peer", [peer for peer in PEERS if peer.name in STORED], ids=lambda peer: peer.name
)
def test_every_window_is_looked_up_as_the_reference_says(peer):
    decoder = peer.build(8)
    windows = np.random.default_rng(3).permutation(1 << peer.bits).reshape(-1, 8)
    result = run_amaranth(decoder, stimulus(decoder, windows, seed=4, stalls=(0.1, 0.1)))
    assert result.passed, result.summary()
    assert result.weights == peer.weights << peer.bits


@pytest.mark.parametrize(
    ("module", "name", "other"),
    [(mad, "_SUBTRACTED", mad._SUBTRACTED ^ 1), (three_inst, "_DEALT", (5, 12, 3, 11926))],
    ids=["1MAD", "3INST"],
)
def test_a_constant_that_is_off_by_one_is_noticed(monkeypatch, module, name, other):
    monkeypatch.setattr(module, name, other)
    decoder = (mad.Mad if module is mad else ThreeInst)(1)
    windows = every_window(decoder)
    assert not np.array_equal(netlist_weights(decoder, windows), decoder.reference(windows))


def some_windows(peer, beats, lanes, seed=0):
    rng = np.random.default_rng(seed)
    windows = rng.integers(0, 1 << peer.bits, (beats, lanes))
    windows[1], windows[2] = 0, (1 << peer.bits) - 1
    return windows


@each_peer
def test_latency_and_throughput_are_as_stated(peer):
    beats = 60
    decoder = peer.build(1)
    result = run_amaranth(decoder, stimulus(decoder, some_windows(peer, beats, 1)))
    assert result.passed, result.summary()
    assert result.latency == peer.latency
    assert result.cycles == peer.latency + beats
    assert result.weights == beats * peer.weights


@pytest.mark.parametrize(
    "peer", [peer for peer in PEERS if peer.name != CODEBOOK], ids=lambda peer: peer.name
)
@pytest.mark.parametrize("stalls", [(0.5, 0.1), (0.1, 0.5)])
def test_stalls_on_either_side_lose_nothing(peer, stalls):
    decoder = peer.build(3)
    windows = some_windows(peer, 100, 3, seed=1)
    result = run_amaranth(decoder, stimulus(decoder, windows, seed=2, stalls=stalls))
    assert result.passed, result.summary()


def test_a_wrong_weight_is_noticed():
    decoder = PEERS[0].build(2)
    given = stimulus(decoder, some_windows(PEERS[0], 20, 2))
    wrong = replace(given, expected=[*given.expected[:-1], given.expected[-1] ^ 2])
    assert run_amaranth(decoder, wrong).mismatches == 1


@each_peer
def test_peers_state_their_sizes(peer):
    decoder = peer.build(2)
    assert len(decoder.i.payload) == 2 * peer.bits
    assert len(decoder.o.payload) == 2 * peer.weights * decoder.width
    assert peer.latency == decoder.stages
    assert peer.name == CODEBOOK or 0 < peer.mse < 1
    assert math.isnan(peer.mse) or peer.mse > 4.0**-peer.rate
    assert peer.source
    assert peer.mse_note


@each_peer
def test_a_beat_has_lanes(peer):
    with pytest.raises(LiftError, match="lanes=0: a beat decodes at least one window"):
        peer.build(0)


@each_peer
def test_no_output_bit_is_wider_than_it_must_be(peer):
    decoder = peer.build(1)
    weights = decoder.reference(every_window(decoder))
    bits = max((~w if w < 0 else w).bit_length() for w in (int(weights.min()), int(weights.max())))
    assert decoder.width == bits + 1


def test_e8p_is_the_padded_ball_in_a_quarter_moved_lattice():
    sizes = 2 * magnitudes() + 1
    norms, counts = np.unique(np.square(sizes).sum(axis=1) // 4, return_counts=True)
    assert dict(zip(norms.tolist(), counts.tolist(), strict=True)) == {
        2: 1, 4: 8, 6: 28, 8: 64, 10: 126, 12: 29
    }  # fmt: skip
    last = sizes[np.square(sizes).sum(axis=1) == 48]
    assert ((last == 3).sum(axis=1) == 5).all()
    words = E8P.reference(np.arange(1 << 16))
    assert len(np.unique(words, axis=0)) == 1 << 16
    # in quarters: all entries are 1 or all are 3 modulo 4, and their sum is 0 modulo 8, give or
    # take what the eight moves by one sum to
    assert (np.ptp(words % 4, axis=1) == 0).all()
    move = 2 * (np.arange(1 << 16) >> 15)[:, None] - 1
    assert ((words - move).sum(axis=1) % 8 == 0).all()


def test_three_inst_rounds_as_float16_does():
    windows = np.arange(1 << 16)
    mixed = (windows * 89226354 + 64248484) & 0x8FFF8FFF ^ 0x3B603B60
    halves = [(mixed >> k & 0xFFFF).astype(np.uint16).view(np.float16) for k in (0, 16)]
    total = (halves[0] + halves[1]).astype(np.float64)
    exact = halves[0].astype(np.float64) + halves[1].astype(np.float64)
    assert np.array_equal(ThreeInst.reference(windows)[:, 0], total * 2**13)
    assert np.array_equal(ThreeInstExact.reference(windows)[:, 0], exact * 2**13)
    assert not np.array_equal(total, exact)


def test_hyb_reads_nine_bits_and_a_sign_of_its_hash():
    table = hyb_table()
    assert table.shape == (512, 2)
    assert (table & 1).all()
    assert (table[:, 0] > 0).all()
    window = 0xBEEF
    mixed = window * (window + 1)
    first, second = table[mixed // 64 % 512]
    assert Hyb.reference(np.array([window])).tolist() == [
        [-first if mixed // 2**15 % 2 else first, second]
    ]
    assert hyb.HybBlocks.reference is Hyb.reference
