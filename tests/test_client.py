"""A served policy is the policy itself, on every transport; and a connection that fails never moves a robot wrongly."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import OTHER, SPEC, TOKEN, WAIT, Blocked, Broken, Echo, observation, served
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from wayhand.vla.bridge import local_memory, wire
from wayhand.vla.bridge.client import Counters, RemotePolicy
from wayhand.vla.bridge.local import LocalServer
from wayhand.vla.bridge.messages import EXTENSIONS, SEQUENCE, Terms
from wayhand.vla.bridge.replay import NullPolicy, ReplayPolicy
from wayhand.vla.bridge.service import PolicyService
from wayhand.vla.contract import ActionChunk, ActionGroup, Element, EnvSpec, EpisodeBuilder, Policy
from wayhand.vla.errors import ConfigError, RobotError, SpecError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """For sockets: their paths must be short."""
    with tempfile.TemporaryDirectory(prefix="wh") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def addresses(folder: Path) -> Iterator[dict[str, str]]:
    with served(Echo(), local=folder / "echo.sock") as running:
        yield {"websocket": running.address, "local": f"local:{folder / 'echo.sock'}"}


def remote(address: str, **options: Any) -> RemotePolicy:
    return RemotePolicy(address=address, **{"timeout": WAIT, "patience": WAIT, **options})


TRANSPORTS = pytest.mark.parametrize("transport", ["websocket", "local"])


# --- the same policy -------------------------------------------------------------------------------------------


@TRANSPORTS
def test_a_served_policy_gives_the_chunks_it_gives_here(transport: str, addresses: dict[str, str]) -> None:
    here, seeds = Echo(), [3, 5]
    # The draws of a served policy are those of `Planner` for the same seed.
    rng = [np.random.default_rng([seed, 2]) for seed in seeds]
    with remote(addresses[transport]) as there:
        assert isinstance(there, Policy) and there.spec.diff(SPEC) == []
        assert there.terms.horizon == 4 and there.terms.extensions == EXTENSIONS
        ours, theirs = here.init(SPEC, seeds), there.init(SPEC, seeds)
        prefix: list[ActionChunk | None] = [None, None]
        for call in range(3):
            seen = [observation(call, "push", 1.0 + call), observation(call + 9, "ein Würfel", 2.0 + call)]
            want, ours, _ = here.act(seen, ours, rng=rng, prefix=prefix, delay=call)
            got, theirs, _ = there.act(seen, theirs, rng=[], prefix=prefix, delay=call)
            for a, b in zip(want, got, strict=True):
                assert np.array_equal(a.actions, b.actions) and np.array_equal(a.times, b.times)
                assert a.observed_at == b.observed_at
            prefix = [want[0], None]
        assert theirs and there.counters.answers == there.counters.requests == 6


@TRANSPORTS
def test_another_body_is_refused_before_the_first_request(transport: str, addresses: dict[str, str]) -> None:
    with remote(addresses[transport]) as there, pytest.raises(SpecError, match="state order"):
        there.init(OTHER, [0])
    with pytest.raises(SpecError, match="wanted policy"):
        remote(addresses[transport], spec=OTHER)
    with pytest.raises(SpecError, match="statistics"):
        remote(addresses[transport], statistics="0" * 64)


@TRANSPORTS
def test_an_observation_that_does_not_fit_is_named_and_the_next_one_goes(
    transport: str, addresses: dict[str, str]
) -> None:
    seen = observation()
    small = type(seen)(seen.times, {**seen.images, "front": np.zeros((2, 2, 3), np.uint8)}, seen.state)
    with remote(addresses[transport]) as there:
        memory = there.init(SPEC, [0])
        with pytest.raises(SpecError, match=r"observation\.images\.front"):
            there.act([small], memory, rng=[])
        assert len(there.act([seen], memory, rng=[])[0][0]) == 4


@TRANSPORTS
@pytest.mark.parametrize("instruction", ["fail", "nan", "wide"])
def test_a_policy_that_fails_there_fails_here_without_its_secrets(
    transport: str, instruction: str, folder: Path
) -> None:
    path = folder / f"{instruction}.sock"
    with served(Broken(), local=path) as running:
        with remote(f"local:{path}" if transport == "local" else running.address) as there:
            memory = there.init(SPEC, [0])
            with pytest.raises(RobotError, match="InternalError") as caught:
                there.act([observation(0, instruction)], memory, rng=[])
            assert "secret" not in str(caught.value) and "Traceback" not in str(caught.value)
            assert len(there.act([observation()], memory, rng=[])[0][0]) == 4


# --- credentials -----------------------------------------------------------------------------------------------


def test_a_client_proves_the_token_without_sending_it() -> None:
    with served(Echo(), token=TOKEN, once=True) as running:
        for _ in range(2):
            with remote(running.address, token=TOKEN) as there:
                assert len(there.act([observation()], there.init(SPEC, [0]), rng=[])[0][0]) == 4
        with pytest.raises(ConfigError, match="wants a token"):
            remote(running.address)
        with pytest.raises(ConfigError, match="does not accept"):
            remote(running.address, token="another-token-of-length")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = tmp_path_factory.mktemp("tls")
    certificate, key = made / "certificate.pem", made / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    try:
        files = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*command, *files, *names], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no openssl that makes a certificate")
    return certificate, key


def test_tls_encrypts_and_a_stranger_s_certificate_is_refused(certificate: tuple[Path, Path]) -> None:
    from wayhand.vla.bridge.tls import server_context

    with served(Echo(), tls=server_context(*certificate)) as running:
        address = f"localhost:{running.server.port}"
        with remote(f"wss://{address}", authority=certificate[0]) as there:
            assert len(there.act([observation()], there.init(SPEC, [0]), rng=[])[0][0]) == 4
        for options in ({}, {"authority": certificate[0], "address": f"wss://127.0.0.1:{running.server.port}"}):
            with pytest.raises(ConfigError, match="certificate"):
                remote(**{"address": f"wss://{address}", **options})
        with pytest.raises(RobotError, match="No policy server answers"):
            remote(address, timeout=0.3, patience=0.3)  # without TLS
    with pytest.raises(ConfigError, match="openssl req"):
        server_context(certificate[1], certificate[0])


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "ws://", "127.0.0.1:x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises((ConfigError, RobotError)):
        remote(address, timeout=0.1, patience=0.1)


# --- faults ----------------------------------------------------------------------------------------------------

SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from serving import Echo, served
with served(Echo(), local=Path(sys.argv[2])) as running:
    running.service.ready.result(60)
    print(running.server.port, flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """An echo server in a process of its own."""
    command = [sys.executable, "-c", SERVER, str(HERE), str(path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child, int(child.stdout.readline())
    finally:
        child.kill()
        child.communicate()


def address_of(transport: str, path: Path, port: int) -> str:
    return f"local:{path}" if transport == "local" else f"127.0.0.1:{port}"


@TRANSPORTS
def test_a_killed_server_is_an_error_at_once_and_a_new_one_is_found(transport: str, folder: Path) -> None:
    path = folder / f"kill-{transport}.sock"
    with process(path) as (child, port):
        there = remote(address_of(transport, path, port), timeout=WAIT)
        memory = there.init(SPEC, [3])
        there.act([observation()], memory, rng=[])
        child.kill()
        child.wait()
    there._timeout = 0.3
    with pytest.raises(RobotError):
        there.act([observation(1)], memory, rng=[])
    there._timeout = WAIT
    options = {} if transport == "local" else {"port": port}
    with restarted(path, **options):
        chunks, _, _ = there.act([observation(2, time=50.0)], memory, rng=[])
        # The session began anew, and the chunk is for this observation, not for one of before.
        assert chunks[0].actions[1, 1] == 0 and chunks[0].observed_at == 50.0
        assert there.counters.connections == 2
        there.close()


@contextmanager
def restarted(path: Path, port: int = 0) -> Iterator[None]:
    from wayhand.vla.bridge.server import PolicyServer, ServerSettings

    with PolicyService(policy=Echo()) as service, LocalServer(service, path):
        with PolicyServer(service, ServerSettings(port=port)):
            yield


@TRANSPORTS
def test_a_stopped_server_costs_the_timeout_and_its_late_chunk_is_thrown_away(transport: str, folder: Path) -> None:
    path = folder / f"stop-{transport}.sock"
    with process(path) as (child, port):
        with remote(address_of(transport, path, port)) as there:
            memory = there.init(SPEC, [3])
            there.act([observation(0, time=1.0)], memory, rng=[])
            os.kill(child.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)  # a signal takes a while to arrive
            there._timeout = 0.2
            for moment in (2.0, 3.0):
                with pytest.raises(RobotError):
                    there.act([observation(1, time=moment)], memory, rng=[])
            os.kill(child.pid, signal.SIGCONT)
            there._timeout = WAIT
            chunks, _, _ = there.act([observation(2, time=4.0)], memory, rng=[])
            assert chunks[0].observed_at == 4.0 and np.array_equal(chunks[0].times, 4.0 + 0.05 * np.arange(1, 5))
            assert np.array_equal(chunks[0].actions[0], observation(2).state[:2])
            if transport == "websocket":  # one request was on its way, and only one
                assert there.counters.stale == 1 and there.counters.connections == 1
                assert chunks[0].actions[1, 1] == 2
            assert there.counters.timeouts >= 1


def test_patience_ends_a_connection_that_stays_silent() -> None:
    policy = Blocked()
    with served(policy) as running, remote(running.address, timeout=0.1, patience=0.3) as there:
        try:
            memory = there.init(SPEC, [0])
            with pytest.raises(RobotError, match="in time"):
                there.act([observation(0, "wait")], memory, rng=[])
            end = time.monotonic() + WAIT
            while there._link is not None and there._link.usable:
                assert time.monotonic() < end
                with pytest.raises(RobotError):
                    there.act([observation()], memory, rng=[])
        finally:
            policy.go.set()
        there._timeout = WAIT
        assert len(there.act([observation()], memory, rng=[])[0][0]) == 4
        assert there.counters.connections >= 2


@contextmanager
def fake(answer: Callable[[dict[str, Any], int], list[bytes | str]], metadata: Any = None) -> Iterator[str]:
    """A server that answers the k-th request with any frames."""
    told = Terms(SPEC, 4, "", EXTENSIONS, 0).to_metadata() if metadata is None else metadata

    def handler(link: ServerConnection) -> None:
        link.send(told if isinstance(told, (str, bytes)) else wire.pack(told))
        for k, frame in enumerate(link):
            for out in answer(wire.unpack(frame), k):
                link.send(out)

    with serve_websocket(handler, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def answer_to(request: dict[str, Any], **change: Any) -> bytes:
    seen = request.get("observation.times.state", 0.0)
    ours = {"sequence": request.get(SEQUENCE), "observed_at": seen, "times": [seen + 0.05 * k for k in (1, 2)]}
    return wire.pack({"actions": np.full((2, 2), seen, np.float32), "wayhand": ours, **change})


BAD_ANSWERS = {
    "wide": lambda r: answer_to(r, actions=np.zeros((2, 3))),
    "no actions": lambda r: wire.pack({"wayhand": {"sequence": r[SEQUENCE], "observed_at": 12.5, "times": [1.0]}}),
    "text actions": lambda r: answer_to(r, actions="left"),
    "empty": lambda r: answer_to(r, actions=np.zeros((0, 2))),
    "endless": lambda r: answer_to(r, actions=np.zeros((257, 2))),
    "times backwards": lambda r: answer_to(
        r, wayhand={"sequence": r[SEQUENCE], "observed_at": 12.5, "times": [2.0, 1.0]}
    ),
    "times not finite": lambda r: answer_to(
        r, wayhand={"sequence": r[SEQUENCE], "observed_at": 12.5, "times": [float("nan"), 1.0]}
    ),
    "another observation": lambda r: answer_to(
        r, wayhand={"sequence": r[SEQUENCE], "observed_at": 1.0, "times": [1.1, 1.2]}
    ),
    "a list": lambda r: wire.pack([1, 2]),
    "garbage": lambda r: b"\xc1",
    "a traceback": lambda r: "Traceback (most recent call last): …",
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_what_a_server_says_is_not_believed(kind: str) -> None:
    def answer(request: dict[str, Any], k: int) -> list[bytes | str]:
        return [answer_to(request) if k == 0 else BAD_ANSWERS[kind](request)]

    with fake(answer) as address, remote(address) as there:
        memory = there.init(SPEC, [0])
        with pytest.raises(RobotError):
            there.act([observation()], memory, rng=[])
        assert there.counters.answers == 0


@pytest.mark.parametrize("metadata", [3, "text", b"\xc1", {}, {"wayhand": {"protocol": 7}}], ids=repr)
def test_a_server_that_begins_otherwise_is_not_used(metadata: Any) -> None:
    with fake(lambda r, k: [], metadata) as address, pytest.raises((RobotError, SpecError)):
        remote(address, timeout=0.2, patience=0.2)


def test_lost_late_doubled_and_reordered_answers_never_take_another_s_place() -> None:
    """Frames of a bad network: each request is answered now, later, twice or never, in any order."""
    for timeout in (0.05, 0.3, 2.0):  # what is late on this machine
        counters = bad_network(timeout)
        if counters.stale and counters.answers:
            break
    assert counters.timeouts > 0 and counters.stale > 0 and counters.answers > 0


def bad_network(timeout: float) -> Counters:
    rng, held = np.random.default_rng(0), []

    def answer(request: dict[str, Any], k: int) -> list[bytes | str]:
        if "wayhand/reset" in request:
            return [answer_to(request)]
        held.append(answer_to(request))
        out: list[bytes | str] = []
        if rng.random() > 0.3:
            out = [held[i] for i in rng.permutation(len(held))]
            out += [held[0]] if rng.random() < 0.3 else []
            held.clear()
        return out

    with ExitStack() as stack:
        address = stack.enter_context(fake(answer))
        try:
            there = stack.enter_context(remote(address, timeout=timeout, patience=1.2 * timeout))
        except RobotError:  # not even that fast
            return Counters()
        memory, got = None, []
        for k in range(60 if timeout < 0.1 else 12):
            seen = observation(k, time=float(k))
            try:
                memory = memory or there.init(SPEC, [0])
                chunks, _, _ = there.act([seen], memory, rng=[])
            except RobotError:
                continue
            assert chunks[0].observed_at == k and (chunks[0].actions == k).all() and (chunks[0].times > k).all()
            got.append(k)
        counters = there.counters
    assert got == sorted(got) and len(got) == counters.answers
    return counters


# --- openpi's server -------------------------------------------------------------------------------------------

OPENPI = os.environ.get("WAYHAND_OPENPI_PYTHON", "")
OPENPI_SERVER = """
import socket, sys
import numpy as np
from openpi_server.websocket_policy_server import WebsocketPolicyServer
class Policy:
    def infer(self, request):
        if request["prompt"] == "fail":
            raise ValueError("no")
        actions = np.zeros((4, 2), np.float32)
        actions[0] = request["observation/state"][:2]
        actions[1] = request["observation/image"].sum(), request["grip"][0]
        return {"actions": actions}
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
print(port, flush=True)
WebsocketPolicyServer(Policy(), host="127.0.0.1", port=port, metadata={"reset_pose": [0, 1]}).serve_forever()
"""
NAMES = {
    "observation/image": "observation.images.front",
    "observation/state": "observation.state",
    "grip": "observation.state[2:3]",
}


@pytest.mark.skipif(not OPENPI, reason="WAYHAND_OPENPI_PYTHON names no Python with openpi-server")
def test_our_client_drives_the_real_openpi_server() -> None:
    command = [OPENPI, "-W", "ignore", "-c", OPENPI_SERVER]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert child.stdout is not None
        address = f"127.0.0.1:{int(child.stdout.readline())}"
        with pytest.raises(SpecError, match="spec="):
            remote(address)
        with remote(address, spec=SPEC, names=NAMES) as there:
            memory = there.init(SPEC, [0])
            for k in range(2):
                seen = observation(k, time=3.0)
                chunk = there.act([seen], memory, rng=[])[0][0]
                assert np.array_equal(chunk.actions[0], seen.state[:2])
                assert chunk.actions[1].tolist() == [seen.images["front"].sum(), seen.state[2]]
                assert np.allclose(chunk.times, 3.0 + 0.05 * np.arange(1, 5)) and chunk.observed_at == 3.0
            with pytest.raises(RobotError, match="ValueError"):
                there.act([observation(0, "fail")], memory, rng=[])
            assert len(there.act([observation()], memory, rng=[])[0][0]) == 4
    finally:
        child.kill()
        child.communicate()


# --- shared memory ---------------------------------------------------------------------------------------------


def attach(path: Path, send: Callable[[socket.socket], None]) -> bytes:
    """What the server says to a client that misbehaves; empty where it hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(WAIT)
        link.connect(str(path))
        assert link.recv(local_memory.LONGEST).startswith(local_memory.HELLO)
        send(link)
        return link.recv(local_memory.LONGEST)


