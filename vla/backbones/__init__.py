"""Vision towers, text encoders and the compositions of them that policies stand on."""

from .base import Backbone, PureModule, Tokens

__all__ = ["Backbone", "PureModule", "Tokens"]
