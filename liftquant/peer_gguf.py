"""llama.cpp's quantiser, K- and i-quants, with an importance matrix; by llama-cpp-python.

It is called as its users call it: `llama_model_quantize` chooses a type for every tensor of a
mixture such as Q2_K. K- and i-quants need rows of whole blocks of 256 weights; where a model's rows
are no multiple of that, llama.cpp falls back to larger types (IQ4_NL, Q4_0, ...), and what that
takes is counted. To show the types themselves on such a model there is a second form of each
setting, "padded": rows filled up with zeros, and the padding not counted. llama.cpp does not do
that; it favours the peer.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from algo.errors import LiftError
from algo.source import load_config
from liftquant.gguf_layers import SUPER_BLOCK, gguf_names, read_layers, write_layers
from liftquant.importance import importance_file
from liftquant.peer import Job, Outcome, Setting, Shapes

PACKAGE = "llama-cpp-python"
CALIBRATED = True

# bits that a mixture takes on a Llama's blocks, about; `llama_ftype` numbers are the C API's
_MIXTURES = {
    "IQ1_M": (31, 1.9), "IQ2_XXS": (19, 2.2), "IQ2_XS": (20, 2.4), "IQ2_S": (28, 2.5),
    "IQ2_M": (29, 2.7), "Q2_K_S": (21, 2.75), "Q2_K": (10, 3.0), "IQ3_XXS": (23, 3.1),
    "IQ3_XS": (22, 3.3), "Q3_K_S": (11, 3.45), "IQ3_S": (26, 3.46), "IQ3_M": (27, 3.65),
    "Q3_K_M": (12, 3.9), "IQ4_XS": (30, 4.26), "Q4_0": (2, 4.5), "IQ4_NL": (25, 4.52),
    "Q4_K_S": (14, 4.6),
}  # fmt: skip
_FALLBACK = 4.5  # bits of IQ4_NL and Q4_0, what most types fall back to


def settings(shapes: Shapes) -> list[Setting]:
    """Mixtures as llama.cpp makes them; padded ones too where it would have to fall back."""
    total = sum(rows * columns for rows, columns in shapes.values())
    narrow = sum(r * c for r, c in shapes.values() if c % SUPER_BLOCK) / total
    found = []
    for name, (_, bits) in _MIXTURES.items():
        kind = "i" if name.startswith("IQ") else "K"
        as_is = bits if bits >= _FALLBACK else narrow * _FALLBACK + (1 - narrow) * bits
        found.append(Setting(name, as_is, {"type": name, "pad": False}, kind))
        if narrow and bits < _FALLBACK:
            padded = {"type": name, "pad": True}
            found.append(Setting(f"{name} padded", bits, padded, f"{kind} padded"))
    return found


def _call_quantiser(source: Path, target: Path, mixture: str, importance: dict[str, Any]) -> None:
    """`llama_model_quantize` from file to file."""
    import llama_cpp

    entries = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()  # the last: name NULL
    for entry, (name, values) in zip(entries, importance.items(), strict=False):
        entry.name = name.encode()
        entry.data = ctypes.cast(values.data_ptr(), ctypes.POINTER(ctypes.c_float))
        entry.size = len(values)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = _MIXTURES[mixture][0]
    parameters.nthread = torch.get_num_threads()
    parameters.imatrix = entries
    llama_cpp.llama_backend_init()
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    if status != 0:
        raise LiftError(f"llama.cpp could not quantise to {mixture} (status {status})")


def _padded(values: torch.Tensor, pad: bool) -> torch.Tensor:
    """Importance of a row's inputs; padding weighs what an average input does."""
    if not pad:
        return values
    extra = -len(values) % SUPER_BLOCK
    return torch.cat([values, values.mean().expand(extra)]).contiguous()


def quantise(job: Job, options: Mapping[str, Any]) -> Outcome:
    """Quantise the layers from GGUF to GGUF, and decode what came out."""
    mixture, pad = options["type"], options["pad"]
    linears = list(job.linears)
    names = gguf_names(linears, load_config(job.model).num_hidden_layers)
    matters = importance_file(
        job.scratch / "importance.safetensors", str(job.model), linears, job.calibration
    )
    source = job.scratch / ("padded.gguf" if pad else "layers.gguf")
    if not source.exists():
        write_layers(source, job.model, linears, pad)
    target = job.scratch / f"{mixture}.out.gguf"
    try:
        importance = {names[name]: _padded(matters[name], pad) for name in linears}
        _call_quantiser(source, target, mixture, importance)
        made = read_layers(target, names, {name: len(matters[name]) for name in linears})
    finally:
        target.unlink(missing_ok=True)
    note = ", ".join(f"{kind} {count}" for kind, count in made.types.items())
    return Outcome(made.weights, made.stored_bytes, note)
