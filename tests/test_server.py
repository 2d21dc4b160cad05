"""The policy server: openpi's clients find what they expect, everybody else finds a closed door."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import ARM, OTHER, SPEC, TOKEN, WAIT, Blocked, Broken, Echo, Served, observation, openpi_request, served
from test_wire import HOSTILE
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from wayhand.vla.bridge import messages, wire
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.request_keys import RequestReader, request_of
from wayhand.vla.bridge.server import ServerSettings
from wayhand.vla.bridge.tokens import FRESH, Guard, challenge_in, is_loopback, proof, read_token
from wayhand.vla.contract import EnvSpec, Observation
from wayhand.vla.errors import ConfigError, RobotError, SpecError


@pytest.fixture(scope="module")
def echo() -> Iterator[Served]:
    with served(Echo()) as running:
        yield running


class Raw:
    """A client with no library of ours but the codec."""

    def __init__(self, address: str, **options: Any) -> None:
        options = {"compression": None, "max_size": None, "proxy": None, "open_timeout": WAIT, **options}
        self._link = connect(f"ws://{address}", **options).__enter__()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def hear(self) -> Any:
        frame = self._link.recv(timeout=WAIT)
        return frame if isinstance(frame, str) else wire.unpack(frame)

    def ask(self, request: dict[str, Any]) -> Any:
        self.send(wire.pack(request))
        return self.hear()

    def send(self, frame: bytes | str) -> None:
        self._link.send(frame)

    def pinged(self) -> bool:
        return self._link.ping().wait(WAIT)

    def closed(self) -> int:
        """The code the server closed with."""
        with pytest.raises(ConnectionClosed) as caught:
            self._link.recv(timeout=WAIT)
        return caught.value.rcvd.code if caught.value.rcvd else 0


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=WAIT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


# --- openpi's protocol -----------------------------------------------------------------------------------------


def test_a_connection_begins_with_metadata_and_goes_on_in_lockstep(echo: Served) -> None:
    with Raw(echo.address) as client:
        metadata = client.hear()
        assert (metadata["action_dim"], metadata["action_horizon"], metadata["control_hz"]) == (2, 4, 20.0)
        assert metadata["image_keys"] == ["front", "wrist"] and metadata["state_dim"] == 3
        assert EnvSpec.from_dict(metadata["wayhand"]["spec"]).diff(SPEC) == []
        for call in range(3):
            answer = client.ask(openpi_request(call))
            assert answer["actions"].shape == (4, 2)
            assert np.array_equal(answer["actions"][0], observation(call).state[:2])
            assert answer["actions"][1, 1] == call
            assert ("prev_total_ms" in answer["server_timing"]) == (call > 0)


def test_an_answer_holds_no_array_but_the_actions(echo: Served) -> None:
    """openpi's ActionChunkBroker slices the first axis of every array."""
    with Raw(echo.address) as client:
        client.hear()
        answers = [client.ask(openpi_request()), client.ask({**openpi_request(), messages.SEQUENCE: 1})]
    assert [[k for k, v in a.items() if isinstance(v, np.ndarray)] for a in answers] == [["actions"], ["actions"]]
    assert "wayhand" not in answers[0]


OPENPI = os.environ.get("WAYHAND_OPENPI_PYTHON", "")
OPENPI_CLIENT = """
import json, sys
import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
connect = lambda: WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]), api_key=sys.argv[2])
client = connect()
request = msgpack_numpy.unpackb(sys.stdin.buffer.read())
out = {"metadata": client.get_server_metadata()["action_dim"]}
out["actions"] = client.infer(request)["actions"].tolist()
broker = ActionChunkBroker(client, 4)
out["steps"] = [broker.infer(request)["actions"].tolist() for _ in range(4)]
try:
    client.infer({"prompt": "push"})
except RuntimeError as error:
    out["error"] = str(error)
out["again"] = connect().infer(request)["actions"].tolist()
out["bytes"] = msgpack_numpy.packb(request).hex()
print(json.dumps(out))
"""


