"""`wayhand bench <name>`: the benchmarks, each a module of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ..vla.errors import ConfigError, did_you_mean

BENCHES = {
    "nav": ("bench_nav", "make the navigation benchmark from seeds and score the sanity baselines"),
    "nav-video": ("bench_nav_video", "what an agent did in episodes of that benchmark, as films"),
    "agent": ("bench_agent", "train a navigation agent and its blind twin from seeds, and measure both"),
    "latency": ("bench_latency", "what a policy loses by late answers, by the way its chunks are joined"),
    "habitat-parity": ("bench_habitat", "our houses in our simulator and in habitat-sim: same motion, same pictures"),
}

HELP = (
    "Usage: wayhand bench <name> [key=value …]\n\n"
    + "\n".join(f"  {name:<16}{summary}" for name, (_, summary) in BENCHES.items())
    + "\n\n`wayhand bench <name> help` shows the options of one.\n"
)


def main(overrides: list[str]) -> int:
    name = overrides[0] if overrides else "(nothing)"
    if name not in BENCHES:
        close = did_you_mean(name, BENCHES)
        raise ConfigError(
            "Unknown benchmark" + (f"; did you mean '{close}'?" if close else ""),
            got=name,
            exists=BENCHES,
            run="wayhand bench --help",
        )
    module = importlib.import_module(f"{__package__}.{BENCHES[name][0]}")
    if overrides[1:] == ["help"]:
        print(module.HELP.strip())
        return 0
    run: Callable[[list[str]], int] = module.main
    return run(overrides[1:])
