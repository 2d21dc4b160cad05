"""A participant of a DDS domain that a ROS 2 graph takes for one of its own: Eclipse Cyclone DDS without ROS.

Payloads are CDR bytes made by `cdr`; Cyclone learns the types for discovery alone, since its own Python serialiser
needs milliseconds for an image.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import quoteattr

from ...errors import ConfigError, RobotError
from .cdr import Array, Message, Sequence, Type
from .ros2_messages import dds_topic, dds_type

_BLOCK_NS = 5_000_000  # longest wait of a writer; with a history of one sample it has nothing to wait for
_DEPTH = 16  # samples a reader keeps until they are taken
_domains: dict[int, tuple[str, Any]] = {}
_domains_lock = threading.Lock()


def network_xml(network: str) -> str:
    """Cyclone's configuration (the content of a CYCLONEDDS_URI): one interface, by its name or address.

    On loopback there is no multicast; participants find each other by unicast to 127.0.0.1.
    """
    local = network in ("lo", "127.0.0.1")
    attribute = "address" if network[:1].isdigit() else "name"
    peers = '<Peers><Peer address="127.0.0.1"/></Peers><MaxAutoParticipantIndex>120</MaxAutoParticipantIndex>'
    return (
        f"<CycloneDDS><Domain><General><Interfaces><NetworkInterface {attribute}={quoteattr(network)}/></Interfaces>"
        f"<AllowMulticast>{'false' if local else 'spdp'}</AllowMulticast></General>"
        f"<Discovery><ParticipantIndex>auto</ParticipantIndex>{peers if local else ''}</Discovery>"
        "</Domain></CycloneDDS>"
    )


def _cyclone(module: str) -> Any:
    try:
        return importlib.import_module(f"cyclonedds.{module}")
    except ImportError as error:
        raise ConfigError(
            "ROS 2 robots need Cyclone DDS", got=str(error), run="pip install --no-deps cyclonedds==11.0.1"
        ) from error


def _domain(number: int, network: str) -> None:
    """Configure a domain of this process; Cyclone does that once and for all participants."""
    with _domains_lock:
        if number not in _domains:
            try:
                _domains[number] = (network, _cyclone("domain").Domain(number, network_xml(network)))
            except _cyclone("core").DDSException as error:
                raise RobotError(
                    f"DDS domain {number} cannot be opened on the network interface '{network}'", got=str(error)
                ) from error
        elif _domains[number][0] != network:
            raise ConfigError(
                f"DDS domain {number} of this process has its network already",
                expected=_domains[number][0],
                got=network,
            )


def _hold(self: Any, payload: bytes) -> None:
    self.payload = payload


def _serialize(self: Any, **_: Any) -> bytes:
    return self.payload


def _deserialize(cls: Any, data: bytes, **_: Any) -> Any:
    return cls(bytes(data))


@functools.cache
def _type(message: Message, top: bool) -> Any:
    """The Cyclone type of a message; the topmost one passes bytes."""
    types = _cyclone("idl.types")

    def of(kind: Type) -> Any:
        if isinstance(kind, Message):
            return _type(kind, False)
        if isinstance(kind, Sequence):
            return types.sequence[of(kind.of)]
        if isinstance(kind, Array):
            return types.array[of(kind.of), kind.length]
        return {"string": str, "bool": bool}.get(kind) or getattr(types, kind)

    fields = {name: of(kind) for name, kind in message.fields}
    name = message.name.split("/")[1] + "_"
    made: Any = _cyclone("idl").make_idl_struct(name, dds_type(message).replace("::", "."), fields)
    if top:
        made.__init__, made.serialize, made.deserialize = _hold, _serialize, classmethod(_deserialize)
    return made


def _qos(reliability: Any, depth: int) -> Any:
    core = _cyclone("core")
    policy = core.Policy
    # ROS 2 writes the first version of CDR; Cyclone alone would offer the second one, too.
    version = policy.DataRepresentation(use_cdrv0_representation=True)
    return core.Qos(reliability, policy.Durability.Volatile, policy.History.KeepLast(depth), version)


class DdsWriter:
    """Publishes payloads on a topic of ROS 2."""

    def __init__(self, topic: str, kind: Any, writer: Any) -> None:
        self._topic, self._kind, self._writer = topic, kind, writer

    @property
    def matched(self) -> bool:
        """Whether somebody listens."""
        return bool(self._writer.get_matched_subscriptions())

    def __call__(self, payload: bytes) -> None:
        try:
            self._writer.write(self._kind(payload))
        except _cyclone("core").DDSException as error:
            raise RobotError(f"A command could not be written to '{self._topic}'", got=str(error)) from error


class Participant:
    """Publishers and subscriptions of one process.

    Args:
        domain: ROS_DOMAIN_ID.
        network: interface by name or address; the whole process uses one for a domain.

    Raises `ConfigError` without Cyclone DDS, `RobotError` where the network cannot be had.
    """

    def __init__(self, *, domain: int = 0, network: str = "127.0.0.1") -> None:
        _domain(domain, network)
        self._participant: Any = _cyclone("domain").DomainParticipant(domain)
        self._kept: list[Any] = []

    def writer(self, topic: str, message: Message) -> DdsWriter:
        """Publishes payloads: reliable, volatile, the newest sample only, which every kind of subscription accepts."""
        reliable = _cyclone("core").Policy.Reliability.Reliable(max_blocking_time=_BLOCK_NS)
        kind = _type(message, True)
        writer = _cyclone("pub").DataWriter(self._participant, self._topic(topic, kind), _qos(reliable, 1))
        self._kept.append(writer)
        return DdsWriter(topic, kind, writer)

    def reader(self, topic: str, message: Message, receive: Callable[[bytes], None]) -> None:
        """Call `receive` with every payload, from Cyclone's thread, as it arrives.

        Best effort and volatile: as sensors are read, and every kind of publisher can serve.
        """
        core, kind = _cyclone("core"), _type(message, True)

        def take(reader: Any) -> None:
            if reader is None:  # a sample that comes while the reader is closed
                return
            for sample in reader.take(_DEPTH):
                if isinstance(sample, kind):
                    receive(sample.payload)

        listener = core.Listener(on_data_available=take)
        qos = _qos(core.Policy.Reliability.BestEffort, _DEPTH)
        reader = _cyclone("sub").DataReader(self._participant, self._topic(topic, kind), qos, listener)
        self._kept += [listener, reader]

    def _topic(self, name: str, kind: Any) -> Any:
        topic = _cyclone("topic").Topic(self._participant, dds_topic(name), kind)
        self._kept.append(topic)
        return topic

    def close(self) -> None:
        self._kept.clear()
        self._participant = None
