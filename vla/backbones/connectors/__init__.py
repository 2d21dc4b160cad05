"""Connectors: what a tower saw, as tokens of a language model."""
