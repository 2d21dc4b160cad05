"""The console in a real browser: the page loads through the proxy, its buttons reach the robot, on a phone too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, chromium
from console_pages import STARVED, Disturbed, Page, Run, make_planner, session_of, undisturbed, until

from wayhand.vla.bridge.console.access import ConsoleSettings
from wayhand.vla.bridge.console.link import Console
from wayhand.vla.bridge.console.model3d import from_mjcf
from wayhand.vla.bridge.console.monitor import About
from wayhand.vla.bridge.console.panel import LET_GO
from wayhand.vla.bridge.console.view import EYE, FIELD_OF_VIEW
from wayhand.vla.bridge.session import Episode, Session

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium; apt-get install chromium")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with session_of() as running:
        yield running


@pytest.fixture(scope="module")
def desktop() -> Iterator[Browser]:
    with Browser(1100, 800) as browser:
        yield browser


@pytest.fixture(scope="module")
def phone() -> Iterator[Browser]:
    with Browser(390, 780, phone=True) as browser:
        yield browser


def shows(browser: Browser, state: str) -> None:
    """Wait until the page says `state`; raises `Disturbed` where the machine was too busy."""
    reason = "document.querySelector('#reason').textContent"
    browser.until(f"document.body.dataset.state === '{state}' || (document.body.dataset.state === 'fault' && {reason})")
    said = browser.js("document.body.dataset.state")
    if said != state and browser.js(reason).startswith(STARVED):
        raise Disturbed(said)
    assert said == state


def in_sight(browser: Browser, selector: str) -> bool:
    """Whether the middle of an element is what a finger there would touch."""
    return browser.js(
        f"(() => {{ const e = document.querySelector('{selector}'), r = e.getBoundingClientRect();"
        "return document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2) === e; })()"
    )


def test_the_stop_of_the_page_latches_the_loop(session: Session, desktop: Browser) -> None:
    def act(console: Console, run: Run, page: Page) -> None:
        desktop.open(console.url)
        assert "token" not in desktop.js("location.href")
        shows(desktop, "waiting")
        desktop.press("#start")
        shows(desktop, "driving")
        desktop.until("document.querySelector('#cameras img').naturalWidth === 4")
        desktop.until("document.querySelectorAll('.plot').length === 5")
        desktop.press("#estop", "Pressed")
        shows(desktop, "estop")
        assert session.estop.pressed and session.status.latched
        assert session.status.reason == "emergency stop: web console"
        assert desktop.js("document.querySelector('#start').disabled") is True
        desktop.press("#estop", "Released")
        desktop.press("#reset")
        shows(desktop, "waiting")
        until(lambda: not session.estop.pressed)  # the page may say so first
        assert desktop.console == []

    undisturbed(session, act)


def test_an_instruction_is_typed_and_told(session: Session, desktop: Browser) -> None:
    def act(console: Console, run: Run, page: Page) -> None:
        desktop.open(console.url)
        shows(desktop, "waiting")
        desktop.press("#instruction")
        desktop.js("document.querySelector('#instruction').select()")
        desktop.call("Input.insertText", text="stack the cubes")
        desktop.press("#tell")
        page.until(lambda n: n["instruction"] == "stack the cubes")
        assert console.instruction == "stack the cubes"

    undisturbed(session, act)


def test_on_a_phone_the_stop_is_always_in_sight(session: Session, phone: Browser) -> None:
    def act(console: Console, run: Run, page: Page) -> None:
        phone.open(console.url)
        shows(phone, "waiting")
        for scrolled in (0, 400, 100_000):
            phone.js(f"window.scrollTo(0, {scrolled})")
            assert in_sight(phone, "#estop") and in_sight(phone, "#start")
        assert phone.js("document.documentElement.scrollWidth") <= 390, "nothing is wider than the screen"
        assert phone.js("document.querySelector('#estop').getBoundingClientRect().height") > 48

    undisturbed(session, act)


def test_hold_to_run_on_a_phone(session: Session, phone: Browser) -> None:
    def act(console: Console, run: Run, page: Page) -> None:
        phone.open(console.url)
        shows(phone, "waiting")
        phone.press("#require")
        phone.until("!document.querySelector('#enable').hidden && document.querySelector('#start').hidden")
        phone.press("#enable", "Pressed")
        shows(phone, "driving")
        time.sleep(0.6)  # longer than one sign of it counts
        assert not run.outcomes or run.outcomes[-1].reason.startswith(STARVED)
        phone.press("#enable", "Released")
        shows(phone, "waiting")
        page.until(lambda n: run.outcomes)
        assert run.outcomes[-1].reason == LET_GO

    undisturbed(session, act)


def test_a_page_without_its_console_says_so(session: Session, desktop: Browser) -> None:
    def act(console: Console, run: Run, page: Page) -> None:
        desktop.open(console.url)
        shows(desktop, "waiting")

    undisturbed(session, act)  # which ends the console
    desktop.until("document.body.dataset.state === 'lost'")
    assert desktop.js("getComputedStyle(document.querySelector('#lost')).display") == "block"


# --- the hand in the 3D view ------------------------------------------------------------------------------------

TABLE = """
<mujoco>
  <statistic center="0.3 -0.2 0.05"/>
  <worldbody>
    <body><joint name="q1" type="slide" axis="1 0 0"/><geom type="box" size="0.02 0.3 0.01"/>
      <body><joint name="q2" type="slide" axis="0 1 0"/><geom type="sphere" size="0.03"/>
        <body><joint name="gripper_width" type="slide" axis="0 0 1"/><geom type="sphere" size="0.01"/></body></body>
    </body>
  </worldbody>
