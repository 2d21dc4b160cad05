"""Towers that look with the instruction in mind."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from ..base import VisionTower


class ConditionedTower(VisionTower):
    """A tower whose features an instruction may modulate; `forward` alone looks without one.

    Attributes:
        condition: length of the instruction's vector.
    """

    condition: int

    @abstractmethod
    def conditioned(self, images: Tensor, condition: Tensor) -> Tensor:
        """uint8 [B h w 3] and float [B condition] → float [B N D]."""
