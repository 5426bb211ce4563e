"""Canonical text: undo what hides a word from a tokenizer and changes nothing for a reader.

Two views. The *canonical* view removes what no reader sees (zero-width, bidirectional, tag and variation characters,
NULs, lone surrogates), applies NFKC, and maps look-alike letters to Latin inside words that mix scripts. The
*de-obfuscated* view also joins spaced-out letters (``i d i o t``, ``i/d/i/o/t``), reads struck-through, boxed and foreign
letters as the plain ones that they are drawn like (``ıdıøt``), undoes digits and signs that stand for letters inside words,
and shortens long repeats; it changes meaning too often to replace the text, so both are scored and the larger score counts.
What is written in tag characters, which no person sees and a language model may read, follows at its end. Linear time whatever
the text, standard library only. Background: Unicode TR 39 (confusables) and TR 36.

What keeps it linear: every repetition that a match could give back is possessive (``++``, ``*+``), a match takes all that
could begin inside it, and no more than 30 combining marks follow one another (normalising a longer run takes quadratic
time: 16,000 marks took 14 s). 30 is the bound of Unicode's Stream-Safe Text Format, UAX 15.
"""

import re
import unicodedata
from dataclasses import dataclass

# What carries no meaning in running text, whatever is beside it.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c"
    "\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Every combining mark: a reader sees the letter below it, and the student's tokenizer drops it.
_MARKS = "".join(chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) in ("Mn", "Me"))
_RARE_MARKS = "".join(chr(code) for code in range(0x10000, 0x1F000) if unicodedata.category(chr(code)) == "Mn")
_LETTER = re.compile("[A-Za-z0-9@$!*\u00aa-\u058f\u1d00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff\uab30-\uab6f]")
# What has a meaning elsewhere and none beside a Latin, Greek or Cyrillic letter: the joiner of emoji, Arabic signs of numbers,
# characters for private use, marks of ancient scripts. The tokenizer drops all of it, and so joins what it parted.
_COMMON_STRAY = "\u0600-\u0605\u06dd\u070f\u1734\u200d\ue000-\uf8ff\ufffd"
_BEFORE_EMOJI, _FOR_PRIVATE_USE = "\U00010000-\U0001efff", "\U000f0000-\U0010ffff"
_MAYBE_STRAY = f"[{_COMMON_STRAY}{_BEFORE_EMOJI}{_FOR_PRIVATE_USE}]"  # for speed
_STRAY = f"(?:[{_COMMON_STRAY}{_FOR_PRIVATE_USE}]|(?=[{_BEFORE_EMOJI}])[\U000110bd{_RARE_MARKS}])"
_STRAYS = re.compile(f"(?={_MAYBE_STRAY}){_STRAY}++")
_SPACES = re.compile(r"[^\S\n ][^\S\n]*+|[^\S\n]{2,}+")  # all that isn't one plain space already
_MAX_MARKS = 30
_MADE_OF_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"  # not combining themselves, but NFKC makes combining marks of them
# Runs long enough to hold too many marks. Marks are neither word characters nor ASCII, but for two half-width ones.
_MAYBE_MARKS = re.compile(r"(?:[^\w\s\x00-\x7f]|[\uff9e\uff9f]){31,}+")
# A word with its combining marks, so that composing them later never joins two words into one.
_WORD = re.compile(f"(?:[\\w{_MARKS}]|{_STRAY})++")
_HAS_LATIN = re.compile("[A-Za-z]")
_HAS_LOOKALIKE_SCRIPT = re.compile("[\u0370-\u03ff\u0400-\u04ff]")

# Greek and Cyrillic letters drawn like a Latin one, as "look-alike + Latin" pairs.
_LOOKALIKE_PAIRS = (
    "аa вb гr еe ёe іi їi јj кk мm нh оo пn рp сc ѕs тt уy хx ѵv ьb ԁd ԛq ԝw "
    "АA ВB ЕE ЅS ІI ЈJ КK МM НH ОO РP СC ТT УY ХX "
    "αa βb γy δd εe ηn ιi κk νv οo ρp τt υu χx ωw "
    "ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX"
)
LOOKALIKES: dict[int, str] = str.maketrans({pair[0]: pair[1] for pair in _LOOKALIKE_PAIRS.split()})
"""Code point → the Latin letter that it is drawn like."""

# Letters that belong in words of their own languages, so that only the second view reads them as plain ones: Latin with a
# stroke or without a dot, small capitals, Armenian and Cyrillic ones that the first view leaves alone.
_DRAWN_LIKE_PAIRS = (
    "ıi ɨi ɩi ɪi ӏl łl ƚl øo ɵo ᴏo օo đd ðd ɖd ʉu ᴜu սu ŧt ƫt ᴛt ħh ʜh հh ƀb ɓb ʙb ɡg ɢg ɠg ɑa ᴀa ᴄc ƈc ᴅd ᴇe ɛe ꜰf ƒf "
    "ᴊj ɉj ᴋk ƙk ʟl ᴍm ɴn ŋn ռn ᴘp ƥp ʀr ɍr ꜱs ƨs ᴠv ʋv ᴡw ʏy ƴy ᴢz ƶz ØO ŁL ĐD ŦT ĦH ɃB ƗI ɄU ƵZ"
)
_BOXED = {first + letter: chr(ord("a") + letter) for first in (0x1F150, 0x1F170) for letter in range(26)}
_DRAWN_LIKE = str.maketrans({pair[0]: pair[1] for pair in _DRAWN_LIKE_PAIRS.split()} | _BOXED)

