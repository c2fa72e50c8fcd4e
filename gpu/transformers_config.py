"""The quantization config that transformers holds of a checkpoint."""

import copy
from typing import Any

from transformers.utils.quantization_config import QuantizationConfigMixin

from algo.errors import LiftError
from algo.serving_config import METHOD, SECTION, ServingConfig


class LiftquantConfig(QuantizationConfigMixin):
    """What ``config.quantization_config`` is, and what `from_pretrained` is given for other digits.

    ``from_pretrained(folder, quantization_config=LiftquantConfig(digits=2))`` computes with two
    int8 digits per activation (a15) whatever the checkpoint says; the rest is the checkpoint's.

    Args:
        digits: 1 (a8) or 2 (a15); by default what the checkpoint says.
        section: the entries of config.json's section, which transformers passes.

    Raises:
        LiftError: digits are others, or the section is damaged or of a newer version.
    """

    def __init__(self, digits: int | None = None, **section: Any) -> None:
        if digits not in (None, 1, 2):
            raise LiftError(f"digits={digits!r} is neither 1 (a8) nor 2 (a15)")
        self.quant_method = METHOD  # type: ignore[assignment]  # the enum is closed
        self.digits = digits
        self._section = section
        if section:
            self.digits = self.serving().digits

    def serving(self) -> ServingConfig:
        """The section, checked, with these digits.

        Raises:
            LiftError: it is damaged, or there is none.
        """
        if not self._section:
            raise LiftError(
                "the model is no liftquant checkpoint, and is not quantised while it loads: "
                "`liftquant quantize MODEL FOLDER`, then from_pretrained(FOLDER)"
            )
        return ServingConfig.parse(self.to_dict(), SECTION)

    def get_loading_attributes(self) -> dict[str, Any]:
        """What a config given to `from_pretrained` overrides of the checkpoint's."""
        return {} if self.digits is None else {"digits": self.digits}

    def to_dict(self) -> dict[str, Any]:
        """JSON values: the section of config.json."""
        digits = {} if self.digits is None else {"digits": self.digits}
        return copy.deepcopy({**self._section, "quant_method": METHOD, **digits})

    def __repr__(self) -> str:
        layers = len(self._section.get("layers", ()))
        return f"LiftquantConfig(digits={self.digits}, {layers} layers)"
