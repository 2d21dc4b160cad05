"""The look of a report: one stylesheet for light and dark, wide and narrow, without anything from elsewhere."""

from __future__ import annotations

from html import escape

CSS = """
:root{color-scheme:light dark;--ground:#f6f7f9;--card:#fff;--ink:#191c22;--dim:#667085;--line:#e3e6ec;
--accent:#2f6fed;--soft:#cfdefc;--good:#1f9d57;--bad:#d64545;--chance:#c77700}
@media(prefers-color-scheme:dark){:root{--ground:#101217;--card:#191c23;--ink:#eceef2;--dim:#98a1b2;--line:#2b303b;
--accent:#6c9dff;--soft:#2b4274;--good:#56c98a;--bad:#ff7b72;--chance:#f0a63c}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px;letter-spacing:-.02em}
h2{font-size:1.15rem;margin:36px 0 12px;letter-spacing:-.01em}
p{margin:.4em 0 .8em}.dim,small{color:var(--dim)}
code,pre{font:13px/1.5 ui-monospace,"SF Mono",Menlo,Consolas,monospace}
pre{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px;overflow-x:auto;margin:0}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px;margin:0}
.grid-cards{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr))}
.tiles{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(min(100%,200px),1fr));margin-top:20px}
.tile b{display:block;font-size:1.7rem;line-height:1.2;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:.86rem}
.scroll{overflow-x:auto;padding:0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:8px 14px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
tr:last-child td{border-bottom:0}th{font-weight:600;color:var(--dim);font-size:.82rem}
th:first-child,td:first-child{text-align:left}td b{font-size:1.02em}
td small{display:block;line-height:1.3}tr.total td{background:color-mix(in srgb,var(--soft) 22%,transparent)}
.bars{display:grid;gap:9px}
.bar{display:grid;grid-template-columns:150px 1fr 150px;gap:12px;align-items:center}
.bar .label{overflow-wrap:anywhere;line-height:1.25}.bar .value{font-variant-numeric:tabular-nums;font-weight:600}
.bar .value small{font-weight:400}
.track{position:relative;height:18px;background:color-mix(in srgb,var(--line) 60%,transparent);border-radius:5px}
.track i{position:absolute;display:block}
.fill{left:0;top:0;bottom:0;background:var(--accent);opacity:.8;border-radius:5px}
.whisker{top:7px;height:4px;background:var(--ink);border-radius:2px;border:1px solid var(--card)}
.chance{top:-4px;bottom:-4px;border-left:2px dashed var(--chance)}
.key{color:var(--chance);font-weight:600}
figure svg{width:100%;height:auto;display:block}
figcaption{display:flex;justify-content:space-between;gap:10px;margin-bottom:6px;color:var(--dim);font-size:.9rem}
figcaption b{color:var(--ink)}
svg text{fill:var(--dim);font:10.5px system-ui,sans-serif}.grid{stroke:var(--line);stroke-width:1}
.line{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round}
figure.film{padding:0;overflow:hidden}.film video{width:100%;display:block;background:#12141a}
.film figcaption{padding:9px 13px;margin:0}.good{color:var(--good)!important}.bad{color:var(--bad)!important}
section{display:grid;gap:12px;grid-template-columns:minmax(0,1fr)}section>h2{margin-bottom:0}section>p{margin:0}
summary{cursor:pointer;color:var(--dim)}details>*+*{margin-top:8px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
.numbers{display:grid;gap:10px 18px;grid-template-columns:repeat(auto-fill,minmax(125px,1fr))}
.numbers span{display:block;color:var(--dim);font-size:.82rem}
.numbers b{font-weight:600;font-variant-numeric:tabular-nums}
@media(max-width:640px){main{padding:18px 12px 40px}.bar{grid-template-columns:1fr auto;gap:3px 10px}
.bar .track{grid-row:2;grid-column:1/3}.bar .value{text-align:right}dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:8px}
.tiles{grid-template-columns:1fr 1fr}th,td{padding:7px 9px}td:first-child{white-space:normal;min-width:120px}}
"""


def page(title: str, body: str) -> str:
    """A whole document that needs no other file."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A titled section, or nothing where it would be empty."""
    content = "\n".join(p for p in parts if p)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def numbers(pairs: list[tuple[str, str]]) -> str:
    """Names and short values (text) side by side."""
    items = "".join(f"<div><span>{escape(k)}</span><b>{escape(v)}</b></div>" for k, v in pairs)
    return f'<div class="card numbers">{items}</div>' if items else ""


def fold(title: str, *parts: str) -> str:
    """Content that opens on a click."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def table(header: list[str], rows: list[list[str]], total: int | None = None) -> str:
    """Header cells are text, body cells are HTML; row `total` is emphasised."""
    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    lines = []
    for i, cells in enumerate(rows):
        mark = ' class="total"' if i == total else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return (
        f'<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def facts(pairs: list[tuple[str, str]]) -> str:
    """Names and values (text) as a list."""
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs if v)
    return f'<div class="card"><dl>{items}</dl></div>' if items else ""
