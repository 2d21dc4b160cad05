"""Vision towers, text encoders and the compositions of them that policies stand on."""

from .base import Backbone, Tokens

__all__ = ["Backbone", "Tokens"]
