"""What the loss modules with a temperature share: their settings."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES


class TemperatureLoss(nn.Module):
    """Holds the keyword arguments of a loss function. A tensor `temperature` (an `nn.Parameter`, say) is trained;
    None stands for the default of the loss."""

    default_temperature = 0.07

    def __init__(
        self,
        *,
        temperature: float | Tensor | None = None,
        reduction: str = "mean",
        workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.temperature = self.default_temperature if temperature is None else temperature
        self.reduction = reduction
        self.workspace_bytes = workspace_bytes
        self.backend = backend

    def options(self) -> dict[str, Any]:
        """The keyword arguments for the loss function."""
        return {
            "temperature": self.temperature,
            "reduction": self.reduction,
            "workspace_bytes": self.workspace_bytes,
            "backend": self.backend,
        }
