"""`wayhand data`: look at, check, mend, combine, part and export datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..datasets import combine
from ..datasets.check import Report, validate
from ..datasets.formats.mcap import export_episode
from ..datasets.layout import Layout
from ..datasets.page import page, spread
from ..datasets.repair import repair
from ..datasets.store import Dataset
from ..vla.errors import ConfigError, did_you_mean
from .corrections import correct

HELP = """\
Usage: wayhand data <command> PATH [key=value …]

  info PATH                      what a dataset holds, with exact statistics     [images=true]
  view PATH                      one HTML page: pictures, actions, instructions  [out=PATH.html episodes=8 frames=8]
  hash PATH                      the content hash of all committed episodes      [verify=true]
  validate PATH                  check every byte; names file, offset, episode
  repair PATH                    undo flipped bits, remove what interrupted writes left
  merge PATH [PATH …] out=NEW    all episodes in order, also to re-code one      [codec= chunk_frames= skip_damaged=]
  corrections PATH out=NEW       what a human did in runs of `wayhand deploy … takeover= record=PATH`, to learn from
  split PATH out=FOLDER          two or more datasets of one                     [fraction=0.9 seed=… | by=task]
  export PATH out=FILE.mcap      one episode for Foxglove                        [episode=0]

Examples:
  wayhand data info runs/pick
  wayhand data view runs/pick out=pick.html
  wayhand data merge runs/pick runs/place out=runs/both
  wayhand data merge runs/pick out=runs/small codec=zstd chunk_frames=8
  wayhand data split runs/pick out=runs/parts fraction=0.9 seed=0
  wayhand data corrections runs/pick-runs out=runs/corrections   # then: wayhand train data=[runs/pick,runs/corrections]

