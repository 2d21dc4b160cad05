"""`wayhand list`: the environments, policies, robots, parts of backbones and commands there are."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..vla.config import options
from ..vla.errors import ConfigError, did_you_mean
from .cli import COMMANDS
from .compose import CONF

HELP = """\
Usage: wayhand list [envs | policies | robots | vlms | towers | connectors | languages | commands]

Examples:
  wayhand list            # everything
  wayhand list envs       # what may follow env=
"""
GROUPS = {
    "envs": "env",
    "policies": "policy",
    "robots": "robot",
    "vlms": "vlm",
    "towers": "vision",
    "connectors": "connector",
    "languages": "language",
}


def main(overrides: list[str]) -> int:
    kinds = (*GROUPS, "commands")
    for kind in overrides:
        if kind not in kinds:
            close = did_you_mean(kind, kinds)
            raise ConfigError(
                f"There is no list of '{kind}'" + (f"; did you mean '{close}'?" if close else ""), exists=kinds
            )
    console = Console()
    for kind in overrides or kinds:
        table = Table(title=kind, title_justify="left", box=None, pad_edge=False, show_header=False)
        for name, what in rows(kind):
            table.add_row(name, what, style=None)
        console.print(table, "")
    return 0


def rows(kind: str) -> list[tuple[str, str]]:
    """Name, as it is written on the command line, and description of each thing of a kind."""
    if kind == "commands":
        return [(f"wayhand {name}", summary) for name, summary in COMMANDS.items()]
    group = GROUPS[kind]
    return [(f"{group}={option}", describe(CONF / group / f"{option}.yaml")) for option in options(CONF, group)]


def describe(path: Path) -> str:
    """The comment that opens a configuration file, or the class it builds."""
    text = path.read_text(encoding="utf-8")
    if text.startswith("#"):
        return text.partition("\n")[0].lstrip("# ")
    target = re.search(r"^_target_:\s*(\S+)", text, re.MULTILINE)
    return target.group(1) if target else ""
