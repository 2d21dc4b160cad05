"""Tabletop manipulation in MuJoCo: an arm, coloured objects, and instructions that decide what to do."""

from .gl import select_backend

select_backend()
