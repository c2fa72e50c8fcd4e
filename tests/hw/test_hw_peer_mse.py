# amaranth: UnusedElaboratable=no

import numpy as np
import pytest

from algo.free_table import window_indices
from algo.uniform import midrise_mse
from benchmarks.peer_mse import best_scale, e8p, grid, plan, trellis_table
from hw.peers import PEERS
from hw.peers.e8p import E8P
from hw.peers.hyb import Hyb
from hw.peers.mad import Mad

SCALE = 0.24


def test_e8p_is_measured_with_its_nearest_codewords():
    weights, seed = 512, 7
    x = np.random.default_rng([seed, 1]).standard_normal((weights // 8, 8))
    codewords = E8P.reference(np.arange(1 << 16)) * SCALE
    nearest = [np.square(codewords - vector).sum(axis=1).min() / 8 for vector in x]
    mse, error = e8p(SCALE, weights, seed)
    assert mse == pytest.approx(np.mean(nearest), rel=1e-12)
    assert error == pytest.approx(np.std(nearest, ddof=1) / 8, rel=1e-9)


def test_grids_are_measured_with_their_nearest_levels():
    x = np.random.default_rng([3, 1]).standard_normal(1000)
    levels = np.array([-3, -1, 1, 3]) * 0.5
    nearest = np.square(x[:, None] - levels).min(axis=1)
    assert grid(np.array([1, -1, -3, 3]))(0.5, 1000, 3)[0] == pytest.approx(
        nearest.mean(), rel=1e-12
    )


def test_the_best_scale_is_where_the_error_is_least():
    def measure(scale, weights, seed):
        return midrise_mse(2, scale), 0.0

    assert best_scale(measure, 1.02) == pytest.approx(0.9957, abs=1e-3)  # Max, 1960


@pytest.mark.parametrize("decoder", [Mad, Hyb])
def test_windows_of_the_search_hold_what_the_decoder_gives(decoder):
    values = decoder.reference(np.arange(1 << 16))
    windows, table = trellis_table(values)
    bits = np.random.default_rng(0).integers(0, 2, (3, 80)).astype(np.uint8)
    rows = np.arange(40) % windows.group
    found = table[rows, window_indices(bits, windows)].reshape(3, -1, decoder.weights)
    # all 16-bit windows that are one step apart, wherever the first one starts
    step = 2 * decoder.weights
    starts = np.arange(0, 80, step)[:, None] + (2 if decoder is Hyb else 0) + np.arange(16)
    shared = bits[:, starts % 80].astype(np.int64) @ (1 << np.arange(16))
    assert np.array_equal(found, decoder.reference(shared.ravel()).reshape(3, -1, decoder.weights))


@pytest.mark.parametrize(
    "peer", [peer for peer in PEERS if peer.bits < 16], ids=lambda peer: peer.name
)
def test_what_grids_are_said_to_reach_is_what_is_measured(peer):
    planned = plan(peer)
    mse, _ = planned.measure(best_scale(planned.measure, planned.middle), planned.weights, 1)
    assert round(mse, 4) == peer.mse
