"""`wayhand serve`: answer robots and simulators with a policy, over websockets and shared memory."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from ..vla.bridge.local import LocalServer, default_path
from ..vla.bridge.memory import keep_freed_memory, settle_memory
from ..vla.bridge.replay import NullPolicy, ReplayPolicy
from ..vla.bridge.server import PolicyServer, ServerSettings
from ..vla.bridge.service import PolicyService
from ..vla.bridge.tls import server_context
from ..vla.bridge.tokens import read_token
from ..vla.bridge.wire import Limits
from ..vla.config import Config, instantiate
from ..vla.errors import ConfigError, RobotError, WayhandError
from .compose import load
from .trained import Fast, load_trained

HELP = """\
Usage: wayhand serve policy=null|replay|CHECKPOINT [host=ADDRESS] [port=PORT] [key=value …]

Serves a policy to any number of clients. Those of openpi need no change: WebsocketClientPolicy(host, port). Ours is
wayhand.vla.bridge.client.RemotePolicy, with the address this command prints. GET /healthz, /readyz and /metrics answer
on the same port, also while the policy computes. Ctrl-C ends it.

Examples:
  wayhand serve policy=null env=tabletop/reach
  wayhand serve policy=replay data=runs/reach episode=3
  wayhand serve policy=runs/reach-policy port=8000
  wayhand serve policy=runs/reach-policy 'names={observation/image: observation.images.front}'
  WAYHAND_TOKEN=… wayhand serve policy=runs/reach-policy host=0.0.0.0 certificate=cert.pem key=key.pem
"""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    env: Config
    checkpoint: str | None
    host: str
    port: int
    local: bool
    data: Path | None
    episode: int
    chunk: int
    names: dict[str, str] | None
    token_file: Path | None
    once: bool
    certificate: Path | None
    key: Path | None
    clients: int
    max_mb: float
    device: str
    fast: Fast
    threads: int
    log: Literal["debug", "info", "warning"]

    def __post_init__(self) -> None:
        for name, least in (("episode", 0), ("chunk", 1), ("clients", 1), ("max_mb", 0.001), ("threads", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"'{name}' is too small", expected=f"at least {least}", got=str(getattr(self, name)))
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("TLS needs a certificate and its key", run="certificate=cert.pem key=key.pem")

    def settings(self) -> ServerSettings:
        token = read_token(self.token_file)
        if self.once and token is None:
            raise ConfigError("'once' needs a token", run="token_file=PATH")
        return ServerSettings(
            host=self.host,
            port=self.port,
            token=token,
            once=self.once,
            tls=None if self.certificate is None or self.key is None else server_context(self.certificate, self.key),
            clients=self.clients,
        )


def main(overrides: list[str]) -> int:
    # `policy` is a group of configuration files elsewhere; here it is a value.
    given = [f"checkpoint={o.removeprefix('policy=')}" if o.startswith("policy=") else o for o in overrides]
    cfg, _ = load("serve", given, ServeConfig)
    logging.basicConfig(level=cfg.log.upper(), format="%(asctime)s %(levelname)s %(message)s")
    settings = cfg.settings()
    keep_freed_memory()
    policy, statistics = load_policy(cfg)
    limits = Limits(size=int(cfg.max_mb * 2**20))
    return serve(cfg, settings, PolicyService(policy=policy, names=cfg.names, statistics=statistics, limits=limits))


def load_policy(cfg: ServeConfig) -> tuple[Any, str]:
    """What `policy=` names, and the hash of its normalisation statistics (empty without)."""
    if cfg.checkpoint in (None, "null"):
        env = instantiate(cfg.env)
        try:
            return NullPolicy(spec=env.unwrapped.body, chunk=cfg.chunk), ""
        finally:
            env.close()
    if cfg.checkpoint == "replay":
        from ..datasets.store import Dataset

        if cfg.data is None:
            raise ConfigError("policy=replay needs a dataset", run="data=runs/reach episode=0")
        dataset = Dataset(cfg.data)
        if cfg.episode >= len(dataset):
            raise ConfigError("There is no such episode", expected=f"below {len(dataset)}", got=str(cfg.episode))
        return ReplayPolicy(episode=dataset.episode(cfg.episode), chunk=cfg.chunk), ""
    import torch

    torch.set_num_threads(cfg.threads)
    policy = load_trained(cfg.checkpoint or "", cfg.device, cfg.fast)
    return policy, policy.stats.sha256()


def serve(cfg: ServeConfig, settings: ServerSettings, service: PolicyService) -> int:
    """Until Ctrl-C or SIGTERM; raises where the policy cannot even answer once."""
    console = Console()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    with ExitStack() as stack:
        stack.enter_context(service)
        server = stack.enter_context(PolicyServer(service, settings))
        scheme = "ws" if settings.tls is None else "wss"
        console.print(f"listening on {scheme}://{settings.host}:{server.port}", soft_wrap=True)
        if cfg.local:
            path = default_path(server.port)
            stack.enter_context(LocalServer(service, path, cfg.clients))
            console.print(f"listening on local:{path}", soft_wrap=True)
        service.ready.add_done_callback(lambda _: None if ended.is_set() else _announce(console, server))
        while not ended.wait(0.5):
            if service.ready.done():
                _judge(service)
            if not service.worker.alive:
                raise RobotError("The policy's thread has ended")
    console.print("closed")
    return 0


def _announce(console: Console, server: PolicyServer) -> None:
    if server.ready:
        settle_memory()
        console.print("ready")


def _judge(service: PolicyService) -> None:
    error = service.ready.exception()
    if error is None:
        return
    if isinstance(error, WayhandError):
        raise error
    raise RobotError("The policy cannot answer", got=f"{type(error).__name__}: {error}") from error
