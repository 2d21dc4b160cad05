"""A headless Chromium for the tests of pages, over its DevTools protocol; needs no package but our websockets."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from websockets.sync.client import connect

WAIT = 40.0
"""Seconds after which a test gives up waiting; a page on a busy machine takes some."""
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--mute-audio",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-features=OptimizationGuideOnDeviceModel,OptimizationHints,Translate,MediaRouter",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def chromium() -> str | None:
    """Where Chromium is, or None."""
    names = ("chromium", "chromium-headless-shell", "google-chrome", "chromium-browser")
    return next((found for name in names if (found := shutil.which(name))), None)


class Browser:
    """Context manager: one page of one Chromium, which shares nothing with any other.

    Args:
        width, height: of the window in CSS pixels.
        phone: whether it is one: touch, a dense screen.
    """

    def __init__(self, width: int = 1280, height: int = 900, phone: bool = False) -> None:
        self._size, self._phone = (width, height), phone
        self._numbers = itertools.count(1)
        self.console: list[str] = []

    def __enter__(self) -> Browser:
        program = chromium()
        assert program is not None
        self._profile = Path(tempfile.mkdtemp(prefix="wayhand-browser-"))
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            port, path = self._endpoint()
            root = connect(
                f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None, compression=None, ping_interval=None
            )
            with root:
                root.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
                targets = json.loads(root.recv(WAIT))["result"]["targetInfos"]
            page = next(t["targetId"] for t in targets if t["type"] == "page")
            self._socket = connect(
                f"ws://127.0.0.1:{port}/devtools/page/{page}",
                max_size=None,
                proxy=None,
                compression=None,
                ping_interval=None,
            ).__enter__()
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")
            width, height = self._size
            screen = {"width": width, "height": height, "deviceScaleFactor": 2 if self._phone else 1}
            self.call("Emulation.setDeviceMetricsOverride", mobile=self._phone, **screen)
            self.call("Emulation.setTouchEmulationEnabled", enabled=self._phone)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._kill()

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def _endpoint(self) -> tuple[str, str]:
        told = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            lines = told.read_text().split() if told.exists() else []
            if len(lines) == 2:
                return lines[0], lines[1]
            time.sleep(0.05)
        raise TimeoutError("Chromium does not start")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(WAIT))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        """Keep what the page complains of."""
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.console.append(json.dumps(params["exceptionDetails"].get("exception", params))[:500])
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.console.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url="about:blank")
        self.console.clear()
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = WAIT) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.js(expression):
                    return
            except RuntimeError:
                pass  # between two pages there is no context
            time.sleep(0.05)
        raise TimeoutError(f"{expression} did not become true; the page says {self.console}")

    def press(self, selector: str, kind: str = "click") -> None:
        """The mouse goes down, up, or both, in the middle of what `selector` finds, as a hand would do it."""
        where = self.js(
            f"(() => {{ const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for step in ("mousePressed", "mouseReleased") if kind == "click" else (f"mouse{kind}",):
            self.call("Input.dispatchMouseEvent", type=step, x=where[0], y=where[1], button="left", clickCount=1)

    def move(self, x: float, y: float, button: str = "Moved", held: bool = False) -> None:
        """The mouse comes to a pixel; there it is "Pressed" or "Released", or goes on `held`."""
        down = held or button != "Moved"
        pressed = {"button": "left", "buttons": 1, "clickCount": 1} if down else {}
        self.call("Input.dispatchMouseEvent", type=f"mouse{button}", x=x, y=y, **pressed)

    def pixels(self) -> np.ndarray:
        """uint8 [H W 3], the window."""
        taken = self.call("Page.captureScreenshot", format="jpeg", quality=95)["data"]
        return simplejpeg.decode_jpeg(base64.b64decode(taken))

    def picture(self, path: Path) -> None:
        """A PNG of the window."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