`validate` and `repair` end with exit code 1 where damage is left.
"""


def main(overrides: list[str]) -> int:
    if not overrides or overrides[0] not in COMMANDS:
        name = overrides[0] if overrides else "(nothing)"
        close = did_you_mean(name, COMMANDS)
        raise ConfigError(
            "Unknown data command" + (f"; did you mean '{close}'?" if close else ""),
            got=name,
            exists=COMMANDS,
            run="wayhand data --help",
        )
    command, defaults = COMMANDS[overrides[0]]
    paths = [Path(a) for a in overrides[1:] if "=" not in a]
    options = dict(defaults)
    for name, _, value in (a.partition("=") for a in overrides[1:] if "=" in a):
        if name not in options:
            close = did_you_mean(name, options)
            raise ConfigError(
                f"'data {overrides[0]}' has no option '{name}'" + (f"; did you mean '{close}'?" if close else ""),
                exists=options,
            )
        options[name] = value
    if not paths or (len(paths) > 1 and overrides[0] != "merge"):
        raise ConfigError(
            f"'data {overrides[0]}' needs the path of a dataset",
            got=" ".join(map(str, paths)),
            run="wayhand data --help",
        )
    return command(paths, options)


def info(paths: list[Path], options: dict[str, str]) -> int:
    console, dataset = Console(), Dataset(paths[0])
    spec, layout = dataset.spec, dataset.layout
    size = sum(f.stat().st_size for f in dataset.path.rglob("*") if f.is_file())
    known = [s for s in dataset.successes if s is not None]
    lengths = np.diff([0, *dataset.episode_ends.tolist()])
    facts = {
        "embodiment": f"{spec.embodiment}, {1 / spec.control_dt:g} Hz",
        "episodes": f"{len(dataset):,}" + (f", {lengths.min()} to {lengths.max()} steps" if len(dataset) else ""),
        "frames": f"{dataset.frames:,} ({dataset.frames * spec.control_dt / 60:.1f} min)",
        "successful": f"{np.mean(known):.1%} of {len(known)}" if known else "unknown",
        "size": f"{_bytes(size)}" + (f", {size / dataset.frames:,.0f} bytes per step" if dataset.frames else ""),
        "codec": f"{layout.codec}, {layout.chunk_frames} frame{'s' * (layout.chunk_frames > 1)} per chunk",
        "hash": dataset.hash(),
    }
    table = Table(title=str(dataset.path), title_justify="left", show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        table.add_row(name, escape(value))
    console.print(table, "")
    common = Table("instruction", "episodes", box=None, pad_edge=False)
    for text, count in Counter(dataset.instructions).most_common(10):
        common.add_row(escape(text), str(count))
    if len(dataset):
        console.print(common, "")
        console.print(_statistics(dataset, _truth(options["images"])))
    return 0


def view(paths: list[Path], options: dict[str, str]) -> int:
    dataset = Dataset(paths[0])
    chosen = spread(len(dataset), _number("episodes", options["episodes"], 1))
    out = Path(options["out"] or f"{paths[0]}.html")
    out.write_text(page(dataset, episodes=chosen, frames=_number("frames", options["frames"], 1)), encoding="utf-8")
    Console().print(
        f"{len(chosen)} of {len(dataset)} episodes in [bold]{escape(str(out))}[/] ({_bytes(out.stat().st_size)})"
    )
    return 0


def hash_(paths: list[Path], options: dict[str, str]) -> int:
    print(Dataset(paths[0]).hash(verify=_truth(options["verify"])))
    return 0


def validate_(paths: list[Path], options: dict[str, str]) -> int:
    return _tell(paths[0], validate(paths[0]))


def repair_(paths: list[Path], options: dict[str, str]) -> int:
    done, report = repair(paths[0])
    for line in done or ["nothing to do"]:
        Console().print(escape(line), soft_wrap=True)
    return _tell(paths[0], report)


def merge(paths: list[Path], options: dict[str, str]) -> int:
    sources = [Dataset(p) for p in paths]
    skip = [sorted(validate(p).damaged) for p in paths] if _truth(options["skip_damaged"]) else None
    changes: dict[str, Any] = {"codec": options["codec"]} if options["codec"] else {}
    if options["chunk_frames"]:
        changes |= {"chunk_frames": _number("chunk_frames", options["chunk_frames"], 1), "shard_frames": 0}
    layout = Layout(**{**sources[0].layout.to_dict(), **changes})
    with _bar(sum(map(len, sources)), "episodes") as progress:
        n = combine.merge(sources, _out(options), layout=layout, skip=skip, progress=progress)
    left = sum(map(len, sources)) - n
    Console().print(f"{n} episodes in {escape(options['out'])}" + (f"; {left} damaged ones left out" if left else ""))
    return 0


def split(paths: list[Path], options: dict[str, str]) -> int:
    dataset = Dataset(paths[0])
    if options["by"] not in ("", "task"):
        raise ConfigError("Datasets are split by fraction or by task", got=f"by={options['by']}", exists=["task"])
    if options["by"]:
        parts = combine.by_task(dataset)
    else:
        seed = _number("seed", options["seed"], 0) if options["seed"] else None
        try:
            parts = combine.by_fraction(len(dataset), float(options["fraction"]), seed)
        except ValueError as error:
            raise ConfigError("The fraction is not a number", got=options["fraction"]) from error
    with _bar(len(dataset), "episodes") as progress:
        combine.split(dataset, _out(options), parts, progress=progress)
    for name, episodes in parts.items():
        Console().print(escape(f"{Path(options['out']) / name}: {len(episodes)} episodes"))
    return 0


def export(paths: list[Path], options: dict[str, str]) -> int:
    out = _out(options)
    if out.suffix != ".mcap":
        raise ConfigError("Episodes are exported as MCAP", expected="out=FILE.mcap", got=str(out))
    messages = export_episode(Dataset(paths[0]).episode(_number("episode", options["episode"], 0)), out)
    Console().print(f"{messages} messages in {escape(str(out))} ({_bytes(out.stat().st_size)})", soft_wrap=True)
    return 0


def corrections(paths: list[Path], options: dict[str, str]) -> int:
    found = correct(Dataset(paths[0]), _out(options))
    Console().print(
        escape(
            f"{found.corrections} corrections, {found.rows} steps, from {found.intervened} of {found.runs} runs "
            f"in {options['out']}"
        ),
        soft_wrap=True,
    )
    return 0


Command = Callable[[list[Path], dict[str, str]], int]
COMMANDS: dict[str, tuple[Command, dict[str, str]]] = {
    "info": (info, {"images": "false"}),
    "view": (view, {"out": "", "episodes": "8", "frames": "8"}),
    "hash": (hash_, {"verify": "false"}),
    "validate": (validate_, {}),
    "repair": (repair_, {}),
    "merge": (merge, {"out": "", "codec": "", "chunk_frames": "", "skip_damaged": "false"}),
    "split": (split, {"out": "", "fraction": "0.9", "seed": "", "by": ""}),
    "corrections": (corrections, {"out": ""}),
    "export": (export, {"out": "", "episode": "0"}),
}


def _statistics(dataset: Dataset, images: bool) -> Table:
    table = Table("column", "element", *("mean", "std", "min", "q01", "q99", "max"), box=None, pad_edge=False)
    names: dict[str, Sequence[str]] = {
        "observation.state": [f"{e.name} [{e.unit}]" for e in dataset.spec.state],
        "action": [f"{e.name} [{e.unit}]" for e in dataset.spec.action_elements],
    }
    if images:
        names |= {f"observation.images.{c.name}": ("red", "green", "blue") for c in dataset.spec.cameras}
    for path, elements in names.items():
        if not elements:
            continue
        s = dataset.stats[path]
        for i, element in enumerate(elements):
            values = (s.mean[i], s.std[i], s.min[i], s.q01[i], s.q99[i], s.max[i])
            table.add_row(
                "" if i else path.removeprefix("observation."), escape(element), *(f"{v:.4g}" for v in values)
            )
    return table


def _tell(path: Path, report: Report) -> int:
    console = Console()
    for note in report.leftovers:
        console.print(escape(f"leftover: {note}"), style="yellow", soft_wrap=True)
    for problem in report.problems:
        console.print(escape(str(problem)), style="red", soft_wrap=True)
    if report.ok:
        console.print(
            f"{report.episodes} episodes, {report.frames:,} frames: every byte is what was written", style="green"
        )
    else:
        console.print(f"{len(report.damaged)} of {report.episodes} episodes are damaged", style="bold red")
    if report.leftovers or not report.ok:
        console.print(escape(f"run: wayhand data repair {path}"))
    if report.damaged and len(report.damaged) < report.episodes:
        console.print(escape(f"or:  wayhand data merge {path} out=NEW skip_damaged=true"))
    return 0 if report.ok else 1


@contextmanager
def _bar(total: int, what: str) -> Iterator[Callable[[], object]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _out(options: dict[str, str]) -> Path:
    if not options["out"]:
        raise ConfigError("Where to?", expected="out=PATH", run="wayhand data --help")
    return Path(options["out"])


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError("This option is true or false", got=text)
    return text.lower() == "true"


def _number(name: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"'{name}' must be a whole number", expected=f"at least {least}", got=text)
    return int(text)


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"
