"""Round trip of a served null policy, ours against openpi's server and LeRobot's gRPC pattern, interleaved.

    python scripts/bench/serving.py peers=PYTHON [rounds=5] [requests=1000] [warm=200]

Two 224² pictures and 14 joints go, 50 actions of 14 come back. PYTHON has openpi-client, openpi-server and grpcio.
Every server and every client is a process of its own. Also: how long `/healthz` takes while an inference runs. On a
busy machine start it under `chrt -r 5`, which is for all sides alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from wayhand.vla.bridge.client import RemotePolicy
from wayhand.vla.bridge.local import LocalServer
from wayhand.vla.bridge.memory import keep_freed_memory, settle_memory
from wayhand.vla.bridge.realtime import stolen_seconds
from wayhand.vla.bridge.replay import NullPolicy
from wayhand.vla.bridge.server import PolicyServer, ServerSettings
from wayhand.vla.bridge.service import PolicyService
from wayhand.vla.contract import ActionGroup, Camera, Element, EnvSpec, Observation

HERE = Path(__file__).parent
JOINTS = tuple(Element(f"q{i}", "rad") for i in range(14))
CAMERAS = tuple(Camera(name, 224, 224, 200.0, 200.0, 112.0, 112.0) for name in ("front", "wrist"))
ARM = ActionGroup("arm", "joint_position", JOINTS, (-3.0,) * 14, (3.0,) * 14)
SPEC = EnvSpec("bench", 0.05, CAMERAS, JOINTS, (ARM,))
NAMES = ("shared memory", "websocket", "openpi's client", "openpi", "gRPC+pickle")


class Slow(NullPolicy):
    """Takes as long as the instruction says, like an extension that lets go of the interpreter."""

    def act(self, observations: Sequence[Observation], memory: Any, **options: Any) -> Any:
        if observations[0].instruction.startswith("sleep"):
            time.sleep(float(observations[0].instruction.split()[1]))
        return super().act(observations, memory, **options)


def observation(instruction: str = "pick up the cup") -> Observation:
    images = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), dtype=np.uint8)
    times = dict.fromkeys(("front", "wrist", "state"), time.monotonic())
    return Observation(times, {"front": images[0], "wrist": images[1]}, np.zeros(14, np.float32), instruction)


def serve(path: str) -> None:
    """Our server, as `wayhand serve` sets it up: prints its port."""
    keep_freed_memory()
    with PolicyService(policy=Slow(spec=SPEC, chunk=50)) as service, PolicyServer(service, ServerSettings(port=0)) as s:
        with LocalServer(service, Path(path)):
            service.ready.result()
            settle_memory()
            print(s.port, flush=True)
            sys.stdin.read()


def ask(address: str) -> None:
    """Our client, as the peer's: a number of requests per line, their seconds as JSON."""
    keep_freed_memory()
    with RemotePolicy(address=address, timeout=10.0, patience=10.0) as policy:
        memory = policy.init(SPEC, [0])
        seen = observation()
        for line in sys.stdin:
            taken = []
            for _ in range(int(line)):
                start = time.perf_counter()
                chunks, memory, _ = policy.act([seen], memory, rng=[])
                taken.append(time.perf_counter() - start)
            assert chunks[0].actions.shape == (50, 14)
            print(json.dumps(taken), flush=True)


class Child:
    def __init__(self, stack: ExitStack, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(self.end)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def take(self, requests: int) -> list[float]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{requests}\n")
        self.process.stdin.flush()
        return self.hear()


def listening(port: int) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nobody listens on {port}")


def health_during_inference(port: int, seconds: float = 3.0) -> float:
    """The longest `/healthz` takes [s] while one inference of `seconds` runs."""
    with RemotePolicy(address=f"127.0.0.1:{port}", timeout=seconds + 10, patience=seconds + 10) as policy:
        memory = policy.init(SPEC, [0])
        slow = threading.Thread(target=lambda: policy.act([observation(f"sleep {seconds}")], memory, rng=[]))
        slow.start()
        longest, start = 0.0, time.monotonic()
        while slow.is_alive() and time.monotonic() - start < 0.9 * seconds:
            begun = time.perf_counter()
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10).close()
            longest = max(longest, time.perf_counter() - begun)
            time.sleep(0.02)
        slow.join()
    return longest


def main(options: dict[str, str]) -> None:
    peers, rounds = options["peers"], int(options.get("rounds", 5))
    requests, warm = int(options.get("requests", 1000)), int(options.get("warm", 200))
    peer, me = [peers, str(HERE / "serving_peer.py")], [sys.executable, __file__]
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONWARNINGS="ignore")
    with ExitStack() as stack:
        path = f"{stack.enter_context(tempfile.TemporaryDirectory())}/bench.sock"
        ours = Child(stack, [*me, "serve", path]).hear()
        openpi, grpc = (Child(stack, [*peer, "serve", kind]).hear() for kind in ("openpi", "grpc"))
        listening(ours), listening(openpi)
        commands = [
            [*me, "ask", f"local:{path}"],
            [*me, "ask", f"127.0.0.1:{ours}"],
            [*peer, "ask", "openpi", str(ours)],
            [*peer, "ask", "openpi", str(openpi)],
            [*peer, "ask", "grpc", str(grpc)],
        ]
        clients = {name: Child(stack, command) for name, command in zip(NAMES, commands, strict=True)}
        for client in clients.values():
            client.take(warm)
        stolen = stolen_seconds() or 0.0
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
        for number in range(rounds):
            for name, client in clients.items():
                taken = np.array(client.take(requests)) * 1e6
                found[name].append((float(np.percentile(taken, 50)), float(np.percentile(taken, 99))))
                p50, p99 = found[name][-1]
                print(f"round {number + 1}  {name:16} p50 {p50:7.0f} µs · p99 {p99:7.0f} µs", flush=True)
        longest = [health_during_inference(ours) for _ in range(2)]
        show(found)
        print(f"/healthz during a 3 s inference: at most {max(longest) * 1e3:.1f} ms")
        print(f"the hypervisor kept {(stolen_seconds() or 0.0) - stolen:.2f} CPU s meanwhile")


def show(found: dict[str, list[tuple[float, float]]]) -> None:
    for name in NAMES:
        p50, p99 = (statistics.median(column) for column in zip(*found[name], strict=True))
        print(f"median    {name:16} p50 {p50:7.0f} µs · p99 {p99:7.0f} µs")
    for us, them in (("websocket", "openpi"), ("openpi's client", "openpi"), ("gRPC+pickle", "shared memory")):
        ratios = [[a / b for a, b in zip(x, y, strict=True)] for x, y in zip(found[us], found[them], strict=True)]
        p50, p99 = (sorted(column) for column in zip(*ratios, strict=True))
        spread = f"(rounds {p50[0]:.2f} … {p50[-1]:.2f}; {p99[0]:.2f} … {p99[-1]:.2f})"
        print(f"{us} / {them}: p50 {statistics.median(p50):.2f}, p99 {statistics.median(p99):.2f} {spread}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] == ["ask"]:
        ask(sys.argv[2])
    else:
        main(dict(a.split("=", 1) for a in sys.argv[1:]))
