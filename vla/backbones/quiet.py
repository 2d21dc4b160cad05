"""transformers imports torchao with its models wherever that is installed, whoever needs it or not.

torchao then warns of its libraries for GPUs that cannot be loaded, and torch of how torchao registers its types:
nothing a user could mend. Only these messages are dropped.
"""

from __future__ import annotations

import logging

DROPPED = {"torchao": "Failed to load", "torch.utils._pytree": "register_constant() on Enum subclasses"}


class _Without(logging.Filter):
    def __init__(self, phrase: str) -> None:
        super().__init__()
        self._phrase = phrase

    def filter(self, record: logging.LogRecord) -> bool:
        return self._phrase not in record.getMessage()


def hush() -> None:
    """Drop the messages; calling it again changes nothing."""
    for name, phrase in DROPPED.items():
        logger = logging.getLogger(name)
        if not any(isinstance(f, _Without) for f in logger.filters):
            logger.addFilter(_Without(phrase))
