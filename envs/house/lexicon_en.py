"""English."""

from __future__ import annotations

from collections.abc import Mapping

from .lexicon import Lexicon, Names, Phrasing, Template
from .lexicon_en_held_out import HELD_OUT
from .lexicon_en_training import TRAINING


def _names(table: Mapping[str, str]) -> dict[str, Names]:
    """`"sofa, couch / settee"`: two training names and a held-out one; a leading `*` marks plural nouns."""
    out: dict[str, Names] = {}
    for key, row in table.items():
        training, _, held_out = row.lstrip("*").partition("/")
        words = [tuple(w.strip() for w in part.split(",") if w.strip()) for part in (training, held_out)]
        out[key] = Names(words[0], words[1], plural=row.startswith("*"))
    return out


THINGS = {
    "aquarium": "aquarium, fish tank",
    "armchair": "armchair / easy chair",
    "ball": "ball",
    "bath_mat": "bath mat / shower mat",
    "bathtub": "bathtub, bath / tub",
    "bed": "bed",
    "bench": "bench",
    "book": "book / volume",
    "bookshelf": "bookshelf, bookcase / set of bookshelves",
    "bottle": "bottle / flask",
    "bowl": "bowl / basin dish",
    "cabinet": "cabinet",
    "candle": "candle",
    "cardboard_box": "cardboard box, moving box / carton",
    "ceiling_lamp": "ceiling lamp, ceiling light / overhead light",
    "chair": "chair",
    "clock": "clock, wall clock / timepiece",
    "coat_rack": "coat rack, coat stand / hat stand",
    "coffee_machine": "coffee machine, coffee maker / espresso machine",
    "coffee_table": "coffee table / low table",
    "console_table": "console table / narrow table",
    "counter": "counter",
    "crib": "crib / cot",
    "curtain": "curtain / drape",
    "desk": "desk, writing desk / work desk",
    "dining_table": "dining table / dinner table",
    "dishwasher": "dishwasher / dishwashing machine",
    "double_bed": "double bed / queen bed",
    "dresser": "dresser, chest of drawers / bureau",
    "dryer": "dryer / tumble dryer",
    "dumbbell_rack": "dumbbell rack, weight rack / rack of dumbbells",
    "easel": "easel",
    "exercise_ball": "exercise ball, gym ball / fitness ball",
    "filing_cabinet": "filing cabinet, file cabinet / document cabinet",
    "fireplace": "fireplace / hearth",
    "floor_lamp": "floor lamp, standing lamp / tall lamp",
    "fridge": "fridge, refrigerator / icebox",
    "fruit_bowl": "fruit bowl / bowl of fruit",
    "globe": "globe / model earth",
    "grandfather_clock": "grandfather clock",
    "guitar": "guitar",
    "ironing_board": "ironing board / ironing table",
    "kettle": "kettle",
    "kitchen_counter": "kitchen counter, countertop / worktop",
    "kitchen_sink": "kitchen sink, sink / dish sink",
    "kitchen_table": "kitchen table / breakfast table",
    "knife_block": "knife block / knife holder",
    "lamp": "lamp",
    "laptop": "laptop / notebook computer",
    "laundry_basket": "laundry basket, hamper / washing basket",
    "microwave": "microwave / microwave oven",
    "mirror": "mirror / looking glass",
    "monitor": "monitor, computer screen / computer display",
    "mug": "mug / coffee cup",
    "nightstand": "nightstand, bedside table / night table",
    "office_chair": "office chair, desk chair / swivel chair",
    "painting": "painting / canvas",
    "piano": "piano / upright piano",
    "picture": "picture, framed picture / wall art",
    "pillow": "pillow",
    "plant": "plant, potted plant / houseplant",
    "plate": "plate / dish",
    "pot": "pot, cooking pot / saucepan",
    "railing": "railing, banister / balustrade",
    "rocking_chair": "rocking chair",
    "rug": "rug / carpet",
    "runner": "runner, hall rug / long carpet",
    "shelf": "shelf",
    "shelves": "*shelves / rack shelves",
    "shoe_rack": "shoe rack / shoe shelf",
    "shower": "shower / shower stall",
    "side_table": "side table, end table / occasional table",
    "sideboard": "sideboard / buffet",
    "single_bed": "single bed / twin bed",
    "sofa": "sofa, couch / settee",
    "stool": "stool",
    "storage_shelf": "storage shelf, storage rack / utility shelf",
    "stove": "stove, oven / cooker",
    "table": "table",
    "table_lamp": "table lamp, desk lamp / small lamp",
    "teddy_bear": "teddy bear, teddy / stuffed bear",
    "telescope": "telescope",
    "toaster": "toaster",
    "toilet": "toilet / lavatory",
    "towel": "towel",
    "toy_box": "toy box, toy chest / toy bin",
    "trash_can": "trash can, garbage can / waste bin",
    "treadmill": "treadmill / running machine",
    "tv": "tv, television / television set",
    "tv_stand": "tv stand, tv unit / media console",
    "umbrella_stand": "umbrella stand / umbrella holder",
    "vase": "vase / flower vase",
    "wall_cabinet": "wall cabinet, hanging cabinet / overhead cupboard",
    "wardrobe": "wardrobe, closet / armoire",
    "washbasin": "washbasin, bathroom sink / washstand",
    "washing_machine": "washing machine, washer / laundry machine",
    "wine_rack": "wine rack",
    "yoga_mat": "yoga mat, exercise mat / fitness mat",
}

