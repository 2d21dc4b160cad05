"""English clauses that are held out: they share no verb with the training ones. Rows are as in those."""

from __future__ import annotations

from typing import Final

HELD_OUT: Final[dict[str, tuple[str, ...]]] = {
    "start": (
        "originates | !your route originates in {place}",
        "located | !presently you are located in {place}",
        "originates | ~!your trip originates somewhere in {place}",
    ),
    "start_facing": (
        "oriented | !presently you are in {place}, oriented toward {thing}",
        "originates points | !your route originates in {place}, and your nose points at {thing}",
        "oriented | ~!at this moment you are in {place}, and you are oriented so that {thing} is ahead",
    ),
    "see": (
        "observe | !you will observe {a_thing} on your {side}",
        "spot | !you will spot {a_thing} to your {side}",
        "observe | ~!on the {side} you can observe {a_thing}",
        "appear | ~!{a_thing} will appear on your {side}",
    ),
    "see_ahead": (
        "observe | !you will observe {a_thing} ahead of you",
        "appear | ~!{a_thing} will appear straight ahead",
        "spot | ~!you can spot {a_thing} directly ahead",
    ),
    "turn": (
        "veer | veer {direction}",
        "hang | hang a {direction}",
        "swing | swing to the {direction}",
        "rotate | rotate to your {direction}",
        "pivot | ~pivot so that you point {direction}",
        "swing | ~swing over to your {direction}",
    ),
    "turn_slight": (
        "veer | veer slightly {direction}",
        "angle | angle a bit to the {direction}",
        "drift | ~drift just a little to your {direction}",
    ),
    "turn_around": (
        "spin | spin around",
        "swing | swing all the way around",
        "pivot | ~pivot half a circle, until you point the opposite way",
    ),
    "turn_at": (
        "veer | veer {direction} at {thing}",
        "hang | hang a {direction} by {thing}",
        "swing | !beside {thing}, swing {direction}",
        "arriving rotate | ~!upon arriving at {thing}, rotate to your {direction}",
    ),
    "turn_in": (
        "veer | !within {place}, veer {direction}",
        "hang | hang a {direction} in {place}",
        "arriving swing | ~!upon arriving in {place}, swing over to the {direction}",
    ),
    "leave": (
        "depart | depart from {place}",
        "step | step out of {place}",
        "move | move out of {place}",
        "move | ~move along until you are outside {place}",
    ),
    "enter": (
        "step | step into {place}",
        "move | move into {place}",
        "proceed | proceed into {place}",
        "advance | ~advance until you are within {place}",
    ),
    "enter_door": (
        "step | step through the door into {place}",
        "proceed | proceed through the doorway to {place}",
        "move | ~move through the open door, beyond which is {place}",
    ),
    "enter_opening": (
        "step | step through the opening into {place}",
        "proceed | proceed through the wide opening to {place}",
        "move | ~move through the wide opening, beyond which is {place}",
    ),
    "leave enter": (
        "move | move from {place1} to {place2}",
        "step | step out of {place1} into {place2}",
        "proceed | ~proceed out of {place1} and onward into {place2}",
    ),
    "turn enter": (
        "veer | veer {direction} into {place}",
        "step | step into {place} on your {direction}",
        "swing | ~swing {direction}, straight into {place}",
    ),
    "turn enter_door": (
        "step | step through the door on your {direction} into {place}",
        "proceed | proceed through the {direction} door to {place}",
    ),
    "turn enter_opening": ("step | step through the opening on your {direction} into {place}",),
    "turn turn": (
        "veer | veer {direction1} and then {direction2}",
        "hang | hang a {direction1} and then a {direction2}",
        "veer | =veer {direction1} and then {direction2} once more",
        "hang | =hang a {direction1} and then one more {direction2}",
    ),
    "turn_around turn": ("spin hang | spin around and hang a {direction}",),
    "turn pass": (
        "veer move | veer {direction} and move past {thing}",
        "hang stroll | hang a {direction} and stroll by {thing}",
    ),
    "turn pass_side": ("veer move | veer {direction} and move past {thing} on your {side}",),
    "turn toward": (
        "veer | veer {direction} toward {thing}",
        "swing head | swing {direction} and head for {thing}",
    ),
    "turn_slight toward": ("angle | angle {direction}, toward {thing}",),
    "turn_around toward": ("spin head | spin around and head for {thing}",),
    "turn_around pass": ("spin move | spin around and move past {thing}",),
    "turn_around enter": ("spin step | spin around and step into {place}",),
    "turn_around forward": ("spin proceed | spin around and proceed straight",),
    "turn forward": (
        "veer proceed | veer {direction} and proceed straight",
        "hang move | hang a {direction} and move forward",
    ),
    "turn cross": ("hang traverse | hang a {direction} and traverse {place}",),
    "pass turn": (
        "veer | !beyond {thing}, veer {direction}",
        "stroll swing | stroll by {thing} and swing {direction}",
    ),
    "enter turn": (
        "step veer | step into {place} and veer {direction}",
        "move hang | move into {place} and hang a {direction}",
    ),
    "pass enter": ("move | move past {thing} into {place}",),
    "cross enter": (
        "move | move across {place1} into {place2}",
        "traverse step | traverse {place1} and step into {place2}",
    ),
    "forward enter": (
        "proceed | proceed straight into {place}",
        "move | move forward into {place}",
    ),
    "leave turn": (
        "depart veer | !upon departing from {place}, veer {direction}",
        "swing | ~!immediately outside {place}, swing over to your {direction}",
    ),
    "cross": (
        "traverse | traverse {place}",
        "move | move across {place}",
        "proceed | ~proceed all the way through {place}",
    ),
    "pass": (
        "move | move past {thing}",
        "stroll | stroll by {thing}",
        "proceed | ~proceed until {thing} is behind you",
    ),
    "pass_side": (
        "move | move past {thing} on your {side}",
        "stroll | stroll by {thing} on the {side}",
        "proceed | ~proceed so that {thing} is on your {side}",
    ),
    "toward": (
        "head | head for {thing}",
        "move | move toward {thing}",
        "approach | approach {thing}",
        "steer | ~steer straight for {thing}",
    ),
    "forward": (
        "proceed | proceed straight",
        "move | move forward",
        "advance | ~advance straight on for a few paces",
    ),
    "up": (
        "climb | climb the staircase",
        "ascend | ascend the staircase",
        "climb | ~climb the whole staircase to the upper floor",
    ),
    "down": (
        "descend | descend the staircase",
        "move | move down the staircase",
        "descend | ~descend the whole staircase to the lower floor",
    ),
    "stop": (
        "halt | halt there",
        "pause | pause there",
        "halt | ~halt, this is the place",
    ),
    "stop_near": (
        "halt | halt next to {thing}",
        "pause | pause beside {thing}",
        "finish | finish close to {thing}",
        "rest | ~rest close by {thing}, your trip is over",
    ),
    "stop_front": (
        "halt | halt in front of {thing}",
        "pause | pause before {thing}",
        "finish | ~finish directly in front of {thing}",
    ),
    "stop_in": (
        "halt | halt in {place}",
        "pause | pause within {place}",
        "finish | ~finish inside {place}",
    ),
    "stop_door": (
        "halt | halt on the threshold of {place}",
        "pause | pause just within {place}",
        "finish | ~finish exactly on the threshold of {place}",
    ),
    "stop_top": ("halt | halt at the top of the staircase", "pause | ~pause at the upper end of the staircase"),
    "stop_bottom": ("halt | halt at the bottom of the staircase", "pause | ~pause at the lower end of the staircase"),
    "find": (
        "locate | locate {thing} in {place}",
        "head fetch | head to {place} and fetch {thing}",
        "search | search {place} for {thing}",
    ),
    "find_on": (
        "locate | locate {thing} on {anchor} in {place}",
        "head fetch | head to {place} and fetch {thing} from {anchor}",
    ),
    "find_near": (
        "locate | locate {thing} by {anchor} in {place}",
        "head inspect | head to {place} and inspect {thing} next to {anchor}",
    ),
    "find_left": (
        "locate | locate {thing} left of {anchor} in {place}",
        "head inspect | head to {place} and inspect {thing} to the left of {anchor}",
    ),
    "find_right": (
        "locate | locate {thing} right of {anchor} in {place}",
        "head inspect | head to {place} and inspect {thing} to the right of {anchor}",
    ),
    "adjoin": (
        "adjoins | !{place} adjoins {beside}",
        "connects | !a door connects {place} with {beside}",
    ),
    "ignore": (
        "disregard | !disregard {thing}",
        "concern | !{thing} is none of your concern",
    ),
    "avoid": (
        "shun | !shun {place}",
        "concern | !{place} is none of your concern",
    ),
    "slip": ("veer | !veering {direction} would be a mistake",),
    "slip turn": (
        "veer | veer {direction1}, pardon me, {direction2}",
        "hang | hang a {direction1}, correction, a {direction2}",
    ),
    "remark": (
        "paint | !the walls were painted last spring",
        "smells | !it smells of coffee around here",
    ),
}
