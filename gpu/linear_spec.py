"""What a `LiftLinear` is besides its tensors, as one line of JSON that a graph can carry."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from algo.activations import Digits
from algo.code import LiftCode
from algo.errors import LiftError
from algo.matrix import AXES, Axis, PackedMatrix, word_shape
from algo.whitening import Whitening

Form = Literal["cpu", "kernels"]
FORMS: tuple[Form, ...] = get_args(Form)
_VERSION = 1  # of what tensors there are and how they are laid out


@dataclass(frozen=True)
class LinearSpec:
    """One or several matrices of one input, without their tensors.

    Attributes:
        axis: direction of the streams.
        inputs: columns of every matrix.
        digits: 1 (a8) or 2 (a15) int8 digits per activation.
        codes: of each matrix.
        heights: rows of each matrix.
        kept: the rows ``(start, stop)`` of each matrix that are outputs.
        factors: sizes of the whitening's left and right factor.
        scaled: whether the whitening has input scales.
        form: for what the tensors are laid out: the CPU's kernels, or those of a GPU.
    """

    axis: Axis
    inputs: int
    digits: Digits
    codes: tuple[LiftCode, ...]
    heights: tuple[int, ...]
    kept: tuple[tuple[int, int], ...]
    factors: tuple[int, int]
    scaled: bool
    form: Form

    @property
    def outputs(self) -> tuple[int, ...]:
        """Outputs of each matrix."""
        return tuple(stop - start for start, stop in self.kept)

    @property
    def linear(self) -> bool:
        """Whether no code has parities, so that the matrices can be one one-bit matrix."""
        return not any(code.parities for code in self.codes)

    @property
    def rate(self) -> float:
        """Bits per weight, D/d, over all outputs."""
        pairs = zip(self.codes, self.outputs, strict=True)
        return sum(code.rate * outputs for code, outputs in pairs) / sum(self.outputs)

    def shape(self, i: int) -> tuple[int, int]:
        """Of matrix `i`."""
        return self.heights[i], self.inputs

    def columns(self) -> list[slice] | None:
        """Where the outputs are among all rows, one after the other; None if they are all rows."""
        if self.outputs == self.heights:
            return None
        found, first = [], 0
        for height, (start, stop) in zip(self.heights, self.kept, strict=True):
            found.append(slice(first + start, first + stop))
            first += height
        return found

    def laid_out_for(self, form: Form) -> "LinearSpec":
        """The same layer in another form."""
        return replace(self, form=form)

    def as_json(self) -> str:
        """Canonical: equal specs have equal text."""
        codes = list(dict.fromkeys(self.codes))
        fields = {
            "version": _VERSION,
            "axis": self.axis,
            "inputs": self.inputs,
            "digits": self.digits,
            "codes": [code.definition() for code in codes],
            "layers": [
                [codes.index(code), height, *kept]
                for code, height, kept in zip(self.codes, self.heights, self.kept, strict=True)
            ],
            "factors": list(self.factors),
            "scaled": self.scaled,
            "form": self.form,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def linear_spec(
    matrices: Sequence[PackedMatrix],
    whitening: Whitening,
    digits: Digits,
    rows: Sequence[slice | range] | None,
    form: Form,
) -> LinearSpec:
    """The spec of matrices that `gpu.stack.check_layers` has passed.

    Args:
        rows: which rows of each matrix are outputs; all by default.

    Raises:
        LiftError: `digits` is neither 1 nor 2, the whitening is of another size, or rows are none,
            not neighbours, or not all there.
    """
    if digits not in (1, 2):
        raise LiftError(f"digits={digits} is neither 1 (a8) nor 2 (a15)")
    first = matrices[0]
    if whitening.size != first.shape[1]:
        raise LiftError(
            f"a whitening of {whitening.size} inputs for layers of {first.shape[1]}; give the one "
            "the layers were quantised in"
        )
    if rows is not None and len(rows) != len(matrices):
        raise LiftError(f"rows of {len(rows)} matrices for {len(matrices)}; give some of each")
    wanted = [slice(None)] * len(matrices) if rows is None else rows
    return LinearSpec(
        axis=first.axis,
        inputs=first.shape[1],
        digits=digits,
        codes=tuple(m.code for m in matrices),
        heights=tuple(m.shape[0] for m in matrices),
        kept=tuple(_kept(m.shape[0], r) for m, r in zip(matrices, wanted, strict=True)),
        factors=(len(whitening.left), len(whitening.right)),
        scaled=whitening.pre is not None,
        form=form,
    )


def _kept(height: int, rows: slice | range) -> tuple[int, int]:
    step = 1 if rows.step is None else rows.step
    start = 0 if rows.start is None else rows.start
    stop = height if rows.stop is None else rows.stop
    if step != 1 or not 0 <= start < stop <= height:
        raise LiftError(
            f"{rows} of a matrix of {height} rows; give a start and a stop within it, step 1"
        )
    return start, stop


def parsed(text: str) -> LinearSpec:
    """The spec that `LinearSpec.as_json` wrote.

    Raises:
        LiftError: it is damaged, or of another version.
    """
    try:
        fields = json.loads(text)
        version = fields["version"]
        if version != _VERSION:
            raise LiftError(
                f"a layer was exported in version {version} of its layout, this is {_VERSION}; "
                "export it again"
            )
        return _checked(fields)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise LiftError(
            f"the spec of liftquant::linear is damaged ({error!r}); export the layer again"
        ) from None


def _checked(fields: dict[str, Any]) -> LinearSpec:
    codes = [LiftCode.from_definition(d, "spec of liftquant::linear") for d in fields["codes"]]
    layers = [[int(value) for value in layer] for layer in fields["layers"]]
    left, right = (int(size) for size in fields["factors"])
    spec = LinearSpec(
        axis=fields["axis"],
        inputs=int(fields["inputs"]),
        digits=fields["digits"],
        codes=tuple(codes[code] for code, *_ in layers),
        heights=tuple(height for _, height, *_ in layers),
        kept=tuple((start, stop) for _, _, start, stop in layers),
        factors=(left, right),
        scaled=bool(fields["scaled"]),
        form=fields["form"],
    )
    if spec.axis not in AXES or spec.form not in FORMS or spec.digits not in (1, 2) or not layers:
        raise ValueError(f"axis {spec.axis}, form {spec.form}, digits {spec.digits}")
    if left < 1 or right < 1 or left * right != spec.inputs:
        raise ValueError(f"factors {left} and {right} for {spec.inputs} inputs")
    for i, (start, stop) in enumerate(spec.kept):
        word_shape(spec.shape(i), spec.codes[i], spec.axis)  # for its check
        _kept(spec.heights[i], range(start, stop))
    return spec
