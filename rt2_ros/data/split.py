# SPDX-License-Identifier: Apache-2.0
"""Which pictographs, phrasings and scenes belong to robot demonstrations, web data, validation and
test.

One file, hashed into every checkpoint (`digest()`): robot demonstrations show the objects of
`ROBOT_NAMES` alone, told with `ROBOT_PHRASES` and `OTHER_PHRASES`; the web set covers every
pictograph of `web_pictographs()`; evaluation draws its scenes from seeds that no training frame
uses.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from rt2_ros.data.pictographs import NUMBERS, Pictograph, by_name, number_of, pictographs

# Objects of the robot demonstrations, "seen" in the evaluation's sense: a fifth of what web
# pictures show.
ROBOT_NAMES: tuple[str, ...] = (
    "red apple", "banana", "grapes", "watermelon", "strawberry", "lemon", "pear", "carrot",
    "broccoli", "eggplant", "mushroom", "croissant", "pizza", "hamburger", "doughnut", "cookie",
    "birthday cake", "cheese wedge", "beer mug", "hot beverage", "panda", "pig face", "frog",
    "tropical fish", "octopus", "butterfly", "lady beetle", "sunflower", "rose", "cactus",
    "soccer ball", "basketball", "tennis", "rocket", "automobile", "bicycle", "hammer",
    "scissors", "key", "light bulb", "umbrella", "guitar", "closed book", "balloon",
    "wrapped gift", "crown", "telephone", "camera",
    "monkey face", "dog face", "fox", "raccoon", "cat face", "lion", "tiger face", "zebra", "bison",
    "cow face", "goat", "camel", "giraffe", "mammoth", "rhinoceros", "mouse face", "rat",
    "rabbit face", "hedgehog", "bear", "koala", "sloth", "otter", "kangaroo", "whale", "shark",
    "blowfish", "coral", "snail", "honeybee", "spider", "scorpion", "worm", "bouquet",
    "cherry blossom", "tulip", "hibiscus", "potted plant", "palm tree", "sheaf of rice",
    "four leaf clover", "maple leaf", "melon", "tangerine", "blueberries", "avocado", "potato",
    "ear of corn", "hot pepper", "garlic", "onion", "peanuts", "baguette bread", "pretzel", "bagel",
    "pancakes", "waffle", "bacon", "french fries", "hot dog", "sandwich", "taco", "popcorn",
    "butter", "soft ice cream", "cupcake", "pie", "chocolate bar", "lollipop", "honey pot",
    "baby bottle", "teapot", "sake", "tropical drink", "bubble tea", "ice", "train", "bus",
    "ambulance", "police car", "taxi", "tractor", "racing car", "motor scooter", "kick scooter",
    "skateboard", "wheel", "airplane", "helicopter", "parachute", "flying saucer", "full moon",
    "ringed planet", "cloud", "tornado", "rainbow", "snowman", "fire", "droplet", "jack-o-lantern",
    "christmas tree", "firecracker", "japanese dolls", "red envelope", "ticket", "baseball",
    "volleyball", "american football", "bowling", "boxing glove", "ping pong", "fishing pole",
    "curling stone", "sled", "glasses", "necktie", "t-shirt", "jeans", "gloves", "socks", "dress",
    "backpack", "high-heeled shoe", "top hat", "ring", "gem stone", "lipstick", "trumpet", "violin",
    "drum", "mobile phone", "television", "candle", "flashlight", "red paper lantern", "open book",
    "blue book", "newspaper", "scroll", "briefcase", "calendar", "bar chart", "pushpin",
    "clipboard", "wastebasket", "old key", "bomb", "boomerang", "shield", "carpentry saw",
    "gear", "magnet", "ladder", "toolbox", "balance scale",
)  # fmt: skip

# Shorter words that people use for them, each meaning one of them.
SHORT_NAMES: dict[str, str] = {
    "red apple": "apple", "birthday cake": "cake", "cheese wedge": "cheese", "beer mug": "beer",
    "hot beverage": "coffee", "lady beetle": "ladybug",
    "soccer ball": "football", "tennis": "tennis ball", "automobile": "car", "light bulb": "bulb",
    "closed book": "book", "wrapped gift": "gift", "doughnut": "donut",
    "ear of corn": "corn", "mobile phone": "phone", "television": "tv",
}  # fmt: skip

# The same for what only web pictures show.
ALSO: dict[str, str] = {
    "red heart": "heart", "canned food": "can", "glass of milk": "milk", "cross mark": "cross",
    "check mark button": "tick", "fire engine": "fire truck",
    "hollow red circle": "circle", "kiwi fruit": "kiwi", "santa claus": "santa",
    "leafy green": "lettuce", "closed umbrella": "folded umbrella",
    "recycling symbol": "recycling sign", "warning": "warning sign",
    "flag of united kingdom": "british flag", "flag of united states": "american flag",
    "flag of france": "french flag", "flag of germany": "german flag",
    "flag of japan": "japanese flag", "flag of china": "chinese flag",
    "flag of italy": "italian flag", "flag of brazil": "brazilian flag",
    "flag of canada": "canadian flag", "flag of spain": "spanish flag",
    "flag of india": "indian flag",
}  # fmt: skip

# How demonstrations put a request, by the kind of task.
ROBOT_PHRASES: dict[str, tuple[str, ...]] = {
    "pick": (
        "pick up the {object}", "pick the {object}", "pick up {object}", "grab the {object}",
        "lift the {object}", "take the {object}",
    ),
    "near": (
        "move the {object} near the {target}", "move the {object} to the {target}",
        "move {object} near {target}", "put the {object} next to the {target}",
        "bring the {object} to the {target}",
    ),
    "on": (
        "put the {object} on the {target}", "place the {object} on the {target}",
        "put {object} on {target}", "put the {object} on top of the {target}",
    ),
    "push left": ("push the {object} left", "push the {object} to the left"),
    "push right": ("push the {object} right", "push the {object} to the right"),
    "push forward": ("push the {object} forward", "push {object} forward"),
    "push back": ("push the {object} back", "push {object} back"),
    "open": ("open the gripper", "open the hand"),
    "close": ("close the gripper", "close the hand"),
}  # fmt: skip
ROBOT_PHRASES_ZH: dict[str, tuple[str, ...]] = {
    "pick": ("拿起{object}", "把{object}拿起来", "抓住{object}"),
    "near": ("把{object}移到{target}旁边", "把{object}放到{target}旁边"),
    "on": ("把{object}放到{target}上", "把{object}放在{target}上面"),
    "push left": ("把{object}向左推", "向左推{object}"),
    "push right": ("把{object}向右推", "向右推{object}"),
    "push forward": ("把{object}向前推", "向前推{object}"),
    "push back": ("把{object}向后推", "向后推{object}"),
    "open": ("张开夹爪", "打开夹爪"),
    "close": ("合上夹爪", "闭合夹爪"),
}

# Other ways of asking, which a quarter of requests is put in: who knows the few above alone does
# not look past a verb. No suite has these, and the paraphrases of `instructions` are others still,
# with verbs that stand in none of them.
OTHER_SHARE = 0.25
OTHER_PHRASES: dict[str, tuple[str, ...]] = {
    "pick": (
        "get the {object}", "grasp the {object}", "pick the {object} up", "lift up the {object}",
        "take hold of the {object}", "give me the {object}", "i need the {object}",
        "catch the {object}", "hold the {object} up", "take the {object} from the table",
        "can i have the {object}", "the {object}, pick it up", "collect the {object}",
        "seize the {object}", "go get the {object}", "go to the {object} and take it",
        "let me have the {object}", "bring me the {object}", "i am looking for the {object}",
        "close your fingers around the {object} and lift it", "get hold of the {object}",
    ),
    "near": (
        "place the {object} near the {target}", "move the {object} over to the {target}",
        "carry the {object} to the {target}", "leave the {object} close to the {target}",
        "the {object} goes next to the {target}", "take the {object} and put it near the {target}",
        "let the {object} lie next to the {target}", "drop the {object} near the {target}",
        "move {object} to {target}", "bring {object} to {target}", "put {object} next to {target}",
        "the {object} should be close to the {target}", "take the {object} over to the {target}",
        "park the {object} by the {target}",
    ),
    "on": (
        "lay the {object} on the {target}", "drop the {object} on the {target}",
        "the {object} goes on the {target}", "move the {object} onto the {target}",
        "take the {object} and put it on the {target}", "rest the {object} on the {target}",
        "leave the {object} on top of the {target}", "let the {object} lie on the {target}",
        "move {object} onto {target}", "place {object} on {target}",
        "the {object} should be on the {target}", "the {object} has to go on top of the {target}",
        "get the {object} onto the {target}",
    ),
    **{
        f"push {way}": (
            f"move the {{object}} {way}", f"nudge the {{object}} {way}",
            f"shift the {{object}} {longer}", f"give the {{object}} a push {longer}",
            f"the {{object}} must go {longer}", f"a bit further {way} with the {{object}}",
            f"push the {{object}} a little {longer}", f"bump the {{object}} {longer}",
        )
        for way, longer in (("left", "to the left"), ("right", "to the right"),
                            ("forward", "forwards"), ("back", "backwards"))
    },
    "open": ("open your hand", "open the fingers", "open it", "let go", "gripper open"),
    "close": ("close your hand", "close the fingers", "close it", "make a fist", "gripper closed"),
}  # fmt: skip
OTHER_PHRASES_ZH: dict[str, tuple[str, ...]] = {
    "pick": ("取{object}", "抓起{object}", "捡起{object}", "把{object}拿过来",
             "拾起{object}", "握住{object}", "把{object}提起来", "把{object}取来", "拿{object}"),
    "near": ("把{object}挪到{target}旁边", "让{object}靠近{target}", "把{object}搬到{target}附近"),
    "on": ("将{object}放上{target}", "把{object}搁在{target}上", "把{object}摆到{target}上面"),
    **{
        f"push {way}": (
            f"把{{object}}往{chinese}挪", f"让{{object}}往{chinese}去",
            f"{{object}}再往{chinese}一点",
        )
        for way, chinese in (("left", "左"), ("right", "右"), ("forward", "前"), ("back", "后"))
    },
    "open": ("松开手", "夹爪打开", "把手张开"),
    "close": ("握紧手", "夹爪合上", "把手合上"),
}  # fmt: skip

# Words around an instruction, {}, that say nothing. A fifth of prompts have some, so that a policy
# passes over what it does not know: the tokenizer has no words made for them. No suite has these;
# `instructions` has others.
AROUND_SHARE = 0.2
AROUND: tuple[str, ...] = (
    "robot, {}", "hey robot, {}", "now {}", "next, {}", "ok, {}", "hello! {}", "first {}",
    "will you {}?", "i want you to {}", "your task is to {}", "go ahead and {}",
    "it is time to {}", "let us {}", "well, {} then", "{} now", "{}!", "{}.", "{} for me",
    "{} right away", "{}, robot", "{} and be careful", "{} when you are ready", "quickly {}",
    "listen, {}", "all right, now {} at once", "my friend, {} today",
    "good morning, {}", "we have to {} now", "the next job is to {}", "may i ask you to {}",
    "{}, that is all", "{} and then stop", "robot: {} as well as you can",
)  # fmt: skip
AROUND_ZH: tuple[str, ...] = (
    "现在{}", "机器人，{}", "你来{}", "接下来{}", "{}吧", "{}！", "{}，好吗？", "快{}", "先{}",
    "好的，现在{}", "你能{}吗？", "该{}了", "喂，{}", "帮我{}", "{}，谢谢", "我们来{}",
    "早上好，{}", "{}就行",
)  # fmt: skip

# The same with words that nobody has, in an eighth of prompts: any strange word is passed over.
MADE_UP_SHARE = 0.12
STRANGERS = (1, 3)  # words before or behind an instruction, or both
STARTS = ("b", "br", "d", "dr", "f", "fl", "g", "gl", "h", "k", "kl", "l", "m", "n", "p", "pr", "r",
          "s", "st", "t", "tr", "v", "w", "z", "")  # fmt: skip
MIDDLES, ENDS = (
    ("a", "e", "i", "o", "u", "ea", "ou", "ie"),
    ("", "", "n", "r", "s", "t", "ld", "ng"),
)
STRANGE_ZH = range(0x4E00, 0x9FA6)  # any character

# Typos in a twelfth of English prompts, in what is asked and in names: a letter that the word has
# not, in place of one of its own or besides. Those of `instructions` have its own letters alone.
MISTYPED_SHARE = 0.08
TYPED = re.compile(r"(?<![{\w])[A-Za-z]{4,}(?![\w}])")  # words that may get one, no {object}

# Words that name another thing as well, which is not meant: who goes by names alone takes either.
# No suite has these; the negations of `instructions` are others.
SPARING_SHARE = 0.06
SPARING: tuple[str, ...] = (
    "leave the {other} alone and {told}", "{told}, and leave the {other} where it is",
    "forget the {other}, {told}", "never mind the {other}: {told}", "{told} instead of the {other}",
    "{told} but spare the {other}", "keep away from the {other} and {told}", "{told}, no {other}",
)  # fmt: skip
SPARING_ZH: tuple[str, ...] = (
    "别管{other}，{told}",
    "{told}，{other}不要动",
    "先不要{other}，{told}",
)

# Seeds: of evaluated scenes, and of the generators that training frames are drawn from.
TEST_SEEDS = range(0, 100_000)
TRAIN_SEEDS = range(1_000_000, 900_000_000)

# Web pictures show everything of these of Unicode's groups, and of the others what can be told
# apart at 192 px.
OBJECT_GROUPS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
SIGNS: tuple[str, ...] = (
    *(f"keycap {number}" for number in NUMBERS),
    "red heart", "orange heart", "yellow heart", "green heart", "blue heart", "purple heart",
    "brown heart", "black heart", "white heart", "broken heart", "heart with arrow", "two hearts",
    "sparkling heart", "love letter", "warning", "no entry", "prohibited", "no smoking",
    "no bicycles", "children crossing", "radioactive", "biohazard", "recycling symbol",
    "check mark button", "cross mark", "check mark", "hollow red circle", "wheelchair symbol",
    "men's room", "women's room", "baby symbol", "potable water", "atom symbol", "yin yang",
    "peace symbol", "star of david", "menorah", "trident emblem", "eight-pointed star",
    "japanese symbol for beginner", "medical symbol", "passport control", "baggage claim",
    "litter in bin sign", "copyright",
)  # fmt: skip
FLAGS: tuple[str, ...] = (
    "france", "germany", "italy", "spain", "portugal", "united kingdom", "greece", "sweden",
    "norway", "denmark", "finland", "switzerland", "poland", "ukraine", "turkey", "austria",
    "belgium", "czechia", "japan", "china", "india", "south korea", "vietnam", "thailand",
    "israel", "saudi arabia", "united arab emirates", "pakistan", "bangladesh", "nepal",
    "united states", "canada", "mexico", "brazil", "argentina", "chile", "cuba", "jamaica",
    "colombia", "peru", "south africa", "nigeria", "kenya", "ghana", "somalia", "madagascar",
    "australia", "kazakhstan", "georgia", "lebanon", "cyprus", "albania", "european union",
    "united nations", "barbados", "bahamas", "tanzania", "morocco", "algeria", "malaysia",
)  # fmt: skip
PEOPLE: tuple[str, ...] = (
    "health worker", "student", "teacher", "judge", "farmer", "cook", "mechanic",
    "factory worker", "office worker", "scientist", "technologist", "singer", "artist", "pilot",
    "astronaut", "firefighter", "police officer", "detective", "guard", "ninja",
    "construction worker", "prince", "princess", "person wearing turban", "person in tuxedo",
    "person with veil", "baby angel", "santa claus", "mrs claus", "superhero", "supervillain",
    "mage", "fairy", "vampire", "mermaid", "elf", "genie", "zombie", "troll",
)  # fmt: skip


def robot_pictographs() -> tuple[Pictograph, ...]:
    """The pictographs that robot demonstrations show."""
    return tuple(by_name(name) for name in ROBOT_NAMES)


@cache
def web_pictographs() -> tuple[Pictograph, ...]:
    """The pictographs that web pictures show: a superset of the robot's."""
    others = {*SIGNS, *PEOPLE, *(f"flag of {country}" for country in FLAGS)}
    return tuple(p for p in pictographs() if p.group in OBJECT_GROUPS or p.name in others)


