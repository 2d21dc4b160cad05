"""Sentences: for every task training phrasings and held-out ones that share no verb with them.

`{object}` is e.g. "red cube" or "red drawer", `{color}` and `{shape}` its parts, `{goal}` e.g. "blue bin".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Phrase:
    """A sentence template and the verb that carries it (for `open`, a phrasal verb counts by its first word)."""

    verb: str
    text: str


@dataclass(frozen=True)
class Phrasings:
    training: tuple[Phrase, ...]
    held_out: tuple[Phrase, ...]


def _phrases(*rows: tuple[str, str]) -> tuple[Phrase, ...]:
    return tuple(Phrase(verb, text) for verb, text in rows)


PHRASINGS: dict[str, Phrasings] = {
    "reach": Phrasings(
        _phrases(
            ("reach", "reach the {object}"),
            ("reach", "reach for the {shape} that is {color}"),
            ("touch", "touch the {object}"),
            ("move", "move your hand to the {object}"),
            ("go", "go to the {object}"),
            ("point", "point at the {object}"),
            ("hover", "hover above the {object}"),
            ("bring", "bring the gripper over the {shape} of {color} color"),
            ("find", "find the {object} with your hand"),
            ("approach", "approach the {object}"),
        ),
        _phrases(
            ("head", "head for the {object}"),
            ("extend", "extend the arm toward the {object}"),
            ("aim", "aim the gripper at the {shape} that is {color}"),
            ("indicate", "indicate the {object}"),
            ("tap", "tap the {object}"),
        ),
    ),
    "push": Phrasings(
        _phrases(
            ("push", "push the {object}"),
            ("push", "push the {shape} that is {color} forward"),
            ("slide", "slide the {object} forward"),
            ("shove", "shove the {object} away"),
            ("nudge", "nudge the {object} ahead"),
            ("press", "press against the {object} to make it slide forward"),
            ("drive", "drive the {object} away from you"),
            ("move", "move the {object} forward along the table"),
            ("slide", "the {shape} of {color} color, slide it away"),
        ),
        _phrases(
            ("shift", "shift the {object} ahead"),
            ("scoot", "scoot the {object} forward"),
            ("propel", "propel the {object} away"),
            ("thrust", "thrust the {shape} that is {color} forward"),
            ("displace", "displace the {object} away from you"),
        ),
    ),
    "pick": Phrasings(
        _phrases(
            ("pick", "pick up the {object}"),
            ("pick", "pick the {shape} that is {color} up"),
            ("lift", "lift the {object}"),
            ("grasp", "grasp the {object} and raise it"),
            ("take", "take the {object} off the table"),
            ("grab", "grab the {object}"),
            ("raise", "raise the {shape} of {color} color"),
            ("hold", "hold the {object} up in the air"),
            ("lift", "the {object}, lift it up"),
        ),
        _phrases(
            ("collect", "collect the {object}"),
            ("hoist", "hoist the {object} up"),
            ("elevate", "elevate the {object}"),
            ("seize", "seize the {shape} that is {color}"),
            ("fetch", "fetch the {object} from the table"),
        ),
    ),
    "place": Phrasings(
        _phrases(
            ("put", "put the {object} into the {goal}"),
            ("put", "into the {goal} put the {shape} that is {color}"),
            ("place", "place the {object} in the {goal}"),
            ("drop", "drop the {object} into the {goal}"),
            ("move", "move the {object} into the {goal}"),
            ("bring", "bring the {object} to the {goal}"),
            ("carry", "carry the {object} over to the {goal}"),
            ("store", "store the {shape} of {color} color in the {goal}"),
            ("throw", "throw the {object} into the {goal}"),
        ),
        _phrases(
            ("deposit", "deposit the {object} in the {goal}"),
            ("transfer", "transfer the {object} to the {goal}"),
            ("toss", "toss the {object} into the {goal}"),
            ("deliver", "deliver the {shape} that is {color} to the {goal}"),
            ("insert", "insert the {object} into the {goal}"),
        ),
    ),
    "stack": Phrasings(
        _phrases(
            ("stack", "stack the {object} on the {goal}"),
            ("stack", "stack the {shape} that is {color} on top of the {goal}"),
            ("put", "put the {object} on top of the {goal}"),
            ("place", "place the {object} onto the {goal}"),
            ("set", "set the {object} on the {goal}"),
            ("build", "build a tower with the {object} on the {goal}"),
            ("pile", "pile the {object} on the {goal}"),
            ("lay", "lay the {shape} of {color} color on the {goal}"),
            ("put", "on top of the {goal} put the {object}"),
        ),
        _phrases(
            ("balance", "balance the {object} on the {goal}"),
            ("perch", "perch the {object} on top of the {goal}"),
            ("mount", "mount the {object} onto the {goal}"),
            ("rest", "rest the {shape} that is {color} on the {goal}"),
            ("install", "install the {object} on top of the {goal}"),
        ),
    ),
    "open": Phrasings(
        _phrases(
            ("open", "open the {object}"),
            ("open", "open the {shape} that is {color}"),
            ("pull", "pull the {object} open"),
            ("pull", "pull out the {object}"),
            ("slide", "slide the {object} out"),
            ("draw", "draw the {object} toward you"),
            ("get", "get the {object} open"),
            ("tug", "tug on the {shape} of {color} color"),
            ("drag", "drag the {object} out"),
        ),
        _phrases(
            ("unclose", "unclose the {object}"),
            ("haul", "haul the {object} toward you"),
            ("extract", "extract the {object}"),
            ("yank", "yank the {shape} that is {color} out"),
            ("withdraw", "withdraw the {object} toward you"),
        ),
    ),
    "press": Phrasings(
        _phrases(
            ("press", "press the {object}"),
            ("press", "press down on the {shape} that is {color}"),
            ("push", "push the {object} in"),
            ("hit", "hit the {object}"),
            ("click", "click the {object}"),
            ("activate", "activate the {object}"),
            ("use", "use the {shape} of {color} color"),
            ("operate", "operate the {object}"),
            ("push", "the {object}, push it down"),
        ),
        _phrases(
            ("poke", "poke the {object}"),
            ("trigger", "trigger the {object}"),
            ("punch", "punch the {shape} that is {color}"),
            ("squeeze", "squeeze the {object} down"),
            ("jab", "jab the {object}"),
        ),
    ),
}


def instruction(task: str, words: Mapping[str, str], seed: int, *, held_out: bool) -> str:
    """The sentence of a seed. The phrasing depends on the seed alone, so a swapped request keeps its form.

    Args:
        words: `object` and, for place and stack, `goal`.
        held_out: draw from the held-out phrasings instead of the training ones.
    """
    phrasings = PHRASINGS[task]
    options = phrasings.held_out if held_out else phrasings.training
    phrase = options[int(np.random.default_rng([seed, 2]).integers(len(options)))]
    color, shape = words["object"].split(" ", 1)
    return phrase.text.format(object=words["object"], color=color, shape=shape, goal=words.get("goal", ""))
