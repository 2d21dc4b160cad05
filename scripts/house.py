"""`wayhand house`: look at, check and export procedural houses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from ..datasets.formats import connectivity
from ..envs.house import glb, map, mjcf, procthor
from ..envs.house.check import FAULTS, check, layout_hash
from ..envs.house.generate import SPLITS, generate
from ..envs.house.house import House
from ..envs.house.viewpoints import viewpoint_graph
from ..vla.errors import ConfigError, DataError, did_you_mean
from ..vla.evaluation.video import write_video
from .walk import FPS, walk

HELP = """\
Usage: wayhand house <command> [key=value …]

  show seed=7                    a furnished map, a walk-through film and the description of one house
                                 [out=house-7 split=train storeys=1|2 rooms=2-10 video=true pixels_per_metre=60]
  check houses=1000              generate houses and look for faults, with rates     [split=train first=0]
  export seed=7 out=FOLDER       JSON, MJCF, GLB with its stage config, Matterport connectivity
                                 [split=train storeys=1|2 rooms=2-10]

`show` and `export` also take house=FILE: a description that `show` wrote (.json) or ProcTHOR houses (.jsonl,
.jsonl.gz or .json; index=0 chooses one).

Examples:
  wayhand house show seed=7
  wayhand house show seed=3 storeys=2 rooms=7-10 out=runs/tall
  wayhand house check houses=1000
  wayhand house export seed=7 out=runs/house-7

