# Optional: installed by the extra `menagerie`.
from typing import Any

def __getattr__(name: str) -> Any: ...