def with_memory(size: int, *, sealed: bool) -> Callable[[socket.socket], None]:
    def send(link: socket.socket) -> None:
        handle = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        os.ftruncate(handle, size)
        if sealed:
            fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        link.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [handle]))])
        os.close(handle)

    return send


def test_strange_clients_on_this_host_are_dropped(folder: Path, addresses: dict[str, str]) -> None:
    path = Path(addresses["local"].removeprefix("local:"))
    memory = local_memory.Memory(SPEC)
    size = os.fstat(memory.handle).st_size
    memory.close()
    for send in (with_memory(size, sealed=False), with_memory(size - 1, sealed=True), with_memory(10, sealed=True)):
        assert b"memory is not" in attach(path, send)
    request = local_memory.REQUEST.pack(local_memory.INFER, 0, 1, 0, 0)
    for message in (b"x", request, b"\x80\x04pickle", b"\0" * 50_000):
        assert attach(path, lambda link, m=message: link.sendall(m)) == b""
    with remote(addresses["local"]) as there:
        assert len(there.act([observation()], there.init(SPEC, [0]), rng=[])[0][0]) == 4


def test_strange_requests_on_this_host_are_refused(addresses: dict[str, str]) -> None:
    path = Path(addresses["local"].removeprefix("local:"))
    requests = [(99, 0, b""), (local_memory.INFER, 257, b""), (local_memory.INFER, 0, b"\xff\xfe")]
    requests += [(local_memory.RESET, 0, told) for told in (b"", b"\xc1", wire.pack([]), wire.pack({"seed": "x"}))]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(WAIT)
        link.connect(str(path))
        link.recv(local_memory.LONGEST)
        memory = local_memory.Memory(SPEC)
        socket.send_fds(link, [b"x"], [memory.handle])
        link.recv(local_memory.LONGEST)
        for kind, rows, told in requests:
            link.sendall(local_memory.REQUEST.pack(kind, rows, 5, 0, 0) + told)
            answer = link.recv(local_memory.LONGEST)
            got, count, number, _ = local_memory.ANSWER.unpack_from(answer)
            assert (got, count, number) == (local_memory.REFUSED, 0, 5) and b"Traceback" not in answer
        memory.close()


