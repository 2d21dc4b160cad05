"""The jerk-limited motion of one joint, exact in discrete time: where a stop ends, and how fast one may still go.

Everything here is in units of the tick: time in ticks, position in J·dt³, velocity in J·dt², acceleration in J·dt,
where J is the jerk limit. A tick is then

    a ← a + u with |u| ≤ 1,    v ← v + a,    p ← p + v,

`A` is the acceleration limit, and the *stop* is the fastest one: the acceleration that runs down to zero just when
the velocity does. Every formula is a closed sum over whole ticks with one fractional tick at the end, so a joint that
these functions let through can stop inside its limits without any margin for the discretisation. The continuous case
is the double S of Biagiotti and Melchiorri, *Trajectory Planning for Automatic Machines and Robots* (2008), §3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, copysign, floor, sqrt

TOLERANCE = 2e-7
"""Of all comparisons, in units of the tick: what differences of rounded positions leave uncertain, and no more."""
_PRECISE = 1e-9
_ITERATIONS = 40


def gained(a: float) -> float:
    """The velocity that an acceleration `a` ≥ 0 adds while it runs down to zero by 1 a tick, its own tick included."""
    n = floor(a)
    return (n + 1) * (a - n + n / 2)


def steepest(v: float) -> float:
    """The largest acceleration that adds at most `v` ≥ 0 while it runs down to zero: the inverse of `gained`."""
    n = floor((sqrt(8.0 * v + 1.0) - 1.0) / 2.0)
    return n + (v - n * (n + 1) / 2) / (n + 1)


def stop_acceleration(v: float, a: float, A: float) -> float:
    """The next acceleration of the fastest stop from velocity `v` and acceleration `a`."""
    ideal = -copysign(min(steepest(abs(v)), A), v)
    return min(max(ideal, a - 1.0), a + 1.0)


def stop_displacement(v: float, a: float, A: float) -> float:
    """How far the fastest stop goes from `v` and `a`, with the sign of its direction."""
    return _falling(v, a, A) if _levels_at(v, a) >= 0 else -_falling(-v, -a, A)


def stop_peak(v: float, a: float, A: float) -> float:
    """A bound ≥ 0 on how far the stop from `v` and `a` ever is above its start.

    Exact where the stop does not swing through zero velocity; it never grows along the stop itself.
    """
    if _levels_at(v, a) >= 0:
        return max(_falling(v, a, A), 0.0)
    return _braking(v, A) if v > 0 else 0.0


def _levels_at(v: float, a: float) -> float:
    """The velocity at which the acceleration reaches zero when it runs there at once."""
    beyond = abs(a) - 1.0
    return v if beyond <= 0 else v + copysign(gained(beyond), a)


def _braking(v: float, A: float) -> float:
    """Distance from `v` ≥ 0 with the braking already as strong as it will be: hold A, then run down to rest."""
    travelled, surplus = 0.0, v - gained(A)
    if surplus >= 0:
        ticks = floor(surplus / A) + 1
        travelled = ticks * v - A * ticks * (ticks + 1) / 2
        v = max(v - ticks * A, 0.0)
    s = steepest(v)
    n = floor(s)
    return travelled + n * (n + 1) / 2 * (s - n + (n - 1) / 3)


def _falling(v: float, a: float, A: float) -> float:
    """Distance of a stop that starts by lowering the acceleration: for states whose `_levels_at` is ≥ 0."""
    # The acceleration falls by 1 a tick until it meets what braking needs. That need is (x² + x + f(1−f))/2 in the
    # acceleration x, with f its fraction, which whole ticks leave alone: a quadratic in the number of ticks.
    fraction = -a - floor(-a)
    square = a * a / 2 - a / 2 + v - fraction * (1.0 - fraction) / 2
    meets = a + min(sqrt(square) if square > 0 else 0.0, A)
    m = max(ceil(meets - _PRECISE), 1) - 1
    travelled = m * v + m * (m + 1) / 2 * (a - (m + 2) / 3)
    return travelled + _braking(max(v + m * (a - (m + 1) / 2), 0.0), A)


def largest(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """The largest x in [low, high] with a non-decreasing `function(x)` ≤ target; `low` where there is none.

    Regula falsi with the Illinois rule and a bound on the work; what it returns is always on the allowed side.
    """
    over = function(high) - target
    if over <= TOLERANCE:
        return high
    under = function(low) - target
    if under >= 0:
        return low
    side = 0
    for k in range(_ITERATIONS):
        x = low - under * (high - low) / (over - under) if k % 8 != 7 else (low + high) / 2
        value = function(x) - target
        if value > 0:
            high, over = x, value
            under = under / 2 if side > 0 else under
            side = 1
        else:
            low, under = x, value
            if value > -_PRECISE:
                break
            over = over / 2 if side < 0 else over
            side = -1
        if high - low < _PRECISE:
            break
    return low


class Axis:
    """One joint's limits in units of the tick.

    Args:
        velocity, acceleration: largest magnitudes, in those units.
    """

    def __init__(self, velocity: float, acceleration: float) -> None:
        self.velocity, self.acceleration = velocity, acceleration
        self._slack = TOLERANCE * min(1.0, velocity, acceleration)
        # No stop from any allowed state is longer, so in the middle of the range the walls need no look.
        self._longest = _braking(velocity, acceleration) + velocity * (2.0 * acceleration + 4.0)

    def stop(self, v: float, a: float) -> float:
        """The next acceleration of the fastest stop."""
        return stop_acceleration(v, a, self.acceleration)

    def follow(
        self, v: float, a: float, gap: float, drift: float, above: float, below: float, following: bool
    ) -> tuple[float, bool]:
        """The next acceleration towards a moving reference.

        Args:
            v, a: present velocity and acceleration.
            gap: from the position to where the reference is at the end of the tick.
            drift: velocity of the reference.
            above, below: room to the upper and to the lower position limit, ≥ 0.
            following: whether the last tick ended on the reference.

        Returns the acceleration and whether the tick ends on the reference. A joint that follows passes every
        reference the limits admit; one that has lost it chooses the acceleration from which a stop relative to the
        moving reference would end on it, which is the fastest way back that does not overshoot.
        """
        A = self.acceleration
        stop = self.stop(v, a)
        high, low = min(a + 1.0, A), max(a - 1.0, -A)
        high = max(min(high, steepest(max(self.velocity - v, 0.0))), stop)
        low = min(max(low, -steepest(max(self.velocity + v, 0.0))), stop)
        exact = gap - v
        # A joint that comes upon the reference may only step onto it where the next tick can already stay there.
        reachable = low - self._slack <= exact <= high + self._slack
        if reachable and (following or (abs(gap - drift) <= 0.25 and abs(exact) <= 0.5)):
            if self._fits(v + exact, exact, above, below):
                return exact, True
            wanted = exact
        # Towards the reference from the side the joint is on, so that the finite precision does not overshoot.
        elif stop_displacement(v + stop - drift, stop, A) + v + stop <= gap:
            wanted = largest(lambda x: v + x + stop_displacement(v + x - drift, x, A), gap, low, high)
        else:
            wanted = -largest(lambda x: x - v - stop_displacement(v - x - drift, -x, A), -gap, -high, -low)
        change = self._admitted(v, stop, wanted, above, below)
        # Rounding must not make a reachable reference count as clipped, or overshoot it by a bit.
        return (exact, True) if reachable and abs(change - exact) <= self._slack else (change, False)

    def _fits(self, v: float, a: float, above: float, below: float) -> bool:
        """Whether a stop after a tick that ends with `v` and `a` keeps inside the position limits."""
        A = self.acceleration
        return (above > self._longest or v + stop_peak(v, a, A) <= above + TOLERANCE) and (
            below > self._longest or stop_peak(-v, -a, A) - v <= below + TOLERANCE
        )

    def _admitted(self, v: float, stop: float, wanted: float, above: float, below: float) -> float:
        """The acceleration nearest to `wanted` after which the joint can still stop; the stop's own always is."""
        A = self.acceleration
        if wanted > stop and above <= self._longest:
            return largest(lambda x: v + x + stop_peak(v + x, x, A), above, stop, wanted)
        if wanted < stop and below <= self._longest:
            return -largest(lambda x: x - v + stop_peak(x - v, x, A), below, -stop, -wanted)
        return wanted
