"""The other side of the serving benchmark: openpi's own server and client, and the pattern of LeRobot's gRPC service.

    python serving_peer.py serve openpi|grpc          prints its port, serves a null policy until it is killed
    python serving_peer.py ask openpi|grpc PORT       for every line on the standard input: that many requests, their
                                                      seconds as one JSON line

Runs in an environment with openpi-client, openpi-server and grpcio. The gRPC side is the *pattern* of LeRobot's
asynchronous inference, written anew: an observation pickled and streamed in chunks, then a request for actions, which
come back pickled. Loopback only, and only here: pickle is what this benchmark measures against.
"""

import importlib
import json
import socket
import sys
import time
from concurrent import futures

import numpy as np

ACTIONS = np.zeros((50, 14), np.float32)
CHUNK = 2 << 20
LONGEST = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
SERVICE = "/transport.AsyncInference/"


def observation() -> dict:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2, 224, 224, 3), dtype=np.uint8)
    told = {"observation/front": images[0], "observation/wrist": images[1]}
    return {**told, "observation/state": np.zeros(14, np.float32), "prompt": "pick up the cup"}


def serve_openpi() -> None:
    server = importlib.import_module("openpi_server.websocket_policy_server")

    class Null:
        def infer(self, observation: dict) -> dict:
            return {"actions": ACTIONS.copy()}

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print(port, flush=True)
    server.WebsocketPolicyServer(Null(), host="127.0.0.1", port=port).serve_forever()


def serve_grpc() -> None:
    grpc, codec = importlib.import_module("grpc"), importlib.import_module("pickle")
    held = []

    def send_observations(parts, context) -> bytes:
        held[:] = [codec.loads(b"".join(parts))]
        return b""

    def get_actions(request, context) -> bytes:
        held.pop()
        return codec.dumps(list(ACTIONS.copy()))

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method == SERVICE + "SendObservations":
                return grpc.stream_unary_rpc_method_handler(send_observations)
            return grpc.unary_unary_rpc_method_handler(get_actions)

    server = grpc.server(futures.ThreadPoolExecutor(4), options=LONGEST)
    server.add_generic_rpc_handlers((Handlers(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def ask_openpi(port: int):
    client = importlib.import_module("openpi_client.websocket_client_policy").WebsocketClientPolicy("127.0.0.1", port)
    return lambda: client.infer(told)["actions"]


def ask_grpc(port: int):
    grpc, codec = importlib.import_module("grpc"), importlib.import_module("pickle")
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=LONGEST)
    send = channel.stream_unary(SERVICE + "SendObservations")
    get = channel.unary_unary(SERVICE + "GetActions")

    def ask() -> np.ndarray:
        data = codec.dumps(told)
        send(iter([data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]))
        return np.stack(codec.loads(get(b"")))

    return ask


if __name__ == "__main__":
    job, kind = sys.argv[1:3]
    told = observation()
    if job == "serve":
        {"openpi": serve_openpi, "grpc": serve_grpc}[kind]()
    ask = {"openpi": ask_openpi, "grpc": ask_grpc}[kind](int(sys.argv[3]))
    for line in sys.stdin:
        taken = []
        for _ in range(int(line)):
            start = time.perf_counter()
            actions = ask()
            taken.append(time.perf_counter() - start)
        assert actions.shape == (50, 14)
        print(json.dumps(taken), flush=True)
