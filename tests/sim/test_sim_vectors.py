"""Streams to try a decoder on, and their files."""

import json

import numpy as np
import pytest

from algo.code import LiftCode
from algo.decode import decode_words
from algo.errors import LiftError
from algo.packing import unpack_bits
from sim.coverage import toggled, windows_seen
from sim.golden import write_golden
from sim.vectors import corner_vectors, every_codeword, random_vectors
from tests.cases import SHAPES, least_groups, random_code, random_words


@pytest.mark.parametrize("shape", SHAPES)
def test_corners_are_what_they_are_called(shape):
    code = random_code(*shape)
    groups = least_groups(code) + 7
    n = groups * code.lifted
    corners = corner_vectors(code, groups)
    bits = dict(zip(corners.names, unpack_bits(corners.words, n), strict=True))
    assert not bits["zeros"].any()
    assert bits["ones"].all()
    assert np.flatnonzero(bits["first bit alone"]).tolist() == [0]
    assert np.flatnonzero(bits["last bit alone"]).tolist() == [n - 1]
    assert (bits["walking one"] ^ bits["walking zero"]).all()
    assert (bits["alternating from 1"] ^ bits["alternating from 0"]).all()
    span = code.lifted + code.overlap
    for start in range(0, n - span + 1, code.lifted):
        assert bits["walking one"][start : start + span].sum() <= 1


@pytest.mark.parametrize("groups", [1, 7, 64, 100])
def test_every_codeword_is_every_codeword(groups):
    code = random_code(6, 2)
    everything = every_codeword(code, groups)
    assert windows_seen(code, groups, [everything.words]) == 64
    assert len(everything.words) == -(-64 // groups)
    short = everything.words[: 32 // groups]
    assert windows_seen(code, groups, [short]) == len(short) * groups


def test_codewords_that_are_too_many_are_not_listed():
    for code in (random_code(24, 10), random_code(2, 1, 6)):
        with pytest.raises(LiftError, match="cannot be tried on every codeword"):
            every_codeword(code, 20)


def test_windows_are_counted_for_the_weight_that_saw_fewest():
    code = random_code(12, 5, 9)
    words = random_words(code, 4, 3)
    bits = unpack_bits(words, 48)
    counts = [
        len({tuple(row[(g * 12 + start + np.arange(12)) % 48]) for row in bits for g in range(4)})
        for start in code.starts
    ]
    assert windows_seen(code, 4, [words[:1], words[1:]]) == min(counts)


def test_toggles_count_masked_bits_only():
    assert toggled([([0b0101, 0b1111], [0b0111, 0b0011])]) == 1
    assert toggled([([0b00], [0b11]), ([0b10], [0b11])]) == 1


def test_a_seed_repeats_streams_and_another_does_not():
    code = random_code(3, 2)
    first, same, other = (random_vectors(code, 9, 4, seed).words for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


@pytest.mark.parametrize("shape", [(16, 8, 0, 0), (12, 5, 9, 2), (24, 8, 0, 2), (1, 1, 0, 0)])
def test_golden_files_hold_the_same_as_each_other(tmp_path, shape):
    code = random_code(*shape)
    groups = least_groups(code) + 4
    vectors = corner_vectors(code, groups) + random_vectors(code, groups, 3, 5)
    paths = write_golden(tmp_path / "a", code, groups, vectors)
    assert sorted(p.name for p in paths) == sorted(p.name for p in (tmp_path / "a").iterdir())
    weights = decode_words(vectors.words, groups, code)

    def values(name):
        plain = (tmp_path / "a" / f"{name}.hex").read_text().split()
        memory = (tmp_path / "a" / f"{name}.mem").read_text().splitlines()
        data = [line for line in memory if line[0] not in "/@"]
        addresses = [(n, int(line[1:], 16)) for n, line in enumerate(memory) if line[0] == "@"]
        assert data == plain
        for at, address in addresses:  # each counts the values before it
            assert address == sum(line[0] not in "/@" for line in memory[:at])
        return [int(text, 16) for text in plain]

    assert values("words") == vectors.words.reshape(-1).tolist()
    got = np.array(values("weights"))
    assert (got - (got >> 11 << 12) == weights.reshape(-1)).all()
    grouped = np.array(values("groups"))[:, None] >> np.arange(code.lifted) & 1
    assert (
        grouped.reshape(len(weights), -1) == unpack_bits(vectors.words, groups * code.lifted)
    ).all()

    whole = json.loads((tmp_path / "a" / "vectors.json").read_text())
    assert LiftCode.from_definition(whole["code"]) == code
    assert [stream["name"] for stream in whole["streams"]] == list(vectors.names)
    assert [stream["weights"] for stream in whole["streams"]] == weights.tolist()
    assert [stream["words"] for stream in whole["streams"]] == vectors.words.tolist()

    again = write_golden(tmp_path / "b", code, groups, vectors)
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]
    with pytest.raises(LiftError, match=r"words\.hex is a file; give a directory"):
        write_golden(tmp_path / "a" / "words.hex", code, groups, vectors)
