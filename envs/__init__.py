"""Bodies and worlds. Importing this package registers the Gymnasium ids `wayhand/…`."""

from .tabletop.registration import register

register()