@pytest.mark.skipif(not OPENPI, reason="WAYHAND_OPENPI_PYTHON names no Python with openpi-client")
def test_the_real_openpi_client_drives_our_policy() -> None:
    request = wire.pack(openpi_request())
    with served(Echo(), token=TOKEN) as running:
        command = [OPENPI, "-W", "ignore", "-c", OPENPI_CLIENT, str(running.server.port), TOKEN]
        done = subprocess.run(command, input=request, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    out = json.loads(done.stdout)
    assert bytes.fromhex(out["bytes"]) == request
    assert out["metadata"] == 2 and np.shape(out["actions"]) == (4, 2) and np.shape(out["steps"]) == (4, 2)
    assert np.allclose(out["steps"][0], observation().state[:2]) and out["again"][0] == out["actions"][0]
    assert out["error"].startswith(
        "Error in inference server:\nSpecError: The request lacks 'observation.images.front'"
    )


# --- while the policy computes ---------------------------------------------------------------------------------


def test_health_metrics_and_pings_are_answered_during_an_inference() -> None:
    policy = Blocked()
    with served(policy) as running, Raw(running.address) as client:
        client.hear()
        client.send(wire.pack({**openpi_request(), "prompt": "wait"}))
        assert policy.waiting.wait(WAIT)
        try:
            assert get(running.url("/healthz")) == (200, "OK\n")
            assert get(running.url("/readyz")) == (200, "ready\n")
            assert "wayhand_connections 1" in get(running.url("/metrics"))[1]
            assert client.pinged()
            with Raw(running.address) as second:
                assert second.hear()["action_dim"] == 2
        finally:
            policy.go.set()
        assert client.hear()["actions"].shape == (4, 2)


def test_warming_up_is_healthy_but_not_ready_and_connections_wait() -> None:
    policy = Blocked("")  # the first inference, of a blank observation
    with served(policy) as running:
        assert policy.waiting.wait(WAIT)
        with Raw(running.address) as client:
            try:
                assert get(running.url("/healthz"))[0] == 200 and get(running.url("/readyz"))[0] == 503
                assert client.pinged()
            finally:
                policy.go.set()
            assert client.hear()["action_horizon"] == 4
        assert get(running.url("/readyz"))[0] == 200


def test_a_policy_that_cannot_warm_up_is_not_served(caplog: pytest.LogCaptureFixture) -> None:
    class Dead(Echo):
        def act(self, *_: Any, **__: Any) -> Any:
            raise ValueError("the secret is in /home/me")

    with served(Dead()) as running, Raw(running.address) as client:
        told = client.hear()
        assert told.startswith("Unavailable") and "secret" not in told and client.closed() == 1011
        assert get(running.url("/healthz"))[0] == 200 and get(running.url("/readyz"))[0] == 503
        assert isinstance(running.service.ready.exception(), ValueError)


# --- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instruction", ["fail", "nan", "wide"])
def test_a_failing_policy_tells_its_client_a_number_and_its_log_the_rest(
    instruction: str, caplog: pytest.LogCaptureFixture
) -> None:
    with served(Broken()) as running:
        with Raw(running.address) as client, caplog.at_level(logging.ERROR, "wayhand.serve"):
            client.hear()
            told = client.ask({**openpi_request(), "prompt": instruction})
            assert isinstance(told, str) and told.startswith("InternalError") and len(told) < 120
            assert not any(word in told for word in ("secret", "Traceback", "File", "ValueError", "wayhand/"))
            assert client.closed() == 1011
        number = told.split()[-1]
        assert number in caplog.text and "Traceback" in caplog.text
        with Raw(running.address) as client:
            client.hear()
            assert client.ask(openpi_request())["actions"].shape == (4, 2)
        assert 'wayhand_requests_total{result="failed"} 1' in get(running.url("/metrics"))[1]


def test_hostile_frames_end_their_connection_and_nothing_else(echo: Served) -> None:
    with Raw(echo.address) as witness:
        witness.hear()
        for name, frame in HOSTILE.items():
            with Raw(echo.address) as client:
                client.hear()
                client.send(frame)
                told = client.hear()
                assert isinstance(told, str) and told.startswith("WireError") and len(told) < 400, name
                assert not any(word in told for word in ("Traceback", 'File "')) and client.closed() == 1007, name
        assert witness.ask(openpi_request())["actions"].shape == (4, 2)


@pytest.mark.parametrize(
    "frame", ["text", *map(wire.pack, [[], "a", 3, {}, {"wayhand/unknown": 1}, {"wayhand/reset": 1}])], ids=repr
)
def test_requests_that_are_none_are_refused(echo: Served, frame: bytes | str) -> None:
    with Raw(echo.address) as client:
        client.hear()
        client.send(frame)
        assert client.hear().startswith(("WireError", "SpecError")) and client.closed() == 1007


def masked_header(length: int) -> bytes:
    return bytes([0x82, 0xFF]) + struct.pack(">Q", length) + b"\0\0\0\0"


def test_a_frame_beyond_the_limit_is_refused_by_its_header() -> None:
    with served(Echo(), service={"limits": wire.Limits(size=10_000)}) as running:
        with Raw(running.address) as client:
            client.hear()
            client._link.socket.sendall(masked_header(2**31))
            assert client.closed() == 1009
        with Raw(running.address) as client:
            assert client.hear()["wayhand"]["max_bytes"] == 10_000
            with pytest.raises(ConnectionClosed):
                client.ask({**openpi_request(), "more": b"\0" * 20_000})
        with Raw(running.address) as client:
            client.hear()
            assert client.ask(openpi_request())["actions"].shape == (4, 2)


def test_garbage_instead_of_http_is_survived(echo: Served) -> None:
    for garbage in (b"\0" * 5000, b"\x80\x04pickle\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000):
        with socket.create_connection(("127.0.0.1", echo.server.port), WAIT) as link:
            link.settimeout(WAIT)
            try:
                link.sendall(garbage)
                link.shutdown(socket.SHUT_WR)
                while link.recv(65536):
                    pass
            except ConnectionError:
                pass
    assert get(echo.url("/healthz"))[0] == 200


def test_pages_of_browsers_are_turned_away(echo: Served) -> None:
    with pytest.raises(InvalidStatus) as caught:
        Raw(echo.address, origin="http://evil.example")
    assert caught.value.response.status_code == 403


# --- who may connect -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot.local", ""])
def test_only_the_loopback_goes_without_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="WAYHAND_TOKEN"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, token=TOKEN).token == TOKEN


def test_a_missing_or_wrong_token_is_refused() -> None:
    with served(Echo(), token=TOKEN) as running:
        for header in ({}, {"Authorization": "Api-Key wrong"}, {"Authorization": TOKEN}, {"Authorization": "Api-Key"}):
            with pytest.raises(InvalidStatus) as caught:
                Raw(running.address, additional_headers=header)
            response = caught.value.response
            assert response.status_code == 401 and challenge_in(response.headers["WWW-Authenticate"])
        assert get(running.url("/metrics"))[0] == 401 and get(running.url("/healthz"))[0] == 200
        status, page = get(running.url("/metrics"), Authorization=f"Bearer {TOKEN}")
        assert status == 200 and 'wayhand_denied_total{why="token"} 5' in page
        with Raw(running.address, additional_headers={"Authorization": f"Api-Key {TOKEN}"}) as client:
            assert client.hear()["action_dim"] == 2


def test_an_answer_to_a_challenge_works_once_and_not_for_long() -> None:
    clock = VirtualClock(100.0)
    guard = Guard(TOKEN, once=True, clock=clock)
    nonce = challenge_in(guard.challenge())
    assert nonce is not None
    assert not guard.admits(None) and not guard.admits(f"Api-Key {TOKEN}")
    assert not guard.admits(proof("another-token-of-length", nonce))
    assert guard.admits(proof(TOKEN, nonce)) and not guard.admits(proof(TOKEN, nonce))
    late = challenge_in(guard.challenge())
    assert late is not None
    clock.sleep_until(100.0 + FRESH)
    assert not guard.admits(proof(TOKEN, late))
    stranger = challenge_in(Guard(TOKEN, once=True, clock=clock).challenge())
    assert stranger is not None and not guard.admits(proof(TOKEN, stranger))
    for answer in (
        "Wayhand",
        "Wayhand :",
        "Wayhand é:x",
        f"Wayhand {nonce}",
        proof(TOKEN, "short"),
        proof(TOKEN, "a" * 64),
    ):
        assert not guard.admits(answer)


def test_a_replayed_handshake_is_refused() -> None:
    with served(Echo(), token=TOKEN, once=True) as running:
        with pytest.raises(InvalidStatus) as caught:
            Raw(running.address)
        nonce = challenge_in(caught.value.response.headers["WWW-Authenticate"])
        assert nonce is not None
        credential = {"Authorization": proof(TOKEN, nonce)}
        with Raw(running.address, additional_headers=credential) as client:
            assert client.hear()["action_dim"] == 2
        with pytest.raises(InvalidStatus):
            Raw(running.address, additional_headers=credential)


def test_tokens_come_from_private_files_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYHAND_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("WAYHAND_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(file)
    file.chmod(0o600)
    assert read_token(file) == TOKEN
    for bad in ("short", "with a\nline break in it", "ünicode-is-not-a-header"):
        file.write_text(bad)
        with pytest.raises(ConfigError, match="not one"):
            read_token(file)


def test_there_is_room_for_so_many_clients_only() -> None:
    with served(Echo(), clients=1) as running:
        with Raw(running.address) as client:
            client.hear()
            with pytest.raises(InvalidStatus) as caught:
                Raw(running.address)
            assert caught.value.response.status_code == 503
        running.until(lambda: "wayhand_connections 0" in get(running.url("/metrics"))[1])
        with Raw(running.address) as client:
            assert client.hear()["action_dim"] == 2


def test_a_port_that_is_taken_is_named(echo: Served) -> None:
    from wayhand.vla.bridge.server import PolicyServer
    from wayhand.vla.bridge.service import PolicyService

    with PolicyService(policy=Echo()) as service, pytest.raises(RobotError, match=str(echo.server.port)):
        with PolicyServer(service, ServerSettings(port=echo.server.port)):
            pass


# --- sessions and the contract ---------------------------------------------------------------------------------


def reset(name: str, **told: Any) -> dict[str, Any]:
    return {messages.SESSION: name, messages.RESET: told}


def test_sessions_have_memories_of_their_own_and_reset_forgets(echo: Served) -> None:
    def calls(client: Raw, name: str) -> float:
        return client.ask({**openpi_request(), messages.SESSION: name})["actions"][1, 1]

    with Raw(echo.address) as first, Raw(echo.address) as second:
        first.hear(), second.hear()
        for client, name in ((first, "a"), (first, "b"), (second, "a")):
            assert client.ask(reset(name, seed=3))["wayhand"] == {}
        assert [calls(first, "a"), calls(first, "a"), calls(first, "b"), calls(second, "a")] == [0, 1, 0, 0]
        first.ask(reset("a", seed=3))
        assert calls(first, "a") == 0
        assert first.ask({**openpi_request(), messages.SESSION: "never begun"}).startswith("SpecError")


def test_the_oldest_session_makes_room(echo: Served) -> None:
    with Raw(echo.address) as client:
        client.hear()
        for k in range(65):
            client.ask(reset(str(k)))
        assert client.ask({**openpi_request(), messages.SESSION: "64"})["actions"].shape == (4, 2)
        assert "given up" in client.ask({**openpi_request(), messages.SESSION: "0"})


def test_a_client_for_another_body_is_refused_name_by_name() -> None:
    with served(Echo(), service={"statistics": "abc"}) as running:
        for told, word in (
            ({"spec": OTHER.to_dict()}, "state order"),
            ({"statistics": "def"}, "statistics"),
            ({"spec": {"embodiment": 1}}, "EnvSpec"),
            ({"seed": -1}, "seed"),
        ):
            with Raw(running.address) as client:
                assert client.hear()["norm_stats_sha256"] == "abc"
                assert word in client.ask(reset("a", **told))
        with Raw(running.address) as client:
            client.hear()
            assert client.ask(reset("a", seed=1, spec=SPEC.to_dict(), statistics="abc")) == {"wayhand": {}}


# --- what a request may look like ------------------------------------------------------------------------------


def read(request: dict[str, Any], names: dict[str, str] | None = None) -> Observation:
    return RequestReader(SPEC, names)(wire.unpack(wire.pack(request)), 7.0)


def test_requests_of_every_dialect_are_the_same_observation() -> None:
    seen = observation()
    front, wrist = seen.images.values()
    dialects = [
        openpi_request(),
        request_of(seen, None),
        {"state": seen.state.astype(np.float64), "images": {"front": front.transpose(2, 0, 1), "wrist": wrist}},
        {"observation": {"state": seen.state.tolist(), "images": {"front": front, "wrist": wrist}}, "other": [1]},
        {"cam": front, "arm": seen.state[:2], "grip": float(seen.state[2]), "observation/wrist": wrist},
    ]
    names = {"cam": "observation.images.front", "arm": "observation.state[0:2]", "grip": "observation.state[2:3]"}
    for request in dialects:
        got = read({"prompt": "push", **request}, names)
        assert got.instruction == "push" and np.array_equal(got.state, seen.state)
        assert all(np.array_equal(got.images[k], seen.images[k]) for k in seen.images)
    assert read(dialects[1]).times == seen.times
    assert read(dialects[0]).times == {"front": 7.0, "wrist": 7.0, "state": 7.0}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"observation/state": np.zeros(2, np.float32)}, "observation.state"),
        ({"observation/state": np.array([0, np.nan, 0])}, "not finite"),
        ({"observation/state": np.array([0, 1e300, 0])}, "not finite"),
        ({"observation/state": "text"}, "observation.state"),
        ({"observation/state": [[1], [2, 3]]}, "observation.state"),
        ({"observation/front": np.zeros((6, 4, 3), np.float32)}, "uint8"),
        ({"observation/front": np.zeros((4, 6, 3), np.uint8)}, "(6, 4, 3)"),
        ({"observation/front": np.zeros((6, 4, 4), np.uint8)}, "(6, 4, 3)"),
        ({"observation.times.front": float("nan")}, "not a time"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "x" * 4097}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"arm": np.zeros(3)}, "observation.state"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(SpecError, match=word.replace("(", r"\(").replace(")", r"\)")):
        read({**openpi_request(), **change}, {"arm": "observation.state[0:2]"})


