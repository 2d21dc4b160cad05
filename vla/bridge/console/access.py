"""Who may use a console: a token once, then a cookie."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ...errors import ConfigError
from ..clock import MonotonicClock
from ..tokens import VARIABLE, Guard, is_loopback

COOKIE = "wayhand_console"
LONGEST = 1024
"""Bytes of a cookie header or query that is looked at."""


@dataclass(frozen=True)
class ConsoleSettings:
    """Where a console listens and whom it lets in.

    Args:
        host, port: address to listen on; port 0 takes a free one.
        token: secret that opens the page; needed on any address but the loopback, made up there where None.
        tls: certificate and key (PEM), or None for plain text.
        clients: pages open at a time.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    tls: tuple[Path, Path] | None = None
    clients: int = 8

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"Whoever reaches {self.host} could drive the robot",
                expected="a token, or an address of the loopback",
                run=f"export {VARIABLE}=$(python -c 'import secrets; print(secrets.token_urlsafe(32))')",
            )
        if not 0 <= self.port <= 65535 or self.clients < 1:
            raise ConfigError(
                "The console's settings are out of range", got=f"port {self.port}, clients {self.clients}"
            )

    @property
    def in_the_clear(self) -> bool:
        """Whether others on the network could read the token."""
        return self.tls is None and not is_loopback(self.host)

    @property
    def scheme(self) -> str:
        return "http" if self.tls is None else "https"


class Access:
    """Judges requests of browsers.

    Args:
        token: the secret.
        secure: whether the cookie is for TLS only.

    The cookie is a secret of this console alone and says nothing about the token. Comparisons take the same time
    whatever they compare.
    """

    def __init__(self, token: str, *, secure: bool) -> None:
        self._guard = Guard(token, once=False, clock=MonotonicClock())
        self._pass, self._ticket = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._secure = secure

    def token_in(self, path: str) -> bool | None:
        """Whether the query of a request's path gives the token; None where it gives none."""
        query = urlsplit(path).query
        if len(query) > LONGEST:
            return False
        given = parse_qs(query, max_num_fields=8).get("token")
        if given is None:
            return None
        return len(given) == 1 and self._guard.admits(f"Bearer {given[0]}")

    @property
    def view(self) -> str:
        """The path of the 3D view. It lives in a sandbox, without cookies; who knows this path may see it."""
        return f"/view/{self._ticket}"

    def admits_view(self, path: str) -> bool:
        return hmac.compare_digest(path.rstrip("/").encode(), self.view.encode())

    def cookie(self) -> str:
        """The `Set-Cookie` header of one who proved the token."""
        attributes = "; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if self._secure else "")
        return f"{COOKIE}={self._pass}{attributes}"

    def admits(self, headers: list[str]) -> bool:
        """Whether the `Cookie` headers of a request hold the cookie."""
        if len(headers) != 1 or len(headers[0]) > LONGEST:
            return False
        try:
            morsel = SimpleCookie(headers[0]).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self._pass.encode())


def same_origin(origin: list[str], host: list[str]) -> bool:
    """Whether a websocket was opened by a page of this very address: other pages may try, and cookies travel along."""
    return len(origin) == 1 and len(host) == 1 and urlsplit(origin[0]).netloc.lower() == host[0].lower()