def test_the_socket_is_its_owner_s_alone(folder: Path) -> None:
    open_to_all = folder / "open"
    open_to_all.mkdir(mode=0o755)
    with PolicyService(policy=Echo()) as service:
        with pytest.raises(ConfigError, match="chmod 700"), LocalServer(service, open_to_all / "a.sock"):
            pass
        stale = folder / "stale.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(str(stale))
        with LocalServer(service, stale), remote(f"local:{stale}") as there:
            assert there.spec.diff(SPEC) == []
            with pytest.raises(RobotError, match="cannot listen"), LocalServer(service, stale):
                pass
        assert not stale.exists()
    with pytest.raises(RobotError, match="No policy server answers"):
        remote(f"local:{stale}", timeout=0.3, patience=0.3)


def test_a_warming_policy_is_found_on_this_host_once_it_is_ready(folder: Path) -> None:
    policy = Blocked("")
    with served(policy, local=folder / "warm.sock"):
        assert policy.waiting.wait(WAIT)
        with pytest.raises(RobotError, match="No policy server answers"):
            remote(f"local:{folder / 'warm.sock'}", timeout=0.1, patience=0.1)
        policy.go.set()
        with remote(f"local:{folder / 'warm.sock'}") as there:
            assert there.terms.horizon == 4


