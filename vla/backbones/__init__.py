"""Vision towers, language models, connectors and the compositions of them that policies stand on."""

from .base import (
    VLM,
    Backbone,
    Between,
    Connector,
    KeysValues,
    LanguageModel,
    PureModule,
    Sequenced,
    Tokens,
    VisionTower,
)
from .quiet import hush

hush()

__all__ = [
    "VLM",
    "Backbone",
    "Between",
    "Connector",
    "KeysValues",
    "LanguageModel",
    "PureModule",
    "Sequenced",
    "Tokens",
    "VisionTower",
]