# Tag characters spell ASCII that nobody sees. The flags of England, Scotland and Wales use them rightly.
_TAGS = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}
_TAG = re.compile("[\U000e0020-\U000e007e]")
_TAGGED_FLAG = re.compile("(?<=\U0001f3f4)[\U000e0020-\U000e007e]{1,6}+\U000e007f")

_LEET = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i", "*": "u"})
_LEET_RUN = re.compile(r"[A-Za-z0-9@$!*]++")
_LEET_INSIDE = re.compile(r"[A-Za-z][0-9@$!*]++[A-Za-z]")
_LEET_START = re.compile(r"[@$][A-Za-z]{2}")
# A star is a letter where a letter is due and a separator where a separator is due.
_SPACED_LETTERS = re.compile(r"(?<![^\W_])[A-Za-z0-9@$!*](?:(?:[ \n.,/|~+·•\-_]{1,2}+|\*{1,2}+)[A-Za-z0-9@$!*])++")
_NEXT_LETTER = re.compile(r"(?:[ \n.,/|~+·•\-_]{1,2}+|\*{1,2}+)(.)")
_LONG_REPEAT = re.compile(r"([A-Za-z])\1{2,}")
_LATIN_MARKS = re.compile(f"[{_MARKS}](?<=[\x00-\x7f].)(?:[{_MARKS}]|{_STRAY})*+")


@dataclass(frozen=True, slots=True)
class CanonicalText:
    """``text`` is what the student and the teacher read; ``is_changed`` says that it differs from what was sent in more
    than white space; ``deobfuscated`` is the second view, or None where it equals the first."""

    text: str
    is_changed: bool
    deobfuscated: str | None


def canonicalise(text: str) -> CanonicalText:
    """Both views of a text. Any ``str`` is accepted, lone surrogates and NULs included; the result encodes as UTF-8.

    Idempotent: the canonical view of ``text`` is ``text``, and so is the second view, but for tag characters, which ``text`` no
    longer has.
    """
    # ASCII has nothing to fold: most texts take the short way.
    folded = _INVISIBLE.sub("", text) if text.isascii() else _fold(text)
    canonical = _tidy(folded)
    deobfuscated = _deobfuscate(_tidy(f"{canonical} {_tagged(text)}") if _TAG.search(text) else canonical)
    is_changed = folded != text and canonical != _tidy(text)
    return CanonicalText(canonical, is_changed, None if deobfuscated == canonical else deobfuscated)


def _fold(text: str) -> str:
    folded = _normalise(_normalise(text))  # twice, as NFKC makes some invisible characters of visible ones
    return _normalise(_WORD.sub(_latinise_mixed_word, folded))


def _normalise(text: str) -> str:
    visible = _MAYBE_MARKS.sub(_limit_marks, _STRAYS.sub(_drop_beside_a_letter, _INVISIBLE.sub("", text)))
    return _MAYBE_MARKS.sub(_limit_marks, unicodedata.normalize("NFKC", visible))


def _drop_beside_a_letter(match: re.Match[str]) -> str:
    text, before, after = match.string, max(0, match.start() - 1), match.end()
    return "" if _LETTER.match(text, before, match.start()) or _LETTER.match(text, after) else match.group()


def _limit_marks(match: re.Match[str]) -> str:
    kept, marks = [], 0
    for character in match.group():
        marks = marks + 1 if unicodedata.combining(character) or character in _MADE_OF_MARKS else 0
        if marks <= _MAX_MARKS:
            kept.append(character)
    return "".join(kept)


def _tidy(text: str) -> str:
    return _SPACES.sub(" ", text).strip()


def _latinise_mixed_word(match: re.Match[str]) -> str:
    word = match.group()
    if _HAS_LATIN.search(word) and _HAS_LOOKALIKE_SCRIPT.search(word):
        return word.translate(LOOKALIKES)
    return word


def _tagged(text: str) -> str:
    return "".join(_TAG.findall(_TAGGED_FLAG.sub("", text))).translate(_TAGS)


def _deobfuscate(text: str) -> str:
    if text.isascii():
        return _read_around(text)
    drawn = text.translate(_DRAWN_LIKE)
    plain = unicodedata.normalize("NFC", _LATIN_MARKS.sub("", unicodedata.normalize("NFD", drawn)))
    read = _read_around(plain)
    return drawn if read == plain else read  # accents alone hide nothing: the tokenizer reads past them


def _read_around(text: str) -> str:
    text = _SPACED_LETTERS.sub(_join_letters, text)
    if _LEET_INSIDE.search(text) or _LEET_START.search(text):
        text = _LEET_RUN.sub(_read_leet, text)
    return _LONG_REPEAT.sub(r"\1\1", text)


def _join_letters(match: re.Match[str]) -> str:
    """Three or more spaced letters without what separates them. A last "letter" that begins a word stays with its word."""
    chain, steps = match.group(), list(_NEXT_LETTER.finditer(match.group(), 1))
    if match.string[match.end() : match.end() + 1].isalnum():
        steps.pop()
    if len(steps) < 2:
        return chain
    return chain[0] + "".join(step.group(1) for step in steps) + chain[steps[-1].end() :]


def _read_leet(match: re.Match[str]) -> str:
    run = match.group()
    if _LEET_INSIDE.search(run):
        return run.translate(_LEET)
    if start := _LEET_START.search(run):
        return run[: start.start()] + run[start.start() :].translate(_LEET)
    return run
