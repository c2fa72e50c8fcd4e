"""A model as it is served, quantised or not: loaded by transformers, to generate text with."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algo.errors import LiftError

if TYPE_CHECKING:
    import torch

    from algo.activations import Digits

DTYPES = ("float32", "bfloat16")
INTEGERS: "dict[str, Digits]" = {"a8": 1, "a15": 2}


def default_dtype() -> str:
    """bfloat16 where this processor multiplies it faster than float32."""
    from algo.precision import has_short_products

    return "bfloat16" if has_short_products() else "float32"


def check_dtype(name: str) -> "torch.dtype":
    """The dtype of ``--dtype``.

    Raises:
        LiftError: it is none of `DTYPES`.
    """
    import torch

    if name not in DTYPES:
        raise LiftError(f"--dtype {name} is neither float32 nor bfloat16")
    found: torch.dtype = getattr(torch, name)
    return found


def check_integers(name: str | None) -> "Digits | None":
    """Digits per activation of ``--integers``; None where it was not given.

    Raises:
        LiftError: it is none of `INTEGERS`.
    """
    if name is None:
        return None
    if name not in INTEGERS:
        raise LiftError(f"--integers {name} is neither a8 nor a15")
    return INTEGERS[name]


def set_threads(threads: int | None) -> None:
    """Compute on so many threads; None leaves it to torch, which takes all cores."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def check_named(model: str) -> None:
    """Raise LiftError for what is no path and cannot be a hub id; better before a long run."""
    there = Path(model).exists()
    if not there and (model.count("/") != 1 or model.startswith((".", "/", "~"))):
        raise LiftError(f"{model} does not exist (a file, a directory or a hub id was expected)")


def open_served(
    model: str, dtype: "torch.dtype", digits: "Digits | None" = None
) -> tuple[Any, Any]:
    """A model and its tokenizer, on the CPU.

    Args:
        model: a checkpoint, a copy of one by ``save_pretrained``, or an original: a directory or
            hub id, or the .gguf file of an original.
        dtype: of what is not quantised, and of the activations.
        digits: int8 digits per activation of quantised layers; None for what the checkpoint says.

    Raises:
        LiftError: there is no such model, it is damaged or unfinished, it has no tokenizer.
    """
    from algo.checkpoint import Checkpoint
    from algo.model import load_original, load_tokenizer
    from algo.serving_config import is_quantised
    from algo.source import fetch

    if Path(model).is_file():
        original, tokenizer = load_original(model)
        return original.to(dtype), tokenizer
    folder = Path(model) if Path(model).is_dir() else fetch(model)
    if is_checkpoint(folder):
        Checkpoint(folder).verify()  # says what is missing or was altered
    options = {}
    if digits is not None and is_quantised(folder):
        from gpu.transformers_config import LiftquantConfig

        options["quantization_config"] = LiftquantConfig(digits=digits)
    return _from_pretrained(folder, dtype, options), load_tokenizer(folder)


def is_checkpoint(folder: Path) -> bool:
    """Whether `quantize` or `tune` wrote into this directory, or is about to."""
    from algo.manifest import MANIFEST, UNFINISHED

    return (folder / MANIFEST).exists() or (folder / UNFINISHED).exists()


def served_integers(model: Any) -> str | None:
    """What the quantised layers of a loaded model compute in; None of an original."""
    config = getattr(model.config, "quantization_config", None)
    names: dict[Any, str] = {digits: name for name, digits in INTEGERS.items()}
    return names.get(getattr(config, "digits", None))


def _from_pretrained(folder: Path, dtype: "torch.dtype", options: dict[str, Any]) -> Any:
    """The model by transformers' own loader; every parameter has to be stored."""
    from transformers import AutoModelForCausalLM

    if not (folder / "config.json").is_file():
        raise LiftError(f"{folder} holds no config.json: not a Hugging Face model directory")
    with warnings.catch_warnings():
        # digits are given on purpose
        warnings.filterwarnings("ignore", "You passed `quantization_config`")
        try:
            found: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, trust_remote_code=False,
                output_loading_info=True, **options,
            )  # fmt: skip
        except Exception as error:  # whatever the loader raises, the files are what is at fault
            raise LiftError(f"{folder} cannot be loaded: {_first_line(error)}") from error
    loaded, told = found
    if told["missing_keys"]:
        raise LiftError(
            f"{folder}: the files hold no tensor {min(told['missing_keys'])}, which the model needs"
        )
    return loaded.eval()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def weight_bytes(model: Any) -> int:
    """Bytes of all parameters and buffers, those that share memory counted once."""
    held = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
    return sum(held.values())
