# SPDX-License-Identifier: Apache-2.0
"""What is known of pictographs beside their names: kinds, colours, weights, uses, trades, sums.

    >>> [fact.texts[0] for fact in facts_of("hammer")][:3]
    ['the tool', 'what I could use to drive a nail']
    >>> fact("the tool").tells("hammer", among=["hammer", "banana"])
    True

Plain common knowledge, written down by hand for the web set, which asks it of pictures in which
exactly one thing answers. Nothing here is an instruction to a robot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from rt2_ros.data.pictographs import pictographs
from rt2_ros.data.split import web_pictographs

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS_ZH = "零一二三四五六七八九十"


@dataclass(frozen=True)
class Fact:
    """Something that is true of some things and surely not of others; of the rest nobody says.

    texts, texts_zh: what a thing that it is true of may be called; or, with `said`, a sentence that
    asks for it ("I am thirsty").
    """

    texts: tuple[str, ...]
    texts_zh: tuple[str, ...]
    true: frozenset[str]
    false: frozenset[str]
    said: bool = False

    def tells(self, name: str, among: Collection[str]) -> bool:
        """Whether it singles that thing out among those in a picture."""
        return name in self.true and all(other == name or other in self.false for other in among)


# Kinds: English and Chinese names, Unicode's subgroups, names that are more, names that are not,
# and names of which one may say either.
_Kind = tuple[str, str, str, str, str, str]
_KINDS: tuple[_Kind, ...] = (
    ("fruit", "水果", "food-fruit", "", "", "tomato, olive, coconut, avocado, lotus"),
    ("vegetable", "蔬菜", "food-vegetable", "leafy green", "avocado, peanuts, chestnut",
     "tomato, avocado, olive, beans, peanuts, mushroom, roasted sweet potato, green salad"),
    ("animal", "动物", "animal-*", "crab, lobster, shrimp, squid",
     "feather, paw prints, pig nose, spider web, spiral shell, coral, microbe, unicorn, dragon, "
     "dragon face",
     "feather, paw prints, pig nose, spider web, spiral shell, coral, microbe, oyster, teddy bear, "
     "carousel horse, snowman, fried shrimp, unicorn, dragon, dragon face, mermaid, "
     "mouse trap, computer mouse"),
    ("bird", "鸟", "animal-bird", "", "feather", "feather, bat, poultry leg, egg, nest with eggs"),
    ("insect", "昆虫", "", "butterfly, bug, ant, honeybee, beetle, lady beetle, cricket, cockroach, "
     "mosquito, fly", "", "snail, spider, scorpion, worm, microbe, spider web"),
    ("flower", "花", "plant-flower", "", "rosette", "rosette, potted plant, flower playing cards, "
     "broccoli, herb"),
    ("tree", "树", "", "evergreen tree, deciduous tree, palm tree", "", "christmas tree, "
     "tanabata tree, pine decoration, potted plant, seedling, wood, desert island"),
    ("drink", "饮料", "", "glass of milk, hot beverage, teacup without handle, sake, wine glass, "
     "cocktail glass, tropical drink, beer mug, clinking beer mugs, cup with straw, bubble tea, "
     "beverage box, mate, tumbler glass, clinking glasses", "", "baby bottle, teapot, "
     "bottle with popping cork, pouring liquid, ice, droplet, potable water, coconut, steaming bowl"),
    ("sweet", "甜食", "food-sweet", "", "", "pancakes, waffle, honey pot, custard, dango, moon cake, "
     "fortune cookie, shaved ice, bubble tea, croissant, shortcake"),
    ("tool", "工具", "", "hammer, axe, pick, hammer and pick, hammer and wrench, carpentry saw, wrench, "
     "screwdriver, clamp, toolbox", "", "kitchen knife, scissors, ladder, nut and bolt, gear, hook, "
     "magnet, dagger, crossed swords, broom, paintbrush, straight ruler, triangular ruler, "
     "flashlight, sewing needle, balance scale, plunger, pencil, pen, link, chains, fire extinguisher"),
    ("vehicle", "车辆", "", "bus, oncoming bus, trolleybus, minibus, ambulance, fire engine, police car, "
     "oncoming police car, taxi, oncoming taxi, automobile, oncoming automobile, "
     "sport utility vehicle, pickup truck, delivery truck, articulated lorry, tractor, racing car, "
     "motorcycle, motor scooter, auto rickshaw", "", "transport-*, wheel, shopping cart, "
     "carousel horse, sled"),
    ("ball", "球", "", "soccer ball, baseball, softball, basketball, volleyball, tennis, american football, "
     "rugby football, pool 8 ball", "", "bowling, crystal ball, mirror ball, cricket game, yarn, "
     "field hockey, ping pong, badminton, globe showing americas, yo-yo, balloon"),
    ("musical instrument", "乐器", "musical-instrument", "", "", "bell, postal horn, microphone, "
     "studio microphone, wind chime, musical note, radio"),
    ("building", "建筑", "place-building", "", "building construction, brick, rock, wood, hut, wedding, "
     "statue of liberty", "building construction, hut, wedding, statue of liberty, tent, church, mosque, "
     "hindu temple, synagogue, shinto shrine, kaaba, stadium, circus tent, station, brick, fountain"),
    ("hat", "帽子", "", "woman's hat, top hat, graduation cap, billed cap", "", "crown, military helmet, "
     "rescue worker's helmet, person-*, snowman"),
    ("shoe", "鞋", "", "man's shoe, running shoe, hiking boot, flat shoe, high-heeled shoe, "
     "woman's sandal, woman's boot, ballet shoes, thong sandal", "", "socks, ice skate, roller skate"),
    ("book", "书", "", "closed book, open book, green book, blue book, orange book, books", "",
     "book-paper, spiral notepad, card index"),
    ("number", "数字", "keycap", "", "", "pool 8 ball, 1st place medal, 2nd place medal, 3rd place medal, "
     "calendar, tear-off calendar, game die, abacus"),
    ("flag", "旗帜", "country-flag, flag", "", "", "flag in hole, carp streamer, "
     "map of japan"),
    ("heart", "心", "heart", "heart suit", "love letter", "love letter, love hotel"),
    ("person", "人物", "person-role", "", "", "person-fantasy, statue of liberty, snowman, wedding, "
     "nesting dolls, japanese dolls, moai, teddy bear"),
    ("weapon", "武器", "", "dagger, crossed swords, bomb, bow and arrow", "", "axe, kitchen knife, "
     "water pistol, pick, boomerang, shield, firecracker, trident emblem"),
    ("boat", "船", "", "sailboat, canoe, speedboat, passenger ship, ferry, motor boat, ship", "",
     "anchor, ring buoy"),
    ("train", "火车", "", "locomotive, railway car, high-speed train, bullet train, train, metro", "",
     "light rail, station, tram, monorail, mountain railway, tram car, suspension railway, railway track"),
    ("piece of clothing", "衣服", "", "t-shirt, jeans, coat, dress, kimono, sari, shorts, lab coat, scarf, "
     "socks, gloves", "", "clothing, running shirt, martial arts uniform, person-*"),
    ("star", "星星", "", "star, glowing star, shooting star", "", "star of david, "
     "eight-pointed star, sparkles, night with stars, comet"),
)  # fmt: skip

_COLOURS: dict[tuple[str, str], str] = {
    ("red", "红色"): "red apple, cherries, tomato, strawberry, fire engine, red heart, rose, "
        "lady beetle, hot pepper, red paper lantern, red envelope, lobster, stop sign, crab, "
        "heart suit, diamond suit, postbox, fire extinguisher, boxing glove, telephone, closed book",
    ("yellow", "黄色"): "banana, lemon, yellow heart, star, cheese wedge, sunflower, taxi, sun, "
        "honey pot, baby chick, pineapple, ear of corn, full moon, school, coin, key",
    ("green", "绿色"): "green apple, broccoli, cucumber, frog, green heart, turtle, crocodile, cactus, "
        "leafy green, four leaf clover, shamrock, evergreen tree, green book, pear, olive, lizard, "
        "snake, kiwi fruit, melon, t-rex, herb, bell pepper, tractor, recycling symbol",
    ("blue", "蓝色"): "blue heart, blueberries, blue book, droplet, jeans, whale, spouting whale, "
        "water wave, t-shirt, ice, blowfish, sport utility vehicle, butterfly, thong sandal, dolphin",
    ("purple", "紫色"): "grapes, eggplant, purple heart, roasted sweet potato",
    ("orange", "橙色"): "tangerine, carrot, basketball, orange heart, orange book, fox, tiger, "
        "jack-o-lantern, mango, tropical fish, maple leaf, orangutan, cat, construction",
    ("brown", "棕色"): "bear, brown heart, chestnut, chocolate bar, potato, bread, cookie, horse, deer, "
        "beaver, wood, coconut, kangaroo, monkey, violin, briefcase, basket, door, otter",
    ("black", "黑色"): "black heart, gorilla, pool 8 ball, top hat, black cat, ant, spider, bomb, "
        "spade suit, club suit, video game, television, black nib, film frames",
    ("white", "白色"): "white heart, polar bear, swan, egg, cooked rice, dove, snowman, ewe, "
        "toilet, baseball, cloud, lab coat, rabbit, page facing up, white flower, salt",
    ("pink", "粉色"): "pig, pig face, flamingo, cherry blossom, tulip, peach, octopus, hibiscus, "
        "pig nose, sparkling heart, lotus, bikini, ballet shoes, shrimp",
}  # fmt: skip

# Colours that a thing of the first may be taken for: of those nobody says that they are not so.
_NEARLY: dict[str, tuple[str, ...]] = {
    "red": ("orange", "pink"), "orange": ("red", "yellow", "brown"), "yellow": ("orange",),
    "brown": ("orange", "black"), "purple": ("pink", "blue"), "blue": ("purple",),
    "pink": ("red", "purple", "white"), "black": ("brown",), "white": ("pink",),
}  # fmt: skip

_HEAVY = ("rock, brick, anchor, elephant, locomotive, hippopotamus, rhinoceros, mammoth, whale, "
          "spouting whale, automobile, bus, fire engine, tractor, articulated lorry, ship, castle, "
          "ox, bison, gorilla, train, mountain, moai, headstone, couch and lamp, file cabinet, "
          "airplane, ambulance, delivery truck, oil drum, sauropod, t-rex, horse, racing car")  # fmt: skip
_LIGHT = ("feather, balloon, fallen leaf, butterfly, leaf fluttering in wind, maple leaf, bubbles, "
          "paperclip, ant, mosquito, fly, lady beetle, honeybee, spider, kite, page facing up, "
          "receipt, ticket, safety pin, sewing needle, thread, four leaf clover, shamrock, cherry blossom, "
          "snowflake, cricket, label, envelope, red envelope, bookmark")  # fmt: skip
# Of animals, from the smallest to the largest; those of one line are not compared.
_SIZES = (
    "ant, lady beetle, mosquito, fly, honeybee, beetle, cricket, worm",
    "mouse, hamster, frog, baby chick, hatching chick, bird, lizard, chipmunk, hedgehog, bat, rat",
    "rabbit, cat, black cat, duck, rooster, chicken, raccoon, beaver, owl, otter, skunk, turkey",
    "dog, poodle, wolf, ewe, goat, pig, ram, monkey, koala, kangaroo, leopard, swan, peacock",
    "horse, cow, ox, water buffalo, bear, polar bear, camel, tiger, lion, gorilla, zebra, bison, deer",
    "elephant, whale, spouting whale, mammoth, sauropod",
)  # fmt: skip
_HEALTHY_DRINK = "glass of milk, beverage box, mate, teacup without handle"
_UNHEALTHY_DRINK = ("beer mug, clinking beer mugs, wine glass, cocktail glass, tropical drink, sake, "
                    "tumbler glass, clinking glasses, bottle with popping cork, bubble tea")  # fmt: skip
_HEALTHY = ("red apple, green apple, carrot, broccoli, cucumber, leafy green, green salad, banana, "
            "pear, kiwi fruit, blueberries, avocado, tomato, grapes, strawberry, glass of milk")  # fmt: skip
_UNHEALTHY = ("hamburger, french fries, hot dog, pizza, doughnut, candy, lollipop, chocolate bar, "
              "cigarette, beer mug, ice cream, soft ice cream, bacon, birthday cake, cookie, cupcake")  # fmt: skip

# What things are for, as "to ..."; what I need when ...; where animals live. Several may do: then
# a picture has only one of them.
_USES: dict[tuple[str, str], str] = {
    ("drive a nail", "钉钉子"): "hammer, hammer and wrench, hammer and pick",
    ("cut paper", "剪纸"): "scissors",
    ("cut wood", "锯木头"): "carpentry saw, axe",
    ("turn a screw", "拧螺丝"): "screwdriver",
    ("tighten a bolt", "拧紧螺栓"): "wrench, hammer and wrench",
    ("write a letter", "写信"): "pencil, pen, fountain pen",
    ("draw a picture", "画画"): "crayon, paintbrush, artist palette, pencil",
    ("open a lock", "开锁"): "key, old key",
    ("stay dry in the rain", "挡雨"): "umbrella, umbrella with rain drops, closed umbrella",
    ("see in the dark", "照明"): "flashlight, candle, light bulb, diya lamp",
    ("take a photo", "拍照"): "camera, camera with flash, mobile phone",
    ("call a friend", "打电话"): "telephone, mobile phone, telephone receiver",
    ("look at the stars", "看星星"): "telescope",
    ("look at something tiny", "看微小的东西"): "microscope, magnifying glass tilted left, "
        "magnifying glass tilted right",
    ("sweep the floor", "扫地"): "broom",
    ("brush my teeth", "刷牙"): "toothbrush",
    ("wash my hands", "洗手"): "soap",
    ("measure a length", "量长度"): "straight ruler, triangular ruler",
    ("weigh something", "称重"): "balance scale",
    ("put out a fire", "灭火"): "fire extinguisher, fire engine",
    ("carry water", "提水"): "bucket",
    ("eat soup", "喝汤"): "spoon, bowl with spoon",
    ("cut bread", "切面包"): "kitchen knife",
    ("sit on", "坐"): "chair, couch and lamp, seat",
    ("sleep in", "睡觉"): "bed",
    ("fly to the moon", "飞上月球"): "rocket",
    ("cross the sea", "过海"): "ship, passenger ship, ferry, sailboat",
    ("fly to another country", "飞到另一个国家"): "airplane",
    ("find north", "找北"): "compass",
    ("catch a fish", "钓鱼"): "fishing pole",
    ("climb up", "爬高"): "ladder",
    ("hold papers together", "夹住纸"): "paperclip, linked paperclips",
    ("make music", "演奏音乐"): "guitar, violin, trumpet, saxophone, accordion, banjo, drum, "
        "long drum, musical keyboard",
    ("sew", "缝衣服"): "sewing needle, thread",
    ("pay with", "付钱"): "coin, dollar banknote, euro banknote, yen banknote, pound banknote, "
        "credit card, money bag",
    ("send to a friend", "寄给朋友"): "envelope, love letter, package",
    ("clean the dishes", "洗碗"): "sponge",
    ("carry my shopping", "装购物"): "shopping bags, shopping cart, basket",
    ("ride to school", "骑车上学"): "bicycle, kick scooter",
}  # fmt: skip
_NEEDS: dict[tuple[str, str], str] = {
    ("I am thirsty", "我渴了"): "glass of milk, cup with straw, beverage box, hot beverage, "
        "teacup without handle, bubble tea, mate",
    ("I am hungry", "我饿了"): "hamburger, pizza, sandwich, bread, spaghetti, hot dog, taco, burrito, "
        "curry rice, rice ball, bento box, croissant",
    ("I am tired", "我累了"): "bed, chair, couch and lamp",
    ("I am cold", "我冷了"): "coat, scarf, gloves, socks",
    ("it is raining", "下雨了"): "umbrella, umbrella with rain drops, closed umbrella",
    ("I am hurt", "我受伤了"): "adhesive bandage",
    ("I am ill", "我生病了"): "pill, syringe",
    ("I want to read", "我想看书"): "closed book, open book, green book, blue book, orange book, "
        "books, newspaper",
    ("I want to play football", "我想踢足球"): "soccer ball",
    ("it is my birthday", "今天是我的生日"): "birthday cake, wrapped gift",
    ("it is too dark", "太暗了"): "light bulb, candle, flashlight",
    ("the sun is too bright", "太阳太亮了"): "sunglasses",
}  # fmt: skip
_LIVES: dict[tuple[str, str], str] = {
    ("lives in the sea", "生活在海里"): "spouting whale, whale, dolphin, octopus, tropical fish, "
        "shark, blowfish, crab, lobster, squid",
    ("lives on a farm", "生活在农场"): "cow, pig, rooster, chicken, ewe, goat, horse, turkey",
    ("can fly", "会飞"): "bird, eagle, dove, owl, duck, parrot, butterfly, honeybee, mosquito, fly, "
        "bat, lady beetle",
    ("gives milk", "产奶"): "cow, goat, ewe",
    ("lives in the desert", "生活在沙漠"): "camel, two-hump camel, scorpion",
    ("lives on ice", "生活在冰上"): "penguin, polar bear, seal",
    ("has a long neck", "脖子很长"): "giraffe",
    ("makes honey", "酿蜜"): "honeybee",
    ("spins webs", "织网"): "spider",
    ("lays eggs", "下蛋"): "chicken, turtle, duck, crocodile",
    ("eats bamboo", "吃竹子"): "panda",
    ("hops", "蹦跳"): "kangaroo, rabbit, frog",
}  # fmt: skip
_TRADES: dict[tuple[str, str], str] = {
    ("puts out fires", "灭火"): "firefighter",
    ("flies to the moon", "飞上月球"): "astronaut",
    ("catches thieves", "抓小偷"): "police officer",
    ("cooks meals", "做饭"): "cook",
    ("grows vegetables", "种菜"): "farmer",
    ("helps the sick", "照顾病人"): "health worker",
    ("teaches children", "教孩子"): "teacher",
    ("goes to school", "上学"): "student",
    ("sings songs", "唱歌"): "singer",
    ("paints pictures", "画画"): "artist",
    ("flies planes", "开飞机"): "pilot",
    ("repairs cars", "修车"): "mechanic",
    ("decides in court", "审判"): "judge",
    ("does research", "做研究"): "scientist",
    ("builds houses", "盖房子"): "construction worker",
    ("looks for clues", "寻找线索"): "detective",
    ("brings presents at christmas", "圣诞节送礼物"): "santa claus",
    ("drinks blood", "吸血"): "vampire",
}  # fmt: skip


@cache
def facts() -> tuple[Fact, ...]:
    """Everything that is known, kinds first."""
    names = {p.name for p in web_pictographs()}
    found = [_kind(entry, names) for entry in _KINDS]
    colours = {key: _list(members) & names for key, members in _COLOURS.items()}
    for (word, chinese), members in colours.items():
        near = (word, *_NEARLY.get(word, ()))
        rest = frozenset().union(*(m for key, m in colours.items() if key[0] not in near))
        rest -= members
        texts = (f"the {word} one", f"something {word}", f"the {word} thing")
        found.append(
            Fact(texts, (f"{chinese}的东西", f"{chinese}的那个"), members, rest)
        )
        texts = (f"the one that is not {word}", f"something that is not {word}")
        chinese_texts = (f"不是{chinese}的那个", f"不是{chinese}的东西")
        found.append(Fact(texts, chinese_texts, rest, members))
    animals = found[2].true
    for one, other, texts, chinese_texts in (
        (_HEAVY, _LIGHT, ("something heavy", "the heavy one"), ("重的东西", "重的那个")),
        (_LIGHT, _HEAVY, ("something light", "the light one"), ("轻的东西", "轻的那个")),
        (_HEALTHY_DRINK, _UNHEALTHY_DRINK + ", hamburger, pizza, doughnut, french fries",
         ("a healthy drink", "the healthy drink"), ("健康的饮料",)),
        (_UNHEALTHY_DRINK, _HEALTHY_DRINK + ", carrot, banana, broccoli",
         ("an unhealthy drink",), ("不健康的饮料",)),
        (_HEALTHY, _UNHEALTHY, ("something healthy", "healthy food"), ("健康的食物",)),
        (_UNHEALTHY, _HEALTHY, ("something unhealthy", "unhealthy food"), ("不健康的食物",)),
    ):  # fmt: skip
        found.append(Fact(texts, chinese_texts, _list(one) & names, _list(other) & names))
    for table, texts, chinese_texts, false in (
        (_USES, ("what I could use to {}", "something to {}", "the thing to {}"),
         ("用来{}的东西",), None),
        (_NEEDS, ("{}",), ("{}",), None),
        (_LIVES, ("the animal that {}", "the one that {}"), ("{}的动物",), animals),
        (_TRADES, ("the person who {}", "the one who {}"), ("{}的人",), found[20].true),
    ):  # fmt: skip
        for (english, chinese), members in table.items():
            true = _list(members) & names
            if not true:
                continue
            surely = (_plain_things(names) if false is None else false) - true
            found.append(
                Fact(
                    tuple(text.format(english) for text in texts),
                    tuple(text.format(chinese) for text in chinese_texts), true, surely,
                    said=table is _NEEDS,
                )  # fmt: skip
            )
    sizes = [_list(line) & names for line in _SIZES]
    for tier, members in enumerate(sizes):
        smaller = frozenset().union(*sizes[:tier])
        larger = frozenset().union(*sizes[tier + 1 :])
        if larger:
            texts = ("the smallest animal", "the smallest one")
            found.append(Fact(texts, ("最小的动物", "最小的那个"), members, larger))
        if smaller:
            texts = ("the largest animal", "the largest one")
            found.append(Fact(texts, ("最大的动物", "最大的那个"), members, smaller))
    return tuple(fact for fact in found if fact.true and fact.false)


def kinds() -> tuple[Fact, ...]:
    """The facts that say what kind of thing it is."""
    return facts()[: len(_KINDS)]


def colours_of(name: str) -> tuple[str, ...]:
    """Its colour, where it has one."""
    return tuple(word for (word, _), members in _COLOURS.items() if name in _list(members))


def uses_of(name: str) -> tuple[str, ...]:
    """What it is for: "drive a nail"."""
    return tuple(use for (use, _), members in _USES.items() if name in _list(members))


def fact(text: str) -> Fact:
    """What a description says. Raises KeyError for one that nobody wrote down."""
    for known in facts():
        if text in known.texts or text in known.texts_zh:
            return known
    raise KeyError(f"nothing is known of {text!r}")


@cache
def facts_of(name: str) -> tuple[Fact, ...]:
    """The facts that are true of a thing."""
    return tuple(known for known in facts() if name in known.true)


def sums(random: np.random.Generator, value: int, chinese: bool) -> str:
    """An expression whose result is `value`, 0..10, in words or digits."""
    minus = value < 10 and random.random() < (0.4 if value else 1.0)
    if minus:
        second = int(random.integers(1, 11 - value))
        first, operation, named = value + second, ("minus", "-", "减"), ("difference", "差")
    else:
        second = int(random.integers(0, value + 1))
        first, operation, named = value - second, ("plus", "+", "加"), ("sum", "和")
    if chinese:
        text = f"{NUMBERS_ZH[first]}{operation[2]}{NUMBERS_ZH[second]}"
        return f"{text}的{named[1]}" if random.random() < 0.5 else text
    if random.random() < 0.3:
        return f"{first} {operation[1]} {second}"
    text = f"{NUMBERS[first]} {operation[0]} {NUMBERS[second]}"
    if random.random() < 0.4:
        of = "of" if named[0] == "sum" else "between"
        return f"the {named[0]} {of} {text}" if of == "of" else f"the result of {text}"
    return text


def number_of(name: str) -> int | None:
    """The number that a keycap shows."""
    return int(name.removeprefix("keycap ")) if name.startswith("keycap ") else None


def words() -> Iterable[str]:
    """Every text that descriptions are made of."""
    for known in facts():
        yield from known.texts
        yield from known.texts_zh
    yield " ".join(NUMBERS)
    yield "the sum of plus minus + - the result of"
    yield from ("的和", "的差", *(f"{a}加{b}减" for a in NUMBERS_ZH for b in NUMBERS_ZH))


def _list(text: str) -> frozenset[str]:
    return frozenset(filter(None, (name.strip() for name in text.split(","))))


def _kind(entry: _Kind, names: set[str]) -> Fact:
    english, chinese, subgroups, more, less, unsure = entry
    true = (_of(subgroups, names) | (_list(more) & names)) - _list(less)
    false = frozenset(names) - true - _of(unsure, names) - _list(unsure)
    return Fact((f"the {english}", f"a {english}"), (chinese,), true, false)


@cache
def _by_subgroup() -> dict[str, frozenset[str]]:
    groups: dict[str, set[str]] = {}
    for p in pictographs():
        groups.setdefault(p.subgroup, set()).add(p.name)
    return {name: frozenset(members) for name, members in groups.items()}


def _of(subgroups: str, names: Collection[str]) -> frozenset[str]:
    """Members of Unicode's subgroups, "animal-*" for all that begin so."""
    found: set[str] = set()
    for pattern in _list(subgroups):
        for subgroup, members in _by_subgroup().items():
            whole = subgroup == pattern
            if whole or (pattern.endswith("*") and subgroup.startswith(pattern[:-1])):
                found |= members
    return frozenset(found) & frozenset(names)


@cache
def _plain() -> frozenset[str]:
    """Things that are of no use for what is asked of others: food that is no drink, animals,
    plants, signs.
    """
    names = {p.name for p in web_pictographs()}
    return _of("animal-*, plant-flower, food-fruit, food-vegetable, keycap, place-building, sport, "
               "musical-instrument, tool, transport-ground, game", names)  # fmt: skip


def _plain_things(names: Collection[str]) -> frozenset[str]:
    return _plain() & frozenset(names)
