"""Who may use a policy server: a shared token, proven once per connection without sending it.

A client without credentials is refused with a challenge (HTTP 401, `WWW-Authenticate: Wayhand nonce`) and answers with
an HMAC of it. Each challenge works once, so a recorded answer is worth nothing. Clients of openpi send the token itself
as `Authorization: Api-Key <token>`; that only a TLS connection or the loopback keeps secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import os
import secrets
import struct
from pathlib import Path

from ..errors import ConfigError
from .clock import Clock

VARIABLE = "WAYHAND_TOKEN"
"""Environment variable that holds the token."""
SCHEME = "Wayhand"
SHORTEST = 16
"""Characters of a token."""
FRESH = 30.0
"""Seconds a challenge is good for."""
_MAC = 16


def read_token(path: Path | None) -> str | None:
    """The token in file `path`, else in the environment, else None.

    Raises `ConfigError` where it is too short to be a secret, or the file cannot be read or is open to others.
    """
    if path is None:
        token = os.environ.get(VARIABLE, "").strip() or None
    else:
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError("Others can read the token's file", got=str(path), run=f"chmod 600 {path}")
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("The token's file cannot be read", got=f"{path}: {type(error).__name__}") from None
    if token is not None and (len(token) < SHORTEST or not token.isascii() or not token.isprintable()):
        raise ConfigError(
            "The token is not one",
            expected=f"at least {SHORTEST} printable ASCII characters",
            got=f"{len(token)} characters",
            run="python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether an address or name can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proof(token: str, nonce: str) -> str:
    """What a client puts into `Authorization` to answer a challenge."""
    mac = hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
    return f"{SCHEME} {nonce}:{mac}"


def challenge_in(header: str | None) -> str | None:
    """The nonce of a `WWW-Authenticate` header, or None where it is no challenge of ours."""
    scheme, _, nonce = (header or "").partition(" ")
    return nonce if scheme == SCHEME and nonce else None


class Guard:
    """Judges `Authorization` headers.

    Args:
        token: the secret; None lets everybody in.
        once: accept answers to challenges only, not the token itself.
        clock: how long challenges stay fresh is told by it.

    Challenges are not kept: each carries its age and a mark of this guard. Of answered ones the marks are kept until
    they are stale, and only a holder of the token can add one.
    """

    def __init__(self, token: str | None, *, once: bool, clock: Clock) -> None:
        self._token, self._once, self._clock = token, once, clock
        self._key = secrets.token_bytes(32)
        self._used: dict[str, float] = {}

    @property
    def closed(self) -> bool:
        """Whether a token is asked for."""
        return self._token is not None

    def challenge(self) -> str:
        """A fresh `WWW-Authenticate` header."""
        body = secrets.token_bytes(16) + struct.pack("<d", self._clock.now())
        return f"{SCHEME} {base64.urlsafe_b64encode(body + self._mark(body)).decode()}"

    def admits(self, header: str | None) -> bool:
        """Whether an `Authorization` header proves the token; an answer to a challenge does so once."""
        if self._token is None:
            return True
        scheme, _, rest = (header or "").partition(" ")
        if scheme == SCHEME:
            return self._answered(rest)
        if self._once or scheme not in ("Api-Key", "Bearer"):
            return False
        return hmac.compare_digest(_digest(rest), _digest(self._token))

    def _answered(self, answer: str) -> bool:
        assert self._token is not None
        nonce, _, _ = answer.partition(":")
        now = self._clock.now()
        expected = proof(self._token, nonce).removeprefix(f"{SCHEME} ")
        if not hmac.compare_digest(_digest(answer), _digest(expected)):
            return False
        self._used = {n: until for n, until in self._used.items() if until > now}
        if nonce in self._used or not self._ours(nonce, now):
            return False
        self._used[nonce] = now + FRESH
        return True

    def _ours(self, nonce: str, now: float) -> bool:
        try:
            raw = base64.urlsafe_b64decode(nonce.encode("ascii"))
        except ValueError:
            return False
        body, mark = raw[:-_MAC], raw[-_MAC:]
        if len(body) != 24 or not hmac.compare_digest(mark, self._mark(body)):
            return False
        (issued,) = struct.unpack("<d", body[16:])
        return now - FRESH < issued <= now

    def _mark(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:_MAC]


def _digest(text: str) -> bytes:
    """Of equal length whatever the text, so that a comparison tells nothing about it."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
