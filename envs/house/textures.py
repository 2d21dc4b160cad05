"""All procedural textures of this process in one OpenGL texture array, so that a house is drawn by a single call."""

from __future__ import annotations

from typing import Any

import numpy as np

from .materials import SIZE, texture_pixels

_FIRST = 32


class TextureBank:
    """Layers of one array; layer 0 is white, for materials without a texture. Grows by doubling."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._layers: dict[str, int] = {"": 0}
        self._array: Any = None
        self._capacity = self._uploaded = 0

    def layer(self, name: str) -> int:
        """The layer of a texture id; it is uploaded by the next `bind`."""
        return self._layers.setdefault(name, len(self._layers))

    def bind(self) -> None:
        """Make the array the one shaders sample."""
        if self._uploaded != len(self._layers):
            self._upload()
        self._array.use(0)

    def _upload(self) -> None:
        import moderngl

        names = list(self._layers)
        if len(names) > self._capacity:
            if self._array is not None:
                self._array.release()
            self._capacity = max(_FIRST, 1 << (len(names) - 1).bit_length())
            self._array = self._context.texture_array((SIZE, SIZE, self._capacity), 3, alignment=1)
            self._uploaded = 0
        for i in range(self._uploaded, len(names)):
            pixels = texture_pixels(names[i]) if names[i] else np.full((SIZE, SIZE, 3), 255, np.uint8)
            # A picture's first row is its upper one, a texture's the lowest.
            self._array.write(np.ascontiguousarray(pixels[::-1]), viewport=(0, 0, i, SIZE, SIZE, 1), alignment=1)
        self._array.build_mipmaps()  # which sets trilinear filtering
        # Trilinear filtering would cost a software rasteriser a third of a picture's time, for no visible difference.
        self._array.filter = (moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR)
        self._uploaded = len(names)
