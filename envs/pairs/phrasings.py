"""How questions are worded: forms to learn from, and others, of the same words, that are held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Wordings:
    """Sentences with gaps; `learned` are trained on, `held_out` never."""

    learned: tuple[str, ...]
    held_out: tuple[str, ...]

    def say(self, rng: np.random.Generator, words: dict[str, str], *, held_out: bool = False) -> str:
        """One of the sentences, its gaps filled with `words`."""
        forms = self.held_out if held_out else self.learned
        return forms[int(rng.integers(len(forms)))].format(**words)


_COLOR = Wordings(
    (
        "what color is the {what}?",
        "what is the color of the {what}?",
        "which color does the {what} have?",
        "tell me the color of the {what}.",
        "the {what} has which color?",
    ),
    ("the {what} is what color?", "which color is the {what}?"),
)
_KIND = Wordings(
    (
        "what is the {what} thing?",
        "what kind of thing is the {what} one?",
        "the {what} thing, what is it?",
        "tell me what the {what} thing is.",
        "which kind of thing is {what}?",
    ),
    ("the {what} thing is what?", "what kind is the {what} thing?"),
)
_COUNT = Wordings(
    (
        "how many {what} are there?",
        "how many {what} are on the table?",
        "what is the number of {what}?",
        "tell me how many {what} there are.",
        "the number of {what} is what?",
    ),
    ("there are how many {what}?", "tell me the number of {what}."),
)
_RELATION = Wordings(
    (
        "is the {a} {relation} the {b}?",
        "is it true that the {a} is {relation} the {b}?",
        "the {a} is {relation} the {b}, yes or no?",
        "{relation} the {b}, is that where the {a} is?",
        "does the {a} stand {relation} the {b}?",
        "tell me if the {a} is {relation} the {b}.",
    ),
    ("{relation} the {b}: is the {a} there?", "yes or no: the {a} is {relation} the {b}?"),
)
_DIRECTION = Wordings(
    (
        "is the {a} {either} the {b}?",
        "{either} the {b}, where is the {a}?",
        "tell me if the {a} is {either} the {b}.",
        "the {a} is {either} the {b}, which one?",
    ),
    ("where is the {a}, {either} the {b}?", "{either} the {b}: which is the {a}?"),
)
WORDINGS: dict[str, Wordings] = {
    "color": _COLOR,
    "color/size": _COLOR,
    "kind": _KIND,
    "kind/size": _KIND,
    "size": Wordings(
        (
            "is the {name} small or large?",
            "is the {name} large or small?",
            "what size is the {name}?",
            "tell me the size of the {name}.",
            "the {name} has which size, small or large?",
        ),
        ("small or large: the {name}?", "what is the size of the {name}?"),
    ),
    "count": _COUNT,
    "count/all": _COUNT,
    "location": Wordings(
        (
            "where is the {name}?",
            "where on the table is the {name}?",
            "the {name} is where?",
            "tell me where the {name} is.",
        ),
        ("the {name}: where is it?", "where is the {name} on the table?"),
    ),
    "side": _RELATION,
    "relation": _RELATION,
    "direction/left of": _DIRECTION,
    "direction/in front of": _DIRECTION,
    "choice": Wordings(
        (
            "which is further {side}: the {a} or the {b}?",
            "which thing is further {side}, the {a} or the {b}?",
            "the {a} or the {b}, which one is further {side}?",
            "tell me which is further {side}, the {a} or the {b}.",
        ),
        ("further {side}: the {a} or the {b}?", "which of the {a} and the {b} is further {side}?"),
    ),
    "existence": Wordings(
        (
            "is there {name}?",
            "is there {name} on the table?",
            "does the table have {name}?",
            "is it true that there is {name}?",
            "tell me if there is {name}.",
        ),
        ("{name}: is there one?", "is {name} on the table?"),
    ),
    "affordance": Wordings(
        (
            "can the {color} thing be {use}?",
            "is the {color} thing one that can be {use}?",
            "the {color} thing can be {use}, yes or no?",
            "tell me if the {color} thing can be {use}.",
            "is it true that the {color} thing can be {use}?",
        ),
        ("the {color} thing: can it be {use}?", "yes or no: can the {color} thing be {use}?"),
    ),
    "affordance/color": _COLOR,
}
"""Form → how it is said."""