def phrase(random: np.random.Generator, kind: str, chinese: bool) -> str:
    """How a request for a kind of task is put in training: "lift the {object}"."""
    if random.random() < OTHER_SHARE:
        phrases = OTHER_PHRASES_ZH if chinese else OTHER_PHRASES
    else:
        phrases = ROBOT_PHRASES_ZH if chinese else ROBOT_PHRASES
    return str(random.choice(phrases[kind]))


def words_around(random: np.random.Generator, told: str, others: Sequence[Pictograph] = ()) -> str:
    """An instruction as it is, among words that say nothing ("robot, pick up the key") or are none
    ("brodi lan pick up the key"), or with one of the other things that are there, which is not
    meant ("forget the cup, pick up the key").
    """
    chinese, draw = not told.isascii(), random.random()
    if draw < AROUND_SHARE:
        return str(random.choice(AROUND_ZH if chinese else AROUND)).format(told)
    if draw < AROUND_SHARE + MADE_UP_SHARE:
        where = int(random.integers(3))
        before, behind = ("" if where == side else _made_up(random, chinese) for side in (0, 1))
        comma = "，" if chinese else ", "
        gap = comma if random.random() < 0.3 else "" if chinese else " "
        return gap.join(part for part in (before, told, behind) if part)
    if others and draw > 1 - SPARING_SHARE:
        other = others[int(random.integers(len(others)))]
        name = str(random.choice(names(other, chinese)))
        return str(random.choice(SPARING_ZH if chinese else SPARING)).format(told=told, other=name)
    return told


