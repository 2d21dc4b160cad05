"""What every robot must do before a policy may drive it, as checks for the tests, `wayhand doctor` and your own robot.

`inspect` only reads; `exercise.exercise` moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...contract import EnvSpec, Observation
from ...errors import RobotError
from ..clock import Clock, MonotonicClock
from ..limits import joint_indices
from ..sensors import Plausibility
from .driver import Driver

SHARE = 0.8
"""Of the control rate, what states and pictures must at least come with."""
FUTURE = 0.002
"""Seconds by which a date may lie ahead of our clock."""


@dataclass(frozen=True)
class Check:
    """What one question came to; `mend` says what to do where it failed."""

    name: str
    passed: bool
    detail: str
    mend: str = ""


@dataclass
class _Samples:
    states: list[Observation]
    pictures: list[Observation]
    state_seconds: list[float]
    picture_seconds: list[float]
    ages: list[float]


def inspect(
    driver: Driver, *, seconds: float = 2.0, clock: Clock | None = None, plausibility: Plausibility | None = None
) -> list[Check]:
    """Look at a connected driver for `seconds` without moving it.

    Args:
        plausibility: how late its sensors may be.
    """
    clock, plausible = clock or MonotonicClock(), plausibility or Plausibility()
    checks = [*_names(driver), *_limits(driver)]
    try:
        samples = _watch(driver, seconds, clock)
    except RobotError as error:
        return [
            *checks,
            Check("senses", False, in_a_line(error), "every state element and camera of the spec must come"),
        ]
    checks += [*_state(driver, samples), *_rate(driver, samples, seconds), *_clocks(samples, plausible)]
    return [*checks, *_pictures(driver, samples)]


def commanded_joints(spec: EnvSpec) -> list[str]:
    """Names of the action elements that are joint positions."""
    return [e.name for group in spec.action if group.kind == "joint_position" for e in group.elements]


def in_a_line(error: Exception) -> str:
    """A message of ours without its line breaks."""
    return "; ".join(" ".join(line.split()) for line in str(error).splitlines())


def _names(driver: Driver) -> Iterator[Check]:
    state, joints = [e.name for e in driver.spec.state], commanded_joints(driver.spec)
    missing = [name for name in joints if name not in state]
    detail = f"{len(joints)} joints, {len(state)} measured" if not missing else f"not measured: {', '.join(missing)}"
    yield Check("names", not missing, detail, "put every commanded joint into the state")


def _limits(driver: Driver) -> Iterator[Check]:
    limits, want = driver.limits, commanded_joints(driver.spec)
    missing = [name for name in want if name not in limits.names]
    where = f"no limits of {', '.join(missing)}" if missing else f"of {len(want)} joints"
    yield Check("limits", not missing, where, "say them in the robot's file, [limits.<joint>]")
    jerk = "none is given" if limits.jerk is None else "given"
    yield Check("jerk limits", True, jerk if limits.jerk is not None else f"{jerk}: acceleration may turn in two ticks")


def _watch(driver: Driver, seconds: float, clock: Clock) -> _Samples:
    dt = driver.spec.control_dt
    samples = _Samples([], [], [], [], [])
    end, picture_due = clock.now() + seconds, clock.now()
    deadline = clock.now()
    while clock.now() < end:
        before = clock.now()
        samples.states.append(driver.read_state())
        now = clock.now()
        samples.state_seconds.append(now - before)
        samples.ages.append(now - samples.states[-1].times["state"])
        if now >= picture_due:
            picture_due = max(picture_due + dt, now)
            samples.pictures.append(driver.read())
            samples.picture_seconds.append(clock.now() - now)
        deadline = max(deadline + min(dt / 4, 0.01), clock.now())
        clock.sleep_until(deadline)
    return samples


def _state(driver: Driver, samples: _Samples) -> Iterator[Check]:
    spec = driver.spec
    for observation in (samples.states[-1], samples.pictures[-1]):
        state = observation.state
        if state.shape != (spec.state_dim,) or state.dtype != np.float32:
            yield Check("state", False, f"{state.dtype} {state.shape}", f"float32 [{spec.state_dim}] is expected")
            return
    values = np.stack([o.state for o in samples.states])
    bad = [e.name for e, ok in zip(spec.state, np.all(np.isfinite(values), axis=0).tolist(), strict=True) if not ok]
    yield Check("state", not bad, f"not finite: {', '.join(bad)}" if bad else f"{spec.state_dim} numbers, all finite")
    if bad or any(name not in [e.name for e in spec.state] for name in driver.limits.names):
        return
    index = joint_indices([e.name for e in spec.state], driver.limits.names)
    here, slack = values[-1][index], 1e-3
    outside = [
        f"{name} at {q:.3f} not in {low:.3f} … {high:.3f}"
        for name, q, low, high in zip(driver.limits.names, here, driver.limits.lower, driver.limits.upper, strict=True)
        if not low - slack <= q <= high + slack
    ]
    yield Check(
        "posture", not outside, "; ".join(outside) or "inside the limits", "move it there by hand, or wayhand calibrate"
    )


def _rate(driver: Driver, samples: _Samples, seconds: float) -> Iterator[Check]:
    wanted = SHARE / driver.spec.control_dt
    times = np.unique([o.times["state"] for o in samples.states])
    rate = (len(times) - 1) / max(times[-1] - times[0], 1e-9) if len(times) > 1 else 0.0
    gap = f", longest gap {np.diff(times).max() * 1000:.0f} ms" if len(times) > 1 else ""
    yield Check("state rate", rate >= wanted, f"{rate:.0f} Hz{gap}", f"at least {wanted:.0f} Hz are needed")
    slow = float(np.quantile(samples.state_seconds, 0.99))
    budget = driver.spec.control_dt / 2
    detail = f"p99 {slow * 1000:.1f} ms to read it"
    yield Check("state latency", slow <= budget, detail, f"at most {budget * 1000:.0f} ms, or commands wait for it")


def _clocks(samples: _Samples, plausible: Plausibility) -> Iterator[Check]:
    times = np.array([o.times["state"] for o in samples.states])
    oldest, newest = max(samples.ages), min(samples.ages)
    mend = "date observations by time.monotonic()"
    passed = newest > -FUTURE and oldest < 3600.0
    yield Check("clock", passed, f"states are {newest * 1000:.1f} … {oldest * 1000:.1f} ms old", mend)
    back = bool((np.diff(times) < 0).any())
    yield Check("order", not back, "a state is older than the one before" if back else "never back in time", mend)
    late = float(np.quantile(samples.ages, 0.99))
    limit = f"[plausibility] late is {plausible.late * 1000:.0f} ms"
    yield Check("state age", late <= plausible.late, f"p99 {late * 1000:.0f} ms", limit)


def _pictures(driver: Driver, samples: _Samples) -> Iterator[Check]:
    for camera in driver.spec.cameras:
        name = f"camera '{camera.name}'"
        seen = [o for o in samples.pictures if camera.name in o.images and camera.name in o.times]
        if not seen:
            yield Check(name, False, "no picture", "read must return every camera of the spec")
            continue
        image = seen[-1].images[camera.name]
        if image.shape != (camera.height, camera.width, 3) or image.dtype != np.uint8:
            want = f"uint8 ({camera.height}, {camera.width}, 3) is expected"
            yield Check(name, False, f"{image.dtype} {image.shape}", want)
            continue
        black = all(int(o.images[camera.name].max(initial=0)) <= Plausibility.dark for o in seen)
        times = np.unique([o.times[camera.name] for o in seen])
        rate = (len(times) - 1) / max(times[-1] - times[0], 1e-9) if len(times) > 1 else 0.0
        slow = float(np.quantile(samples.picture_seconds, 0.99))
        detail = f"{camera.height}×{camera.width}, {rate:.0f} Hz, p99 {slow * 1000:.0f} ms to read"
        enough = rate >= SHARE / driver.spec.control_dt
        mend = f"{SHARE / driver.spec.control_dt:.0f} Hz are needed"
        yield Check(name, enough and not black, f"{detail}{', black' if black else ''}", "light" if black else mend)
