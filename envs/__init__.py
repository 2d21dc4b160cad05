"""Bodies and worlds. Importing this package registers the Gymnasium ids `wayhand/…`."""

import gymnasium as gym

from .house.registration import register as register_houses
from .tabletop.registration import register

register()
register_houses()
if "wayhand/GraphNavigation-v0" not in gym.registry:
    gym.register(id="wayhand/GraphNavigation-v0", entry_point="wayhand.envs.graph:GraphNavigation")