`check` ends with exit code 1 where it finds a fault.
"""


def main(overrides: list[str]) -> int:
    if not overrides or overrides[0] not in COMMANDS:
        name = overrides[0] if overrides else "(nothing)"
        close = did_you_mean(name, COMMANDS)
        raise ConfigError(
            "Unknown house command" + (f"; did you mean '{close}'?" if close else ""),
            got=name,
            exists=COMMANDS,
            run="wayhand house --help",
        )
    command, defaults = COMMANDS[overrides[0]]
    options = dict(defaults)
    for name, equals, value in (a.partition("=") for a in overrides[1:]):
        if not equals or name not in options:
            close = did_you_mean(name, options)
            raise ConfigError(
                f"'house {overrides[0]}' has no option '{name}'" + (f"; did you mean '{close}'?" if close else ""),
                exists=options,
                run="wayhand house --help",
            )
        options[name] = value
    return command(options)


def show(options: dict[str, str]) -> int:
    house = _house(options)
    out = Path(options["out"] or f"house-{house.scan if options['house'] else house.seed}")
    out.mkdir(parents=True, exist_ok=True)
    console, written = Console(), list[str]()
    storeys = range(1 + max(r.storey for r in house.rooms))
    for storey in storeys:
        name = "map.png" if len(storeys) == 1 else f"map-{storey}.png"
        scale = _number("pixels_per_metre", options["pixels_per_metre"], 10)
        Image.fromarray(map.draw(house, storey=storey, pixels_per_metre=scale)).save(out / name)
        written.append(name)
    (out / "house.json").write_text(house.to_json(), encoding="utf-8")
    written.append("house.json")
    console.print(_facts(house))
    if _truth("video", options["video"]):
        frames, renderer = walk(house, lambda frames: track(frames, description="walking", transient=True))
        write_video(out / "walk.mp4", frames, FPS)
        written.append("walk.mp4")
        console.print(f"{len(frames)} frames drawn by {escape(renderer)}")
    console.print(f"{', '.join(written)} in [bold]{escape(str(out))}[/]", soft_wrap=True)
    return 0


def check_(options: dict[str, str]) -> int:
    count, first = _number("houses", options["houses"], 1), _number("first", options["first"], 0)
    split = options["split"]
    faults, examples = Counter[str](), dict[str, str]()
    rooms, items, layouts = Counter[int](), list[int](), Counter[str]()
    sound = 0
    for seed in track(range(first, first + count), description="houses", transient=True):
        house = generate(seed, split)
        found = check(house)
        sound += not found
        for fault in found:
            examples.setdefault(fault.partition(":")[0], f"seed {seed}: {fault}")
        faults.update({fault.partition(":")[0] for fault in found})
        rooms[len(house.rooms)] += 1
        items.append(len(house.items))
        layouts[layout_hash(house)] += 1
    console = Console()
    table = Table(
        "fault", "houses", "rate", "first", title=f"{count} houses of '{split}'", title_justify="left", box=None
    )
    for kind in FAULTS:
        table.add_row(kind, str(faults[kind]), f"{faults[kind] / count:.2%}", escape(examples.get(kind, "")))
    table.add_row("none of these", str(sound), f"{sound / count:.2%}", "", style="green" if sound == count else "red")
    console.print(table, "")
    console.print("rooms: " + ", ".join(f"{n}: {rooms[n]}" for n in sorted(rooms)))
    console.print(f"items per house: {np.mean(items):.1f}; different layouts: {len(layouts)}")
    return 0 if sound == count else 1


def export(options: dict[str, str]) -> int:
    if not options["out"]:
        raise ConfigError("Where to?", expected="out=FOLDER", run="wayhand house --help")
    house, out = _house(options), Path(options["out"])
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{house.scan}.json").write_text(house.to_json(), encoding="utf-8")
    mjcf.write(house, out)
    glb.write(house, out)
    graph = viewpoint_graph(house)
    connectivity.save(out / "connectivity", {house.scan: graph})
    console = Console()
    console.print(_facts(house))
    console.print(f"{len(graph.ids)} viewpoints")
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        console.print(escape(f"  {path.relative_to(out)}  {path.stat().st_size / 1000:,.0f} kB"))
    return 0


Command = Callable[[dict[str, str]], int]
_SOURCE = {"seed": "0", "split": "train", "storeys": "", "rooms": "2-10", "house": "", "index": "0"}
COMMANDS: dict[str, tuple[Command, dict[str, str]]] = {
    "show": (show, {**_SOURCE, "out": "", "video": "true", "pixels_per_metre": "60"}),
    "check": (check_, {"houses": "100", "split": "train", "first": "0"}),
    "export": (export, {**_SOURCE, "out": ""}),
}


def _house(options: dict[str, str]) -> House:
    if not options["house"]:
        storeys = _number("storeys", options["storeys"], 1) if options["storeys"] else None
        low, _, high = options["rooms"].partition("-")
        rooms = _number("rooms", low, 2), _number("rooms", high or low, 2)
        return generate(_number("seed", options["seed"], 0), options["split"], storeys=storeys, rooms=rooms)
    path = Path(options["house"])
    if not path.is_file():
        raise DataError("There is no such file", got=str(path), run="wayhand house show seed=7")
    if path.suffix == ".json":
        text = path.read_text(encoding="utf-8")
        if '"storey_height"' in text[:2_000_000]:
            return House.from_json(text)
    houses, index = procthor.load(path), _number("index", options["index"], 0)
    if index >= len(houses):
        raise ConfigError("The file has fewer houses", expected=f"index below {len(houses)}", got=str(index))
    return houses[index]


def _facts(house: House) -> Table:
    table = Table(title=f"house {house.scan}", title_justify="left", show_header=False, box=None, pad_edge=False)
    area = sum(_area(r.polygon) for r in house.rooms)
    table.add_row("seed", f"{house.seed} of '{house.split}'" if house.split in SPLITS else house.split)
    table.add_row("rooms", escape(", ".join(r.name for r in house.rooms)))
    table.add_row("floor", f"{area:.0f} m²")
    table.add_row("items", f"{len(house.items)} of {len({i.category for i in house.items})} categories")
    table.add_row("layout", layout_hash(house))
    table.add_row("digest", house.digest[:16])
    return table


def _area(ring: tuple[tuple[float, float], ...]) -> float:
    pairs = zip(ring, (*ring[1:], ring[0]), strict=True)
    return 0.5 * abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs))


def _number(name: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"'{name}' must be a whole number", expected=f"at least {least}", got=text)
    return int(text)


def _truth(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"'{name}' is true or false", got=text)
    return text.lower() == "true"
