"""Are actions in the units of their spec? Normalised ones, served as they are, are not."""

from __future__ import annotations

import numpy as np

from ..contract import EnvSpec
from ..errors import SpecError


def bounded(actions: np.ndarray, spec: EnvSpec) -> np.ndarray:
    """Finite `actions` [H A] within the bounds of the spec.

    Raises `SpecError` where one is further outside its bounds than they are wide: no policy that learned them means
    that, but normalised actions, or those in another unit, look like it.
    """
    lower, upper = spec.action_lower.astype(np.float64), spec.action_upper.astype(np.float64)
    inside = np.minimum(np.maximum(actions, lower), upper)
    far = np.abs(actions - inside) > upper - lower
    if far.any():
        row, column = (int(i) for i in np.argwhere(far)[0])
        element = spec.action_elements[column]
        raise SpecError(
            f"Action '{element.name}' is far outside its bounds: normalised, or not in {element.unit or 'its unit'}",
            expected=f"{lower[column]:g} … {upper[column]:g}",
            got=f"{actions[row, column]:g}",
            run="look at how the policy's server turns its outputs into actions",
        )
    return inside
