"""`report.html`: what an output folder holds as one self-contained page, and `summary.png`, its one picture."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..errors import CorruptDataError, DataError
from .ablations import ABLATIONS
from .page import facts, fold, numbers, page, section, table
from .picture import picture
from .plots import curve, interval_bars, short
from .summary import ALL, Row

CURVES = ("loss", "lr", "gradient_norm", "samples_per_second", "data_wait")

UNITS = {"us": "µs", "ms": "ms", "s": "s", "hz": "Hz"}
"""Endings of keys that are units."""


@dataclass(frozen=True)
class Evaluation:
    """A `summary.json` and the folder it lies in."""

    folder: Path
    summary: Mapping[str, Any]

    @property
    def rows(self) -> list[Row]:
        return [Row(**r) for r in self.summary["rows"]]

    @property
    def overall(self) -> list[Row]:
        """The rows over all tasks, one per split and ablation."""
        many = {(r.split, r.ablation) for r in self.rows if r.task == ALL}
        return [r for r in self.rows if r.task == ALL or (r.split, r.ablation) not in many]


@dataclass(frozen=True)
class Findings:
    """What a folder and its direct subfolders hold, by path."""

    evaluations: Sequence[Evaluation]
    metrics: Mapping[Path, Sequence[Mapping[str, Any]]]
    deployments: Mapping[Path, Mapping[str, Any]]


def find(out: Path) -> Findings:
    """Evaluations (`summary.json`), training runs (`metrics.jsonl`) and deployments (`deploy.json`) at `out`.

    Runs of the evaluated policies are found wherever they lie. Raises `DataError` where there is nothing to report.
    """
    folders = [out, *sorted(p for p in out.glob("*/") if p.is_dir())] if out.is_dir() else []
    evaluations = [Evaluation(f, _json(f / "summary.json")) for f in folders if (f / "summary.json").is_file()]
    runs = [*folders, *(Path(str(e.summary["policy"].get("run", ""))) for e in evaluations)]
    metrics = {p.resolve(): p for p in (r / "metrics.jsonl" for r in runs) if p.is_file()}
    deployments = {f: _json(f / "deploy.json") for f in folders if (f / "deploy.json").is_file()}
    if not (evaluations or metrics or deployments):
        raise DataError(
            f"There is nothing to report in {out}",
            expected="summary.json, metrics.jsonl or deploy.json in it or in a folder of it",
            run=f"wayhand eval checkpoint=RUN env=tabletop/demo out={out}",
        )
    return Findings(evaluations, {p.parent: _lines(p) for p in metrics.values()}, deployments)


def write_report(out: Path) -> Path:
    """Write `report.html` (and `summary.png` where there is an evaluation) into `out`; returns the page's path."""
    found = find(out)
    parts = [_headline(found)]
    for evaluation in found.evaluations:
        where = f" · {evaluation.folder.name}" if len(found.evaluations) > 1 else ""
        parts += _evaluation(evaluation, where)
    for folder, record in found.deployments.items():
        parts.append(section(f"Deployment · {folder.name}", *_record(record)))
    for run, lines in found.metrics.items():
        parts.append(section(f"Training · {run.name}", _curves(lines)))
    parts += [_method(e) for e in found.evaluations]
    path = out / "report.html"
    path.write_text(page("Wayhand report", "\n".join(p for p in parts if p)), encoding="utf-8")
    if found.evaluations:
        first = found.evaluations[0]
        picture(first.overall, _films(first), first.folder / "videos").save(out / "summary.png", optimize=True)
    return path


# --- sections --------------------------------------------------------------------------------------------------


def _headline(found: Findings) -> str:
    title = "<h1>Wayhand report</h1>"
    if not found.evaluations:
        return title
    first = found.evaluations[0]
    about = f"{first.summary['policy']['name']} in {first.summary['environment_name']}"
    tiles = "".join(
        f'<div class="card tile"><b>{row.rate:.1%}</b><span>{escape(_say(row.label))}<br>'
        f"95 %: {row.low:.1%} – {row.high:.1%}, n = {row.n}</span></div>"
        for row in first.overall
        if not row.ablation
    )
    return f'<header>{title}<p class="dim">{escape(about)}</p><div class="tiles">{tiles}</div></header>'