PLACES = {
    "bathroom": "bathroom / washroom",
    "bedroom": "bedroom / sleeping room",
    "dining_room": "dining room / dining area",
    "gym": "gym, home gym / exercise room",
    "hallway": "hallway, hall, corridor / passageway",
    "kitchen": "kitchen / kitchen area",
    "laundry_room": "laundry room / utility room",
    "library": "library, reading room / book room",
    "living_room": "living room, sitting room / lounge",
    "nursery": "nursery / baby room",
    "office": "office, home office / study",
    "playroom": "playroom, play room / games room",
    "storage_room": "storage room, storeroom / box room",
}

COLOURS = {
    name: name
    for name in (
        "beige", "black", "blue", "brown", "cream", "dark blue", "dark brown", "dark green", "gold", "golden", "gray",
        "green", "grey", "ivory", "lavender", "light blue", "light brown", "light green", "maroon", "mustard", "navy",
        "olive", "orange", "pink", "purple", "red", "silver", "tan", "teal", "turquoise", "violet", "white", "yellow",
    )
}  # fmt: skip


def _templates(table: Mapping[str, tuple[str, ...]], phrasing: Phrasing) -> list[Template]:
    out: list[Template] = []
    for shapes, rows in table.items():
        for i, row in enumerate(rows):
            verbs, text = (part.strip() for part in row.split("|"))
            words = text.lstrip("~!=")
            marks = text[: len(text) - len(words)]
            name = f"{shapes.replace(' ', '+')}/{phrasing}/{i}"
            template = Template(
                name, tuple(shapes.split()), words, verbs, phrasing, "~" in marks, "!" in marks, "=" in marks
            )
            out.append(template)
    return out


ENGLISH = Lexicon(
    code="en-US",
    things=_names(THINGS),
    places=_names(PLACES),
    colours=_names(COLOURS),
    directions=_names({"left": "left", "right": "right"}),
    levels=_names({"1": "first / ground", "2": "second / upper"}),
    patterns={
        "thing": "the {noun}",
        "a_thing": "{article} {noun}",
        "some_things": "some {noun}",
        "coloured": "{colour} {name}",
        "place": "the {name}",
        "feature": "{place} with {a_thing}",
        "level": "{place} on the {level} floor",
    },
    articles=("a", "an"),
    templates=(*_templates(TRAINING, "training"), *_templates(HELD_OUT, "held_out")),
    joiners=(", then ", " and ", ", ", " and then "),
    openers=("then ", "next, ", "now "),
    fillers=("and", "then", "next", "now", ",", "."),
)
