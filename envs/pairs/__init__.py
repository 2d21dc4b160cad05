"""Pictures of tables with exact captions, questions and answers: image–text pairs whose truth the scene state gives."""

from ..tabletop import gl

gl.select_backend()
