"""What `wayhand deploy` is asked for, and the policy it drives with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..vla.bridge.client import RemotePolicy
from ..vla.bridge.memory import keep_freed_memory
from ..vla.bridge.planner import Chunking
from ..vla.bridge.process import LoopSettings
from ..vla.bridge.replay import NullPolicy
from ..vla.bridge.session import Episode
from ..vla.bridge.tokens import read_token
from ..vla.config import Config
from ..vla.contract import EnvSpec
from ..vla.errors import ConfigError
from ..vla.evaluation.protocols import TABLETOP_V1 as PROTOCOL
from .recording import DatasetSink
from .robots import FileRobot, Simulated, oracle_of
from .teleop_devices import DeviceName
from .trained import Fast, load_trained


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    env: Config
    robot: Config
    checkpoint: str
    instruction: str
    out: Path | None
    record: Path | None
    takeover: DeviceName | None
    rerun: bool | str | None
    seconds: float
    virtual: bool
    episodes: int
    workers: int
    baseline: Path | None
    seed: int
    split: str
    rate_hz: float
    execute: int
    chunking: Chunking
    guidance: Literal["exact", "identity", "trained"] | None
    guidance_limit: float | None
    latency_ms: float
    stale_ms: float
    threads: int
    fast: Fast
    priority: int
    awake_us: float
    token_file: Path | None
    timeout_ms: float
    shadow: bool
    console: bool
    console_host: str
    console_port: int
    console_token_file: Path | None
    console_certificate: Path | None
    console_key: Path | None
    console_model: Path | None

    def __post_init__(self) -> None:
        for name, least in (("seconds", 0), ("episodes", 1), ("workers", 1), ("execute", 1), ("latency_ms", 0),
                            ("stale_ms", 1), ("threads", 1), ("timeout_ms", 1), ("awake_us", 0)):  # fmt: skip
            if getattr(self, name) < least:
                raise ConfigError(f"'{name}' is too small", expected=f"at least {least}", got=str(getattr(self, name)))
        if self.guidance is not None and (self.chunking != "rtc" or self.remote):
            raise ConfigError("'guidance' is for chunking=rtc with a checkpoint of our own", got=self.guidance)
        if self.guidance_limit is not None and self.guidance not in ("exact", "identity"):
            raise ConfigError("'guidance_limit' is for guidance=exact or identity", got=str(self.guidance))
        if self.remote and self.virtual:
            raise ConfigError("A served policy answers in real time", run="leave virtual=true away")
        if self.takeover == "console" and not self.console:
            raise ConfigError("To take over in the console, there must be one", run="console=true")
        if (self.takeover or self.rerun) and self.virtual:
            raise ConfigError("'takeover' and 'rerun' are for a run in real time", run="leave virtual=true away")
        if self.console and self.virtual:
            raise ConfigError("console=true is for real time", run="leave virtual=true away")
        if self.baseline is not None and not self.virtual:
            raise ConfigError("Only a run in virtual time compares with a baseline", run="add virtual=true")

    @property
    def folder(self) -> Path:
        if self.out is not None:
            return self.out
        return (
            Path("runs/deploy")
            if self.checkpoint in ("none", "oracle") or self.remote
            else Path(self.checkpoint) / "deploy"
        )

    @property
    def remote(self) -> bool:
        """Whether the policy lives in a server of `wayhand serve`, or of openpi."""
        return "://" in self.checkpoint or self.checkpoint.startswith("local:")

    def settings(self, factory: Simulated | FileRobot) -> LoopSettings:
        return LoopSettings(
            rate_hz=self.rate_hz, stale=self.stale_ms / 1000, priority=self.priority, awake=self.awake_us / 1e6,
            guards=factory.guards, plausibility=factory.plausibility,
            traced=self.console or bool(self.rerun), shadow=self.shadow,
        )  # fmt: skip

    @property
    def sink(self) -> DatasetSink | None:
        return None if self.record is None else DatasetSink(self.record)

    def episode(self, seed: int, options: Mapping[str, Any]) -> Episode:
        return Episode(seed, dict(options), self.execute, self.latency_ms / 1000)

    @property
    def performance(self) -> Episode:
        """What a real robot does: one episode, which nobody resets and nobody judges."""
        return self.episode(self.seed, {"instruction": self.instruction, "seconds": self.seconds})

    def planned(self, count: int) -> list[Episode]:
        """The first episodes of an evaluation of this split, in its order."""
        tasks = self.env.get("tasks", ())
        requests = PROTOCOL.requests(self.split, count, base=self.seed, tasks=tasks)
        return [self.episode(r.seed, r.options) for r in requests]


def load_policy(cfg: DeployConfig, spec: EnvSpec, robot: Simulated | FileRobot) -> Any:
    """The checkpoint's policy, that of a server, the expert of a base's houses, or the one that stands still.

    A server's policy that cannot continue a chunk is not found out: the protocol does not say.
    """
    if cfg.checkpoint == "none":
        if cfg.chunking == "rtc":
            raise ConfigError("chunking=rtc continues the chunks of a policy", got="checkpoint=none")
        return NullPolicy(spec=spec)
    if cfg.checkpoint == "oracle":
        return oracle_of(robot, cfg.split)
    if cfg.remote:
        keep_freed_memory()
        token = read_token(cfg.token_file)
        return RemotePolicy(address=cfg.checkpoint, spec=spec, token=token, timeout=cfg.timeout_ms / 1000)
    import torch

    from ..policies.expert_flow import ExpertFlowPolicy
    from ..policies.flow import FlowPolicy

    torch.set_num_threads(cfg.threads)
    policy = load_trained(cfg.checkpoint, fast=cfg.fast)
    if cfg.chunking == "rtc" and not policy.supports_prefix:
        raise ConfigError(
            "This policy cannot continue a chunk",
            expected="one that denoises its chunks, such as policy=flow",
            got=type(policy).__name__,
            run="chunking=ensemble or chunking=latest",
        )
    if cfg.guidance is not None:
        if not isinstance(policy, FlowPolicy | ExpertFlowPolicy):
            raise ConfigError("Only flow policies let their guidance be chosen", got=type(policy).__name__)
        policy.continue_by(cfg.guidance, cfg.guidance_limit)
    return policy
