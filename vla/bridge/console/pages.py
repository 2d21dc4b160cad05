"""The console's files, and what browsers may do with them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

OURS = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; " \
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"  # fmt: skip
"""Content security policy of our own page: nothing from elsewhere, nothing inline, in nobody's frame."""
VISERS = "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; base-uri 'none'; frame-ancestors 'self'"
"""viser's page is one file with everything inline. It can reach this server and nothing else."""
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Page:
    """One answer to a GET.

    Args:
        kind: its media type.
        policy: its content security policy.
        gzip: whether the body is compressed.
    """

    body: bytes
    kind: str
    policy: str = OURS
    gzip: bool = False

    def headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": self.kind,
            "Content-Length": str(len(self.body)),
            "Content-Security-Policy": self.policy,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        return {**headers, "Content-Encoding": "gzip"} if self.gzip else headers


def _file(name: str) -> Page:
    assert __package__ is not None
    return Page((files(__package__) / "page" / name).read_bytes(), _TYPES[name.rpartition(".")[2]])


def pages(view: bytes | None) -> dict[str, Page]:
    """What is at which path; `view` is viser's page, compressed."""
    ours = {"/": _file("console.html")}
    ours |= {f"/{name}": _file(name) for name in ("console.js", "hand.js", "plots.js", "console.css", "icon.svg")}
    return ours if view is None else {**ours, "/view": Page(view, _TYPES["html"], VISERS, gzip=True)}


LOGIN = _file("login.html")
"""What is shown to whom has not proved the token."""
