"""A dataset as one self-contained HTML page: what was asked, what the cameras saw, what was done."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import simplejpeg

from .store import Dataset

_COLORS = ("#2563eb", "#dc2626", "#16a34a", "#d97706", "#9333ea", "#0891b2", "#be185d", "#4d7c0f", "#475569", "#a16207")
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 0; font-weight: 600; }
.hash, td, th { font-family: ui-monospace, monospace; font-size: .82rem; }
.hash { overflow-wrap: anywhere; opacity: .7; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .15rem .9rem .15rem 0; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr + tr { border-top: 1px solid var(--line); }
.tiles { display: flex; gap: 2.5rem; margin: 1rem 0; flex-wrap: wrap; } .tiles b { display: block; font-size: 1.4rem; }
article { border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem; margin: 1rem 0; break-inside: avoid; }
.meta { opacity: .7; font-size: .85rem; } .strip { display: flex; gap: 3px; margin: .4rem 0; align-items: center; }
.strip img { flex: 1 1 0; min-width: 0; max-width: 12.5%; border-radius: 3px; display: block; }
.cam { width: 3.5rem; font-size: .75rem; opacity: .7; flex: none; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: .5rem 0 0; flex: 1 1 320px; } figcaption, .key { font-size: .75rem; opacity: .85; }
svg { width: 100%; height: auto; }
svg rect { fill: var(--soft); } svg line { stroke: var(--line); }
svg text { font-size: 9px; fill: currentColor; opacity: .7; }
.key span { margin-right: .7rem; white-space: nowrap; }
.key i { display: inline-block; width: .7em; height: .7em; border-radius: 2px; }
.yes { color: #16a34a; } .no { color: #dc2626; }
"""


def page(dataset: Dataset, *, episodes: Sequence[int] | None = None, frames: int = 8) -> str:
    """HTML of the given episodes (by default eight, evenly spread) with `frames` pictures per camera each."""
    chosen = spread(len(dataset), 8) if episodes is None else episodes
    body = [_head(dataset), _numbers(dataset), *(_episode(dataset, i, frames) for i in chosen)]
    title = escape(dataset.path.name)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def spread(total: int, n: int) -> list[int]:
    """At most `n` of `total` indices, evenly spread, with the first and the last."""
    return sorted({round(i * (total - 1) / max(1, n - 1)) for i in range(n)}) if total else []


def _head(dataset: Dataset) -> str:
    seconds = dataset.frames * dataset.spec.control_dt
    known = [s for s in dataset.successes if s is not None]
    tiles = {
        "episodes": f"{len(dataset):,}",
        "frames": f"{dataset.frames:,}",
        "of demonstration": f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s",
        "instructions": f"{len(set(dataset.instructions)):,}",
        "successful": f"{np.mean(known):.0%}" if known else "unknown",
        "control rate": f"{1 / dataset.spec.control_dt:g} Hz",
    }
    shown = "".join(f"<span><b>{value}</b>{name}</span>" for name, value in tiles.items())
    common = "".join(
        f"<tr><td>{escape(t)}</td><td>{n}</td></tr>" for t, n in Counter(dataset.instructions).most_common(10)
    )
    return (
        f"<h1>{escape(dataset.path.name)}</h1>"
        f'<div class="hash">{escape(dataset.spec.embodiment)} · content hash {dataset.hash()}</div>'
        f'<div class="tiles">{shown}</div>'
        f"<table><tr><th>most frequent instructions</th><th>episodes</th></tr>{common}</table>"
    )


def _numbers(dataset: Dataset) -> str:
    if not len(dataset):
        return "<p>No episodes yet.</p>"
    rows: list[str] = []
    elements = {"observation.state": dataset.spec.state, "action": dataset.spec.action_elements}
    for path, names in elements.items():
        if not names:
            continue
        s = dataset.stats[path]
        rows.append(
            f"<tr><th>{path}</th>"
            + "".join(f"<th>{c}</th>" for c in ("mean", "std", "min", "q01", "q99", "max"))
            + "</tr>"
        )
        for i, element in enumerate(names):
            values = (s.mean[i], s.std[i], s.min[i], s.q01[i], s.q99[i], s.max[i])
            cells = "".join(f"<td>{v:.4g}</td>" for v in values)
            rows.append(f"<tr><td>{escape(element.name)} [{escape(element.unit)}]</td>{cells}</tr>")
    return f"<details><summary>Statistics of state and action</summary><table>{''.join(rows)}</table></details>"


