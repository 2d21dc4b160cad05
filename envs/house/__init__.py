"""Procedural houses: one description, and every world that is written from it."""
