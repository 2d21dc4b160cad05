"""The console's proxy: a token, a cookie, bounds, and nothing else gets in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest
from console_pages import TOKEN, WAIT, entered, get, opened, until
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wayhand.vla.bridge.console.access import COOKIE, Access, ConsoleSettings, same_origin
from wayhand.vla.bridge.console.pages import pages
from wayhand.vla.bridge.console.proxy import INWARDS, Backend, Proxy
from wayhand.vla.errors import ConfigError


def test_beyond_the_loopback_a_token_is_needed() -> None:
    with pytest.raises(ConfigError, match="could drive the robot"):
        ConsoleSettings(host="0.0.0.0")
    assert ConsoleSettings(host="0.0.0.0", token=TOKEN).in_the_clear
    assert not ConsoleSettings().in_the_clear
    assert TOKEN not in repr(ConsoleSettings(token=TOKEN))


def test_a_token_is_given_once_and_a_cookie_says_nothing_about_it() -> None:
    access = Access(TOKEN, secure=True)
    assert access.token_in("/") is None
    assert access.token_in(f"/?token={TOKEN}") is True
    assert access.token_in("/?token=wrong") is False
    assert access.token_in(f"/?token={TOKEN}&token={TOKEN}") is False, "given twice it is none"
    assert access.token_in("/?token=" + "x" * 5000) is False
    cookie = access.cookie()
    assert TOKEN not in cookie and all(a in cookie for a in ("HttpOnly", "SameSite=Strict", "Secure"))
    value = cookie.partition(";")[0]
    assert access.admits([value]) and access.admits([f"other=1; {value}"])
    assert not Access(TOKEN, secure=True).admits([value]), "another console's cookie"
    for wrong in ([], [""], [value, value], [f"{COOKIE}={TOKEN}"], [value + "x"], ["\x00=;;;"], ["a" * 5000]):
        assert not access.admits(wrong)


def test_other_pages_are_told_from_ours() -> None:
    assert same_origin(["http://robot:8080"], ["robot:8080"])
    assert same_origin(["https://ROBOT:8080"], ["robot:8080"])
    for origin in ([], ["null"], ["http://evil"], ["http://robot:8081"], ["http://robot:8080"] * 2):
        assert not same_origin(origin, ["robot:8080"])


class Viser:
    """Stands in for viser: greets with a message, remembers what it is told."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._port: list[int] = []
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serve(self._talk, "127.0.0.1", 0, select_subprotocol=lambda _, offered: offered[0]) as server:
            self._port.append(next(iter(server.sockets)).getsockname()[1])
            await self._stop.wait()

    async def _talk(self, connection: ServerConnection) -> None:
        await connection.send(b"scene")
        async for message in connection:
            assert isinstance(message, bytes)
            self.heard.append(message)

    def __enter__(self) -> Viser:
        self._thread.start()
        until(lambda: self._port)
        return self

    @property
    def port(self) -> int:
        return self._port[0]

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None and self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@contextmanager
def proxied(view: int | None = None, clients: int = 2) -> Iterator[tuple[Proxy, Access]]:
    access = Access(TOKEN, secure=False)
    backend = Backend(echo, pages(None if view is None else b"<viser>"), view)
    with Proxy(ConsoleSettings(port=0, token=TOKEN, clients=clients), access, backend, None) as proxy:
        yield proxy, access


def test_nothing_is_shown_without_the_token() -> None:
    with proxied() as (proxy, _):
        for path in ("/", "/console.js", "/view/guess/", "/etc/passwd", "/?token=", "/../x"):
            status, headers, body = get(proxy.port, path)
            assert status == 401 and b"Token" in body and "set-cookie" not in headers
            assert b"STOP" not in body and b"estop" not in body
        assert get(proxy.port, "/healthz")[0] == 200
        for path in ("/panel", "/view/guess"):
            with pytest.raises(InvalidStatus) as refused:
                opened(proxy.port, path, None)
            assert refused.value.response.status_code == 401


def test_a_wrong_token_costs_time() -> None:
    with proxied() as (proxy, _):
        began = time.monotonic()
        assert get(proxy.port, "/?token=wrong")[0] == 401
        assert time.monotonic() - began > 0.4


def test_pages_come_with_a_policy_that_lets_nothing_in() -> None:
    with proxied() as (proxy, _):
        cookie = {"Cookie": entered(proxy.port)}
        for path in ("/", "/console.js", "/plots.js", "/console.css", "/icon.svg"):
            status, headers, body = get(proxy.port, path, cookie)
            assert status == 200 and body and "default-src 'none'" in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
        html = get(proxy.port, "/", cookie)[2]
        assert b"<script>" not in html and b"style=" not in html and b"http" not in html, "nothing inline or foreign"
        assert get(proxy.port, "/nothing", cookie)[0] == 404


def test_another_pages_websocket_is_refused_whatever_cookie_it_has() -> None:
    with proxied() as (proxy, _):
        cookie = entered(proxy.port)
        with pytest.raises(InvalidStatus) as refused:
            opened(proxy.port, "/panel", cookie, origin="http://evil.example")
        assert refused.value.response.status_code == 403
        with opened(proxy.port, "/panel", cookie) as page:
            page.send("hello")
            assert page.recv(WAIT) == "hello"


def test_messages_and_pages_are_bounded() -> None:
    with proxied(clients=1) as (proxy, _):
        cookie = entered(proxy.port)
        with opened(proxy.port, "/panel", cookie) as page:
            page.send("x" * (INWARDS + 1))
            with pytest.raises(ConnectionClosed):
                page.recv(WAIT)
        with opened(proxy.port, "/panel", cookie), opened(proxy.port, "/panel", cookie):
            with pytest.raises(InvalidStatus) as refused:
                opened(proxy.port, "/panel", cookie)
            assert refused.value.response.status_code == 503


def test_viser_hears_where_the_camera_is_and_nothing_else() -> None:
    with Viser() as viser, proxied(viser.port) as (proxy, access):
        assert get(proxy.port, f"{access.view}/")[2] == b"<viser>"
        with opened(proxy.port, access.view, None, subprotocols=["viser-v1"]) as page:
            assert page.subprotocol == "viser-v1" and page.recv(WAIT) == b"scene"
            camera = msgpack.packb({"type": "ViewerCameraMessage", "fov": 1.0})
            for message in (
                msgpack.packb({"type": "ShareUrlRequest"}), b"\xc1", msgpack.packb([1]), "text",
                msgpack.packb({"type": ["ViewerCameraMessage"]}), b"", camera,
            ):  # fmt: skip
                page.send(message)
            until(lambda: viser.heard)
            assert viser.heard == [camera]


def test_without_viser_the_page_goes_on() -> None:
    with proxied(view=1) as (proxy, access):  # nobody listens on port 1
        with opened(proxy.port, access.view, None) as page, pytest.raises(ConnectionClosed):
            page.recv(WAIT)
        assert get(proxy.port, "/", {"Cookie": entered(proxy.port)})[0] == 200