def _made_up(random: np.random.Generator, chinese: bool) -> str:
    """Words that mean nothing."""
    count = int(random.integers(STRANGERS[0], STRANGERS[1] + 1))
    if chinese:
        return "".join(chr(i) for i in random.integers(STRANGE_ZH.start, STRANGE_ZH.stop, count))
    words: list[str] = []
    while len(words) < count:
        word = "".join(
            str(random.choice(part))
            for _ in range(int(random.integers(1, 3)))
            for part in (STARTS, MIDDLES, ENDS)
        )
        if word not in _own_words():
            words.append(word)
    return " ".join(words)


@cache
def _own_words() -> frozenset[str]:
    """Every English word of names, questions and requests."""
    from rt2_ros.data.web import words

    phrases = (*AROUND, *SPARING, *sum((*ROBOT_PHRASES.values(), *OTHER_PHRASES.values()), ()))
    return frozenset(re.findall(r"[a-z]+", " ".join((*words(), *phrases)).lower()))


def mistyped(
    random: np.random.Generator, phrase: str, called: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """A phrase with its `{object}`, and what things are called, as somebody types them: most times
    without a fault, sometimes with one or two.
    """
    texts = [phrase, *called.values()]
    if random.random() < MISTYPED_SHARE:
        for _ in range(int(random.integers(1, 3))):
            words = [(i, word) for i, text in enumerate(texts) for word in TYPED.finditer(text)]
            if not words:
                break
            i, word = words[int(random.integers(len(words)))]
            strange = sorted({*"abcdefghijklmnopqrstuvwxyz"} - {*word[0].lower()})
            at = int(random.integers(word.start() + 1, word.end()))
            after = at + int(random.integers(2))  # in its place, or besides
            letter = str(random.choice(strange))
            typed = texts[i][word.start() : at] + letter + texts[i][after : word.end()]
            if typed.lower() not in _own_words():  # no "lift" for left
                texts[i] = texts[i][: word.start()] + typed + texts[i][word.end() :]
    return texts[0], dict(zip(called, texts[1:], strict=True))


def unseen_names(alike: bool) -> tuple[str, ...]:
    """Objects that web pictures show and robot demonstrations do not; no signs, flags or people.

    alike: those of a kind (Unicode's subgroup, such as food-fruit) that demonstrations have some
    of; else those of the other kinds.
    """
    seen = {p.subgroup for p in robot_pictographs()}
    return tuple(
        p.name
        for p in web_pictographs()
        if p.group in OBJECT_GROUPS and p.name not in ROBOT_NAMES and (p.subgroup in seen) == alike
    )


def names(what: Pictograph, chinese: bool = False) -> tuple[str, ...]:
    """All that people call a pictograph, in English or in Chinese."""
    if chinese:
        if what.subgroup == "keycap":
            return (f"数字{number_of(what.name)}", f"{number_of(what.name)}")
        if what.subgroup == "country-flag":
            country = what.name_zh.removeprefix("旗")
            return (f"{country}国旗", f"{country}的国旗")
        return (what.name_zh,)
    if what.subgroup == "keycap":
        number = number_of(what.name)
        return (f"{number}", f"number {number}", what.name.removeprefix("keycap "))
    known = [what.name, *filter(None, [SHORT_NAMES.get(what.name), ALSO.get(what.name)])]
    return tuple(known)


def object_name(words: str) -> str:
    """The pictograph's name for what a person calls an object ("apple", "red apple", "香蕉").

    Raises:
        KeyError: nothing is called that.
    """
    words = " ".join(words.strip().lower().split())
    return _called().get(words) or by_name(words).name


@cache
def _called() -> dict[str, str]:
    """Names by what people call them; where two are called the same, the first."""
    found: dict[str, str] = {}
    for chinese in (False, True):
        for what in (*robot_pictographs(), *web_pictographs()):
            for text in names(what, chinese):
                found.setdefault(text, what.name)
    return found


def evaluation_seeds(first: int, count: int) -> range:
    """`count` seeds to evaluate on, from `first` on; ValueError where they are not all such."""
    seeds = range(first, first + count)
    if count < 1 or first not in TEST_SEEDS or seeds[-1] not in TEST_SEEDS:
        raise ValueError(
            f"seeds {first} to {first + count - 1}, expected at least one, all of the test seeds "
            f"{TEST_SEEDS.start} to {TEST_SEEDS.stop - 1}"
        )
    return seeds


def digest() -> str:
    """A short hash of the split, kept with each checkpoint."""
    parts = [ROBOT_NAMES, SHORT_NAMES, ALSO, ROBOT_PHRASES, ROBOT_PHRASES_ZH, OTHER_PHRASES,
             OTHER_PHRASES_ZH, AROUND, AROUND_ZH, SPARING, SPARING_ZH, STARTS, MIDDLES, ENDS,
             [str(r) for r in (TRAIN_SEEDS, TEST_SEEDS)],
             [[p.name, *names(p), *names(p, chinese=True)] for p in web_pictographs()]]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