# --- policies without a model ----------------------------------------------------------------------------------


def test_the_null_policy_asks_for_rest() -> None:
    policy = NullPolicy(spec=SPEC, chunk=3)
    seen = observation()
    chunks, _, _ = policy.act([seen], policy.init(SPEC, [0]), rng=[])
    assert np.array_equal(chunks[0].actions, np.tile(seen.state[:2], (3, 1)))
    assert np.allclose(chunks[0].times - seen.time, [0.05, 0.1, 0.15]) and chunks[0].observed_at == seen.time
    base = ActionGroup("base", "base_velocity", (Element("v", "m/s"), Element("w", "rad/s")), (-1.0,) * 2, (1.0,) * 2)
    moves = ActionGroup("moves", "discrete", (Element("move", ""),), (0.0,), (3.0,), choices=("go", "left", "stop"))
    both = EnvSpec("rover", 0.1, (), SPEC.state, (base, moves))
    assert NullPolicy(spec=both).act([seen], (), rng=[])[0][0].actions[0].tolist() == [0, 0, 2]
    pose = ActionGroup("arm", "ee_pose", (Element("x", "m"),), (-1.0,), (1.0,), frame="world")
    with pytest.raises(SpecError, match="rest"):
        NullPolicy(spec=EnvSpec("arm", 0.1, (), SPEC.state, (pose,)))