def _evaluation(evaluation: Evaluation, where: str) -> list[str]:
    rows = evaluation.rows
    plain = [r for r in rows if not r.ablation]
    ablated = [r for r in evaluation.overall if r.ablation]
    compared = [r for r in evaluation.overall if not r.ablation and r.split in {a.split for a in ablated}] + ablated
    return [
        section(f"Success per task and split{where}", _headline_table(plain)),
        section(
            f"What the policy uses{where}",
            '<p class="dim">Every row runs the same scenes. The <span class="key">dashed mark</span> is chance: '
            "what a policy that ignores the words can reach.</p>",
            f'<div class="card">{interval_bars(compared, [_say(r.label) for r in compared])}</div>',
            _ablation_table(ablated, evaluation.summary["costs"]),
        )
        if ablated
        else "",
        section(f"Episodes{where}", _video_grid(evaluation)),
    ]


def _headline_table(rows: Sequence[Row]) -> str:
    splits = list(dict.fromkeys(r.split for r in rows))
    tasks = list(dict.fromkeys(r.task for r in rows))
    body = []
    for task in tasks:
        cells = [f"<b>{escape(_say(task))}</b>"]
        for split in splits:
            hit = next((r for r in rows if (r.task, r.split) == (task, split)), None)
            cells.append(_rate(hit) if hit else "–")
        body.append(cells)
    total = tasks.index(ALL) if ALL in tasks else None
    return table(["task", *map(_say, splits)], body, total)


def _rate(row: Row) -> str:
    errors = f", {row.errors} errors" if row.errors else ""
    return (
        f"<b>{row.rate:.1%}</b><small>{row.low:.1%} – {row.high:.1%}</small>"
        f"<small>{row.successes}/{row.n}{errors} · {row.steps:.0f} steps</small>"
    )


def _ablation_table(rows: Sequence[Row], costs: Sequence[Mapping[str, Any]]) -> str:
    by_name = {c["ablation"]: c for c in costs}
    body = []
    for row in rows:
        cost = by_name.get(row.ablation)
        loss = f"{cost['estimate']:+.1%}<small>{cost['low']:+.1%} – {cost['high']:+.1%}</small>" if cost else "–"
        body.append(
            [
                f"<b>{escape(_say(row.ablation))}</b><small>{escape(ABLATIONS[row.ablation].summary)}</small>",
                _rate(row),
                f"{row.chance:.1%}",
                loss,
            ]
        )
    lead = '<p class="dim">Cost: success without minus with the ablation over the same seeds, 95 % paired interval.</p>'
    return lead + table(["ablation", "success", "chance", "cost"], body)


def _video_grid(evaluation: Evaluation) -> str:
    cards = []
    for entry in _films(evaluation):
        data = base64.b64encode((evaluation.folder / "videos" / str(entry["video"])).read_bytes()).decode()
        how = '<b class="good">success</b>' if entry["success"] else '<b class="bad">failure</b>'
        label = " · ".join(_say(str(entry[k])) for k in ("task", "split", "ablation") if entry[k])
        cards.append(
            f'<figure class="card film"><video controls muted loop autoplay playsinline preload="metadata" '
            f'src="data:video/mp4;base64,{data}"></video>'
            f"<figcaption><span>{escape(label)} · seed {entry['seed']}</span>{how}</figcaption></figure>"
        )
    return f'<div class="grid-cards">{"".join(cards)}</div>' if cards else ""


def _curves(lines: Sequence[Mapping[str, Any]]) -> str:
    numbers = [k for k in dict.fromkeys(k for line in lines for k in line) if k != "step"]
    named = [k for k in CURVES if k in numbers] + [k for k in numbers if k not in CURVES]
    figures = []
    for name in named:
        pairs = [(x["step"], x[name]) for x in lines if isinstance(x.get(name), (int, float)) and "step" in x]
        if len(pairs) > 1:
            figures.append(curve(name, [s for s, _ in pairs], [v for _, v in pairs]))
    return f'<div class="grid-cards">{"".join(figures)}</div>' if figures else ""


