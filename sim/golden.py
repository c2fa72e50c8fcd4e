"""Golden vectors as files, for those who have a bench of their own."""

from pathlib import Path

import numpy as np

from algo.code import LiftCode
from algo.decode import decode_words
from algo.files import check_folder, write_json, write_text
from algo.packing import WORD, unpack_bits
from hw.output import ACC_WIDTH
from sim.vectors import Vectors


def write_golden(folder: Path, code: LiftCode, groups: int, vectors: Vectors) -> list[Path]:
    """Write words, groups and expected weights as ``.hex``, ``.mem`` and ``.json``, with a README.

    The same vectors give the same bytes.

    Raises:
        LiftError: `folder` is a file, or the words do not fit the code and stream length.
    """
    check_folder(folder)
    weights = decode_words(vectors.words, groups, code)
    bits = unpack_bits(vectors.words, groups * code.lifted)
    grouped = bits.reshape(-1, groups, code.lifted) @ (1 << np.arange(code.lifted))
    columns = {
        "words": (WORD, vectors.words.tolist()),
        "groups": (code.lifted, grouped.tolist()),
        "weights": (ACC_WIDTH, (weights.astype(int) & (1 << ACC_WIDTH) - 1).tolist()),
    }
    written = []
    for name, (width, rows) in columns.items():
        lines = [[f"{value:0{-(-width // 4)}x}" for value in row] for row in rows]
        plain, memory = folder / f"{name}.hex", folder / f"{name}.mem"
        write_text(plain, "".join(f"{value}\n" for row in lines for value in row))
        write_text(memory, _memory(lines, vectors.names))
        written += [plain, memory]
    whole, readme = folder / "vectors.json", folder / "README.md"
    write_json(
        whole,
        {
            "code": {"name": code.name, **code.definition(), "sha256": code.sha256},
            "groups": groups,
            "streams": [
                {"name": name, "words": words, "weights": expected}
                for name, words, expected in zip(
                    vectors.names, vectors.words.tolist(), weights.tolist(), strict=True
                )
            ],
        },
    )
    write_text(readme, _readme(code, groups, vectors))
    return [*written, whole, readme]


def _memory(rows: list[list[str]], names: tuple[str, ...]) -> str:
    """``$readmemh`` text: a comment and an address before every stream."""
    out, address = [], 0
    for name, row in zip(names, rows, strict=True):
        out += [f"// {name}", f"@{address:x}", *row]
        address += len(row)
    return "\n".join(out) + "\n"


def _readme(code: LiftCode, groups: int, vectors: Vectors) -> str:
    streams, words = vectors.words.shape
    lifted, group, width = code.lifted, code.group, ACC_WIDTH
    bits, weights = groups * lifted, groups * group
    span = lifted + code.overlap - 1
    kinds = "\n".join(f"{n}. {name}" for n, name in enumerate(vectors.names))
    return f"""# Golden vectors of {code.name}

{streams} streams of {groups} groups. Every stream is {bits} bits, stored in {words} words, and
decodes to {weights} signed integers. SHA-256 of the code: `{code.sha256}`.

| file | one line is | lines | width |
|---|---|---:|---:|
| `words.hex`, `words.mem` | a word of packed bits | {streams * words} | {WORD} |
| `groups.hex`, `groups.mem` | the {lifted} bits of a group | {streams * groups} | {lifted} |
| `weights.hex`, `weights.mem` | an expected weight | {streams * weights} | {width} |

- `.hex` files hold hexadecimal digits alone, a value a line, stream after stream.
- `.mem` files hold the same values for Verilog's `$readmemh`, with a comment and an address before
  every stream:
  `reg [{width - 1}:0] m [0:{streams * weights - 1}]; initial $readmemh("weights.mem", m);`
- `vectors.json` holds the code (taps included) and for every stream its name, words and weights.

## Format

- Bit `n` of a stream is bit `n mod 32` of its word `n div 32`, the lowest bit being bit 0. Bits of
  a stream's last word after its last bit are zero. Every stream begins with a word of its own.
- Group `g` is bits `{lifted}g` to `{lifted}g + {lifted - 1}` of its stream, the first in the
  lowest bit of the value.
- A stored 1 is the sign +1, a 0 is -1.
- Weights are two's complement, {width} bits, in the order of the stream: weight `i` of group `g`
  is number `{group}g + i` of its stream. It stands for the real number
  `weight * 2^-{code.exponent}`, times the row's scale.
- `weight = sum over j of taps[i][j] * sign of bit ({lifted}g + j) mod {bits}`, j from 0 to {span}:
  the last windows wrap round to the stream's first bits.{_parities(code)}

## Streams

{kinds}
"""


def _parities(code: LiftCode) -> str:
    if not code.parities:
        return ""
    return (
        f" The last {len(code.parities)} taps of a row\n  belong to the parities: each is times "
        "the product of the signs of the window bits that its mask\n  in `parities` names, counted "
        "from the weight's own first bit, `shifts[0] + ... + shifts[i-1]`."
    )
