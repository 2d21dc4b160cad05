"""One CUDA graph for a whole call: a replay launches thousands of dependent kernels at the cost of one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import ConfigError

WARM_UP = 3


class CapturedGraph:
    """A function of tensors, captured by hand once for each shape of its inputs (`torch.cuda.CUDAGraph`).

    Args:
        function: tensors → one tensor; the same kernels whatever the values, no reading back to the host.
        device: where it runs.

    Raises:
        ConfigError: without CUDA.
    """

    def __init__(self, function: Callable[..., Tensor], device: torch.device) -> None:
        if device.type != "cuda":
            raise ConfigError(
                "A CUDA graph needs a CUDA device", expected="cuda", got=str(device), run="leave `graph` off here"
            )
        self._function = function
        self._captured: dict[tuple[tuple[torch.Size, torch.dtype], ...], _Captured] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's result, in a tensor of its own."""
        key = tuple((x.shape, x.dtype) for x in inputs)
        if key not in self._captured:
            self._captured[key] = _Captured(self._function, inputs)
        return self._captured[key](*inputs)


class _Captured:
    """A graph with the buffers it reads and writes."""

    def __init__(self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(x.clone() for x in inputs)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        # Libraries choose kernels and allocate workspaces at their first calls, which a capture must not contain.
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for buffer, value in zip(self._inputs, inputs, strict=True):
            buffer.copy_(value, non_blocking=True)
        self._graph.replay()
        return self._output.clone()
