"""TLS for the policy server and its client: version 1.2 or later, certificates always verified."""

from __future__ import annotations

import ssl
from pathlib import Path

from ..errors import ConfigError


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a server that shows `certificate` (PEM, with its chain) and holds its `key`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise _unreadable(f"{certificate}, {key}", error) from None
    return context


def client_context(authority: Path | None) -> ssl.SSLContext:
    """For a client that trusts the system's authorities, or only those in the PEM file `authority`."""
    try:
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError) as error:
        raise _unreadable(str(authority), error) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _unreadable(files: str, error: Exception) -> ConfigError:
    return ConfigError(
        "A certificate or key cannot be read",
        expected="PEM files that belong together",
        got=f"{files}: {type(error).__name__}",
        run="openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout key.pem -out certificate.pem "
        "-subj /CN=HOST -addext subjectAltName=DNS:HOST",
    )