def _episode(dataset: Dataset, index: int, frames: int) -> str:
    start, stop = dataset.span(index)
    pick = [start + i for i in spread(stop - start, frames)]
    strips = []
    for camera in dataset.spec.cameras:
        images = (dataset.read(f"observation.images.{camera.name}", row, row + 1)[0] for row in pick)
        pictures = "".join(
            f'<img src="{_jpeg(image)}" alt="{escape(camera.name)}, step {row - start}" title="step {row - start}">'
            for row, image in zip(pick, images, strict=True)
        )
        strips.append(f'<div class="strip"><span class="cam">{escape(camera.name)}</span>{pictures}</div>')
    actions = dataset.read("action", start, stop)
    plots = []
    for group, part in dataset.spec.group_slices():
        units = list(dict.fromkeys(e.unit for e in group.elements))
        for unit in units:
            chosen = [i for i, e in enumerate(group.elements) if e.unit == unit]
            names = [group.elements[i].name for i in chosen]
            caption = f"action.{group.name} ({group.kind}) [{unit}]"
            plots.append(_plot(actions[:, part][:, chosen], names, caption, dataset.spec.control_dt))
    verdict = {
        True: '<span class="yes">success</span>',
        False: '<span class="no">failure</span>',
        None: "outcome unknown",
    }
    provenance = ", ".join(f"{k} {v}" for k, v in dataset.provenance(index).items() if isinstance(v, str | int | float))
    return (
        f"<article><h2>{escape(dataset.instructions[index]) or '(no instruction)'}</h2>"
        f'<div class="meta">episode {index} · {stop - start} steps, {(stop - start) * dataset.spec.control_dt:.1f} s · '
        f"{verdict[dataset.successes[index]]} · {escape(provenance[:200])}</div>"
        f'{"".join(strips)}<div class="plots">{"".join(plots)}</div></article>'
    )


def _jpeg(image: np.ndarray[Any, Any]) -> str:
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=85, colorsubsampling="444")
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _plot(values: np.ndarray[Any, Any], names: Sequence[str], caption: str, dt: float) -> str:
    """Curves [T, k] over time as an inline SVG."""
    width, height, left, bottom = 420, 130, 44, 14
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    x = left + np.arange(len(values)) * (width - left) / max(1, len(values) - 1)
    y = (height - bottom) * (1 - (values - low) / (high - low))
    lines = [
        f'<polyline fill="none" stroke="{_COLORS[i % len(_COLORS)]}" stroke-width="1.4" '
        f'points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y[:, i], strict=True) if np.isfinite(b))}"/>'
        for i in range(values.shape[1])
    ]
    zero = ""
    if low < 0 < high:
        at = (height - bottom) * high / (high - low)
        zero = f'<line x1="{left}" x2="{width}" y1="{at:.1f}" y2="{at:.1f}"/>'
    key = "".join(
        f'<span><i style="background:{_COLORS[i % len(_COLORS)]}"></i> {escape(n)}</span>' for i, n in enumerate(names)
    )
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><svg viewBox="0 0 {width} {height}" role="img">'
        f'<rect x="{left}" y="0" width="{width - left}" height="{height - bottom}"/>{zero}{"".join(lines)}'
        f'<text x="{left - 4}" y="9" text-anchor="end">{high:.3g}</text>'
        f'<text x="{left - 4}" y="{height - bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{left}" y="{height - 3}">0 s</text>'
        f'<text x="{width}" y="{height - 3}" text-anchor="end">{(len(values) - 1) * dt:.2g} s</text></svg>'
        f'<div class="key">{key}</div></figure>'
    )
