"""`wayhand data corrections`: what a human did in recorded runs of a policy, as demonstrations to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ..datasets.combine import whole
from ..datasets.store import Dataset, Writer, create
from ..vla.bridge.teleop.labels import corrections, human_rows
from ..vla.contract import EnvSpec, Episode
from ..vla.errors import DataError


@dataclass(frozen=True)
class Corrected:
    """What was found: recorded runs, those with an intervention, corrections, and their rows."""

    runs: int
    intervened: int
    corrections: int
    rows: int


def correct(source: Dataset, out: Path) -> Corrected:
    """Write every intervention in the runs of `source` to a new dataset, in the order they happened.

    Each is an episode in the actions of the policy that was being executed; steps of the policy's own are in none.

    Raises `DataError` where nobody intervened, or the runs do not say which policy was being executed.
    """
    rows = [int(human_rows(source.episode(i)).sum()) for i in range(len(source))]
    if not any(rows):
        raise DataError(
            f"Nobody intervened in the runs of {source.path}",
            got=f"{len(source)} runs",
            run="wayhand deploy … takeover=keyboard record=DIR",
        )
    count = 0
    with whole(out) as folder, ExitStack() as stack:
        writer: Writer | None = None
        for episode in _corrections(source, rows):
            if writer is None:
                writer = stack.enter_context(create(folder, episode.spec, **source.layout.to_dict(), durable=False))
            writer.append(episode)
            count += 1
    return Corrected(len(source), sum(n > 0 for n in rows), count, sum(rows))


def _corrections(source: Dataset, rows: list[int]) -> Iterator[Episode]:
    for index, human in enumerate(rows):
        if human:
            episode = source.episode(index)
            for correction in corrections(episode, _policy_spec(source, index)):
                about = {**correction.provenance, "source": {"path": str(source.path), "episode": index}}
                yield replace(correction, provenance=about)


def _policy_spec(source: Dataset, index: int) -> EnvSpec:
    about = source.provenance(index)
    if "policy_spec" not in about:
        raise DataError(
            f"Run {index} of {source.path} does not say which policy was being executed",
            run="wayhand deploy … takeover=keyboard record=DIR",
        )
    return EnvSpec.from_dict(about["policy_spec"])