@pytest.mark.parametrize("prompt", ["", "x" * 4096, "\x01\x1b[31m\u202e", "ein Würfel"])
def test_any_text_is_an_instruction(prompt: str) -> None:
    assert read({**openpi_request(), "prompt": prompt}).instruction == prompt


def test_names_that_lead_nowhere_are_refused() -> None:
    for target in (
        "observation.images.back",
        "observation.state[2:9]",
        "observation.images.front[0:1]",
        "action",
        "x y",
    ):
        with pytest.raises(ConfigError, match="mapped"):
            RequestReader(SPEC, {"key": target})


def test_metrics_are_prometheus_text(echo: Served) -> None:
    with Raw(echo.address) as client:
        client.hear()
        client.ask(openpi_request())
        page = get(echo.url("/metrics"))[1]
    kinds = dict(line.split()[2:4] for line in page.splitlines() if line.startswith("# TYPE"))
    assert kinds["wayhand_requests_total"] == "counter" and kinds["wayhand_inference_seconds"] == "histogram"
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(values['wayhand_requests_total{result="ok"}']) >= 1 and values["wayhand_ready"] == "1"
    buckets = [int(v) for k, v in values.items() if k.startswith("wayhand_inference_seconds_bucket")]
    assert buckets == sorted(buckets) and buckets[-1] == int(values["wayhand_inference_seconds_count"])


def test_what_the_metadata_says_is_what_the_policy_is() -> None:
    told = messages.Terms(SPEC, 4, "abc", messages.EXTENSIONS, 100).to_metadata()
    back = messages.Terms.from_metadata(wire.unpack(wire.pack(told)))
    assert back.spec is not None and back.spec.diff(SPEC) == [] and back.statistics == "abc" and back.horizon == 4
    assert [e["name"] for e in told["action_space"]] == [e.name for e in ARM.elements]
    assert messages.Terms.from_metadata({"reset_pose": [1]}) == messages.Terms(None)
    for bad in (3, {**told, "wayhand": {**told["wayhand"], "protocol": 99}}, {**told, "wayhand": {"protocol": 1}}):
        with pytest.raises(RobotError):
            messages.Terms.from_metadata(bad)