</mujoco>
"""
HAND = np.array([0.3, -0.2, 0.0])
"""Where the arm without physics has its hand at the start of episode 0."""


def on_screen(browser: Browser, point: np.ndarray, centre: tuple[float, float, float]) -> tuple[float, float]:
    """Pixel of a point [3] m in the 3D view, as its camera stands at first."""
    x, y, width, height = browser.js(
        "(() => { const r = document.querySelector('#view').getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height]; })()"
    )
    ahead = -EYE / np.linalg.norm(EYE)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    seen = point - (np.array(centre) + EYE)
    scale = height / 2 / np.tan(FIELD_OF_VIEW / 2) / (seen @ ahead)
    return x + width / 2 + scale * float(seen @ right), y + height / 2 - scale * float(seen @ np.cross(right, ahead))


def test_dragging_an_arrow_moves_the_target_along_it(desktop: Browser, tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="the 3D view needs viser: pip install 'wayhand[console]'")
    (tmp_path / "stick.xml").write_text(TABLE)
    model = partial(from_mjcf, tmp_path / "stick.xml", ["q1", "q2", "gripper_width"])
    shown = {"settings": ConsoleSettings(port=0), "about": About(100.0), "model": model, "by_hand": True}
    with session_of() as session, Console(session=session, **shown) as console:
        # An episode that ends at once: from now on the robot says where its hand is.
        session.run(Episode(0, {}, 4, 0.0), make_planner(session), lambda *_: session.estop.press("a test"))
        desktop.open(console.url)
        desktop.until("document.body.dataset.state === 'estop'")
        cell, centre = console.hand, model().centre
        assert cell is not None

        def told() -> dict[str, np.ndarray]:
            return cell.latest() or {"enabled": np.zeros(())}

        desktop.press("#take")
        until(lambda: told()["enabled"], "taking the hand")
        start = told()["position"]
        np.testing.assert_allclose(start, HAND, atol=0.01)
        shaft, end = (on_screen(desktop, start + np.array([d, 0.0, 0.0]), centre) for d in (0.12, 0.24))

        def drawn() -> bool:
            """The arrow along x is red; dragging beside it would turn the camera."""
            x, y = (round(v) for v in shaft)
            near = desktop.pixels()[y - 3 : y + 4, x - 3 : x + 4].astype(int)
            return bool(((near[..., 0] > 150) & (near[..., 1] < 120)).any())

        deadline = time.monotonic() + 150.0
        while not drawn():
            assert not desktop.console, desktop.console
            if time.monotonic() > deadline:
                pytest.skip("this machine has no time to draw")
            time.sleep(1.0)
        desktop.move(*shaft)
        desktop.move(*shaft, "Pressed")
        for share in np.linspace(0.1, 1.0, 10):
            desktop.move(*(a + share * (b - a) for a, b in zip(shaft, end, strict=True)), held=True)
        desktop.move(*end, "Released")
        until(lambda: told()["position"][0] - start[0] > 0.1, "the drag")
        moved = told()
        assert moved["enabled"] and moved["position"][0] - start[0] == pytest.approx(0.12, abs=0.02)
        assert np.abs(moved["position"][1:] - start[1:]).max() < 1e-6, "along the arrow and nowhere else"
        assert abs(moved["quaternion"][0]) > 1 - 1e-9
