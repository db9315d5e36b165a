# SPDX-License-Identifier: Apache-2.0
"""Pictographs: the things of the simulated world and of the built-in web data, with what Unicode
knows of them.

The table `pictographs.tsv` is made from Unicode's emoji-test.txt and CLDR annotations (English and
Chinese) by `python -m rt2_ros.data.pictographs`; the pictures are drawn from the system's Noto
Color Emoji font.

    >>> by_name("banana").keywords
    ('fruit', 'potassium')
    >>> render(by_name("banana"), 64).shape
    (64, 64, 4)
"""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

TABLE = Path(__file__).with_name("pictographs.tsv")
FONTS = tuple(map(Path, ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts")))
FONT_SIZE = 109  # px, the only size the bitmap font holds
UNICODE = Path("/usr/share/unicode")
# Faces, hands, clocks and arrows differ in details that a few dozen pixels do not show.
LEFT_OUT_GROUPS = ("Smileys & Emotion", "People & Body", "Component")
LEFT_OUT_SUBGROUPS = ("time", "arrow", "alphanum", "geometric", "av-symbol", "gender", "math",
                      "punctuation", "currency", "subdivision-flag")  # fmt: skip
TAKEN_SUBGROUPS = ("heart", "person-role", "person-fantasy")  # of groups that are left out
VARIANTS = ("man ", "woman ", "mx ")  # people are taken once; skin tones never
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
IN_WORDS = {str(number): word for number, word in enumerate(NUMBERS)} | {
    "1st": "first", "2nd": "second", "3rd": "third",
}  # fmt: skip


@dataclass(frozen=True)
class Pictograph:
    """One pictograph: its text, its English and Chinese names, and the words Unicode files it
    under.
    """

    text: str
    name: str
    group: str
    subgroup: str
    keywords: tuple[str, ...]
    name_zh: str
    keywords_zh: tuple[str, ...]


@cache
def pictographs() -> tuple[Pictograph, ...]:
    """All pictographs, in Unicode's order."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(
            Pictograph(
                text="".join(chr(int(code, 16)) for code in row["codes"].split()),
                name=row["name"],
                group=row["group"],
                subgroup=row["subgroup"],
                keywords=tuple(filter(None, row["keywords"].split("|"))),
                name_zh=row["name_zh"],
                keywords_zh=tuple(filter(None, row["keywords_zh"].split("|"))),
            )
            for row in csv.DictReader(file, delimiter="\t")
        )


@cache
def _names() -> dict[str, Pictograph]:
    names = {p.name_zh: p for p in pictographs()}
    names.update({p.name: p for p in pictographs()})
    return names


def by_name(name: str) -> Pictograph:
    """Look a pictograph up by its English or Chinese name; "keycap 3" is "keycap three".

    Raises:
        KeyError: there is no such name; the message gives the nearest ones.
    """
    plain = name.strip().lower()
    found = _names().get(plain) or _names().get(_without_digits(plain))
    if found is None:
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(name, _names(), n=3)) or "none"
        raise KeyError(f"no pictograph is named {name!r}; nearest names: {near}")
    return found


@cache
def _font() -> ImageFont.FreeTypeFont:
    for folder in FONTS:
        for path in sorted(folder.expanduser().rglob("NotoColorEmoji*.ttf")):
            return ImageFont.truetype(str(path), FONT_SIZE)
    raise FileNotFoundError(
        f"the font NotoColorEmoji is in none of {', '.join(map(str, FONTS))}: install it with "
        "`apt-get install fonts-noto-color-emoji`"
    )


@lru_cache(maxsize=4096)
def render(pictograph: Pictograph, size: int) -> NDArray[np.uint8]:
    """Draw a pictograph.

    Returns:
        uint8, shape (size, size, 4), RGBA with a transparent background, centred, read-only.

    Raises:
        FileNotFoundError: the font is not installed; the message names its apt package.
    """
    box = _font().getbbox(pictograph.text)
    width, height = int(box[2] - box[0]), int(box[3] - box[1])
    side = max(width, height)
    canvas = Image.new("RGBA", (side, side))
    ImageDraw.Draw(canvas).text(
        ((side - width) / 2 - box[0], (side - height) / 2 - box[1]),
        pictograph.text,
        font=_font(),
        embedded_color=True,
    )
    picture = np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS)).copy()
    picture.setflags(write=False)
    return picture


def _annotations(language: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """CLDR's short name and keywords for each character sequence (without variation selectors)."""
    names: dict[str, str] = {}
    words: dict[str, tuple[str, ...]] = {}
    for folder in ("annotations", "annotationsDerived"):
        path = UNICODE / "cldr" / "common" / folder / f"{language}.xml"
        if not path.exists():
            raise FileNotFoundError(f"{path}: install it with `apt-get install unicode-cldr-core`")
        for entry in ET.parse(path).getroot().iter("annotation"):
            text = (entry.text or "").strip()
            if entry.get("type") == "tts":
                names[entry.get("cp", "")] = text
            else:
                words[entry.get("cp", "")] = tuple(word.strip() for word in text.split("|"))
    return {cp: (name, words.get(cp, ())) for cp, name in names.items()}


def number_of(name: str) -> int | None:
    """The number that a keycap of this name shows; None for other things."""
    kind, _, number = name.partition(" ")
    return NUMBERS.index(number) if kind == "keycap" else None


def _plain(name: str) -> str:
    """'flag: France' -> 'flag of france'; other names in lower case without punctuation."""
    name = name.lower().replace("flag: ", "flag of ").replace("’", "'").replace("&", "and")
    return " ".join("".join(c if c.isalnum() or c in "-'" else " " for c in name).split())


def _without_digits(name: str) -> str:
    """'keycap 3' -> 'keycap three': in a plan the numbers behind a name are places."""
    return " ".join(IN_WORDS.get(word, word) for word in name.split())


def build_table() -> int:
    """Write `pictographs.tsv` from the system's Unicode data; returns the number of rows."""
    english, chinese = _annotations("en"), _annotations("zh")
    group = subgroup = ""
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    for line in (UNICODE / "emoji" / "emoji-test.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.split(":", 1)[1].strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.split(":", 1)[1].strip()
        elif "; fully-qualified" in line:
            left_out = group in LEFT_OUT_GROUPS and subgroup not in TAKEN_SUBGROUPS
            if left_out or subgroup in LEFT_OUT_SUBGROUPS:
                continue
            codes = line.split(";")[0].split()
            key = "".join(chr(int(code, 16)) for code in codes if code != "FE0F")
            if key not in english or key not in chinese:
                continue
            name, keywords = english[key]
            name_zh, keywords_zh = chinese[key]
            plain, name_zh = _plain(name), _plain(name_zh).replace(" ", "")
            name = _without_digits(plain)
            box = _font().getbbox("".join(chr(int(code, 16)) for code in codes))
            if box[2] - box[0] > 1.3 * FONT_SIZE or name in (*seen, "keycap") or not name_zh:
                continue  # drawn as several glyphs: the font does not have it
            if group == "People & Body" and (name.startswith(VARIANTS) or "skin tone" in name):
                continue
            seen.add(name)
            words = dict.fromkeys(_plain(word) for word in keywords)
            rows.append({
                "codes": " ".join(codes), "name": name, "group": group, "subgroup": subgroup,
                "keywords": "|".join(word for word in words if word and word != plain),
                "name_zh": name_zh,
                "keywords_zh": "|".join(w for w in keywords_zh if w != name_zh),
            })  # fmt: skip
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


if __name__ == "__main__":
    print(f"{build_table()} pictographs written to {TABLE}")
