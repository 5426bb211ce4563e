"""Canonical text: undo what hides a word from a tokenizer and changes nothing for a reader.

Two views. The *canonical* view removes what no reader sees (zero-width, bidirectional, tag and variation characters,
NULs, lone surrogates), applies NFKC, and maps look-alike letters to Latin inside words that mix scripts. The
*de-obfuscated* view also joins spaced-out letters (``i d i o t``), undoes digits and signs that stand for letters inside
words, and shortens long repeats; it changes meaning too often to replace the text, so both are scored and the larger
score counts. Linear time, standard library only. Background: Unicode TR 39 (confusables) and TR 36.
"""

import re
import unicodedata
from dataclasses import dataclass

# Default-ignorable code points that carry no meaning in running text. U+200D (joiner) stays: emoji sequences need it.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_SPACES = re.compile(r"[^\S\n]+")
_WORD = re.compile(r"\w+")
_HAS_LATIN = re.compile("[A-Za-z]")
_HAS_LOOKALIKE_SCRIPT = re.compile("[\u0370-\u03ff\u0400-\u04ff]")

# Greek and Cyrillic letters drawn like a Latin one, as "look-alike + Latin" pairs.
_LOOKALIKE_PAIRS = (
    "аa вb гr еe ёe іi їi јj кk мm нh оo пn рp сc ѕs тt уy хx ѵv ьb ԁd ԛq ԝw "
    "АA ВB ЕE ЅS ІI ЈJ КK МM НH ОO РP СC ТT УY ХX "
    "αa βb γy δd εe ηn ιi κk νv οo ρp τt υu χx ωw "
    "ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX"
)
_LOOKALIKES = str.maketrans({pair[0]: pair[1] for pair in _LOOKALIKE_PAIRS.split()})

_LEET = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i", "*": "u"})
_LEET_WORD = re.compile(r"[A-Za-z0-9@$!*]*[A-Za-z][0-9@$!*]+[A-Za-z]+[A-Za-z0-9@$!*]*|[@$][A-Za-z]{2,}\w*")
_SPACED_LETTERS = re.compile(r"(?<!\w)(?:[A-Za-z0-9@$!*][ .\-_*]{1,2}){2,}[A-Za-z0-9@$!*](?!\w)")
_LONG_REPEAT = re.compile(r"([A-Za-z])\1{2,}")


@dataclass(frozen=True, slots=True)
class CanonicalText:
    """``text`` is what the student and the teacher read; ``is_changed`` says that it differs from what was sent in more
    than white space; ``deobfuscated`` is the second view, or None where it equals the first."""

    text: str
    is_changed: bool
    deobfuscated: str | None


def canonicalise(text: str) -> CanonicalText:
    """Both views of a text. Any ``str`` is accepted, lone surrogates and NULs included; the result encodes as UTF-8."""
    visible = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    canonical = _WORD.sub(_latinise_mixed_word, _INVISIBLE.sub("", visible))
    is_changed = canonical != text
    canonical = _SPACES.sub(" ", canonical).strip()
    deobfuscated = _deobfuscate(canonical)
    return CanonicalText(canonical, is_changed, None if deobfuscated == canonical else deobfuscated)


def _latinise_mixed_word(match: re.Match[str]) -> str:
    word = match.group()
    if _HAS_LATIN.search(word) and _HAS_LOOKALIKE_SCRIPT.search(word):
        return word.translate(_LOOKALIKES)
    return word


def _deobfuscate(text: str) -> str:
    text = _SPACED_LETTERS.sub(lambda m: re.sub(r"[ .\-_*]", "", m.group()), text)
    text = _LEET_WORD.sub(lambda m: m.group().translate(_LEET), text)
    return _LONG_REPEAT.sub(r"\1\1", text)
