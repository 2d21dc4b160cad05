# Its codecs are extension modules without types.
from typing import Any

def __getattr__(name: str) -> Any: ...