def _record(record: Mapping[str, Any]) -> list[str]:
    """Any JSON record: scalars as a list, groups of equal keys as one table, lists of records and settings folded."""
    plain: list[tuple[str, str]] = []
    groups: dict[str, Mapping[str, Any]] = {}
    nested: list[str] = []
    folded: list[str] = []
    for key, value in record.items():
        if key == "config":
            folded.append(fold(_say(key), f"<pre>{escape(json.dumps(value, indent=1))}</pre>"))
        elif isinstance(value, Mapping) and any(isinstance(v, (Mapping, list)) for v in value.values()):
            nested += _record(value)
        elif isinstance(value, Mapping):
            groups[key] = value
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            folded.append(fold(f"{_say(key)} ({len(value)})", *_tables({str(i): v for i, v in enumerate(value)})))
        elif isinstance(value, list):
            plain.append((_unit(key), ", ".join(map(_scalar, value)) or "none"))
        else:
            plain.append((_unit(key), _scalar(value)))
    return [numbers(plain), *_tables(groups), *nested, *folded]


def _tables(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One table per set of columns, one line per group."""
    tables = []
    for columns in dict.fromkeys(tuple(v) for v in groups.values()):
        members = {k: v for k, v in groups.items() if tuple(v) == columns}
        body = [[escape(_unit(k)), *(escape(_scalar(x)) for x in v.values())] for k, v in members.items()]
        tables.append(table(["", *map(_unit, columns)], body))
    return tables


def _method(evaluation: Evaluation) -> str:
    summary = evaluation.summary
    protocol, policy = summary["protocol"], summary["policy"]
    seeds = {f"{_say(r.split)}": f"{r.first_seed} – {r.last_seed}" for r in evaluation.overall if not r.ablation}
    pairs = [
        ("protocol", f"{protocol['name']} · hash {protocol['hash']}"),
        ("success means", protocol["success"]),
        ("chance means", protocol["chance"]),
        *(
            (f"split {_say(k)}", f"{v} (seeds {seeds[_say(k)]})")
            for k, v in protocol["splits"].items()
            if _say(k) in seeds
        ),
        ("policy", " · ".join(f"{k} {v}" for k, v in policy.items() if v not in ("", None))),
        ("environment", json.dumps(summary["environment"])),
        ("settings", ", ".join(f"{k} {v}" for k, v in summary["settings"].items())),
        ("videos", summary.get("replays", "")),
        ("time", f"{summary['episodes']} episodes, {summary['steps']} steps"),
        ("versions", ", ".join(f"{k} {v}" for k, v in summary["versions"].items())),
    ]
    command = f"<pre>{escape(summary['command'])}</pre>"
    title = "How this was measured" + (f" · {evaluation.folder.name}" if evaluation.folder.name else "")
    return section(title, facts(pairs), command)


# --- small things ----------------------------------------------------------------------------------------------


def _films(evaluation: Evaluation) -> list[Mapping[str, Any]]:
    return [e for e in evaluation.summary.get("videos", []) if (evaluation.folder / "videos" / e["video"]).is_file()]


def _say(name: str) -> str:
    return "all tasks" if name == ALL else str(name).replace("_", " ")


def _unit(key: str) -> str:
    """`lateness_us` as people write it: `lateness [µs]`."""
    stem, _, last = key.rpartition("_")
    return f"{_say(stem)} [{UNITS[last]}]" if stem and last in UNITS else _say(key)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else short(value)
    if value is None:
        return "–"
    if isinstance(value, (Mapping, list)):
        return json.dumps(value)
    return str(value)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptDataError(f"{path} is not JSON", got=str(error)) from error


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines only: a run that is still going on may be writing the last one."""
    text = path.read_text(encoding="utf-8")
    try:
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line.strip()]
    except ValueError as error:
        raise CorruptDataError(f"{path} is not JSON lines", got=str(error)) from error
