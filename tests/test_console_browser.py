"""The console in a real browser: the page loads through the proxy, its buttons reach the robot, on a phone too."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from browser import Browser, chromium
from console_pages import STARVED, Disturbed, Page, Run, session_of, undisturbed

from wayhand.vla.bridge.console.link import Console
from wayhand.vla.bridge.console.panel import LET_GO
from wayhand.vla.bridge.session import Session

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
        assert not session.estop.pressed and desktop.console == []

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