def test_a_replay_repeats_the_episode_by_its_time_and_then_rests() -> None:
    builder = EpisodeBuilder(SPEC, "push")
    for k in range(5):
        builder.add(observation(k, time=0.05 * k), np.array([k, -k], np.float32), 0.0)
    episode = builder.finish(observation(5, time=0.25), True, {})
    policy = ReplayPolicy(episode=episode, chunk=3)
    memory = policy.init(SPEC, [0])
    rows = []
    for moment in (100.0, 100.1, 100.2, 100.4):  # two rows between two observations, whatever the clock says
        chunks, memory, _ = policy.act([observation(time=moment)], memory, rng=[])
        rows.append(chunks[0].actions[:, 0].tolist())
        assert np.allclose(chunks[0].times - moment, [0.05, 0.1, 0.15])
    assert rows == [[0, 1, 2], [2, 3, 4], [4, 4, 4], [4, 4, 4]]
    speed = ActionGroup("base", "base_velocity", SPEC.action[0].elements, (-9.0,) * 2, (9.0,) * 2)
    moving = EnvSpec("stick", 0.05, SPEC.cameras, SPEC.state, (speed,))
    driven = type(episode)(moving, episode.instruction, episode.columns, episode.final)
    chunks, _, _ = ReplayPolicy(episode=driven, chunk=7).act([observation()], [None], rng=[])
    assert chunks[0].actions[:, 0].tolist() == [0, 1, 2, 3, 4, 0, 0]
