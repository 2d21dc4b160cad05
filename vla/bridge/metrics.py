"""Counters, gauges and histograms in Prometheus' text format (0.0.4), of fixed size."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper edges of a histogram of durations."""
_HELD = 4096
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counter:
    """Only grows. One value per word of `words` for the label `label`, or one in all."""

    def __init__(self, name: str, text: str, label: str = "", words: Sequence[str] = ("",)) -> None:
        self._name, self._text, self._label = name, text, label
        self._values = dict.fromkeys(words, 0.0)

    def add(self, amount: float = 1.0, word: str = "") -> None:
        """Raises `KeyError` for a word that was not declared."""
        self._values[word] += amount

    def lines(self) -> list[str]:
        head = [f"# HELP {self._name} {self._text}", f"# TYPE {self._name} counter"]
        labels = ((f'{{{self._label}="{word}"}}' if word else "", value) for word, value in self._values.items())
        return head + [f"{self._name}{label} {value:.10g}" for label, value in labels]


class Gauge:
    """Goes up and down; asked for when it is shown."""

    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def lines(self) -> list[str]:
        value = f"{self._name} {self._read():.10g}"
        return [f"# HELP {self._name} {self._text}", f"# TYPE {self._name} gauge", value]


class Histogram:
    """Durations in seconds, by upper edge."""

    def __init__(self, name: str, text: str, edges: Sequence[float] = SECONDS) -> None:
        self._name, self._text, self._edges = name, text, tuple(edges)
        self._counts, self._sum = [0] * (len(self._edges) + 1), 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._edges, seconds)] += 1
        self._sum += seconds

    def lines(self) -> list[str]:
        counts, total = list(self._counts), self._sum
        out = [f"# HELP {self._name} {self._text}", f"# TYPE {self._name} histogram"]
        below = 0
        for edge, count in zip((*self._edges, float("inf")), counts, strict=True):
            below += count
            name = "+Inf" if edge == float("inf") else f"{edge:g}"
            out.append(f'{self._name}_bucket{{le="{name}"}} {below}')
        return [*out, f"{self._name}_sum {total:.10g}", f"{self._name}_count {below}"]


class ServingMetrics:
    """What a policy server says of itself."""

    def __init__(self) -> None:
        results = ("ok", "refused", "failed")
        self.requests = Counter("wayhand_requests_total", "Requests answered, by result.", "result", results)
        self.bytes_in = Counter("wayhand_received_bytes_total", "Bytes of requests.")
        self.bytes_out = Counter("wayhand_sent_bytes_total", "Bytes of answers.")
        self.denied = Counter("wayhand_denied_total", "Connections turned away.", "why", ("token", "full"))
        self.inference = Histogram("wayhand_inference_seconds", "Time in the policy.")
        self.waiting = Histogram("wayhand_waiting_seconds", "Time before the policy was free.")
        self.gauges: list[Gauge] = []
        self._answers: deque[tuple[int, int, float, float]] = deque()
        self._lock = threading.Lock()

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        self.gauges.append(Gauge(name, text, read))

    def answered(self, received: int, sent: int, waited: float, took: float) -> None:
        """One request answered: bytes in, bytes out, seconds before its turn came, seconds in the policy."""
        self._answers.append((received, sent, waited, took))
        if len(self._answers) >= _HELD:
            self._count()

    def _count(self) -> None:
        """Answers are noted at once and counted when somebody looks: a request should not pay for it."""
        with self._lock:
            for _ in range(len(self._answers)):
                received, sent, waited, took = self._answers.popleft()
                self.requests.add(1, "ok")
                self.bytes_in.add(received)
                self.bytes_out.add(sent)
                self.waiting.add(waited)
                self.inference.add(took)

    def render(self) -> str:
        """The page Prometheus reads."""
        self._count()
        parts = (self.requests, self.bytes_in, self.bytes_out, self.denied, self.inference, self.waiting, *self.gauges)
        return "\n".join(line for part in parts for line in part.lines()) + "\n"
