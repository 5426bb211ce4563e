"""Canonical text: what hides a word is undone, what a reader sees stays, and no text makes it slow."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.core.canonical import CanonicalText, canonicalise


@pytest.mark.parametrize(
    ("hidden", "seen"),
    [
        ("id\u200biot", "idiot"),
        ("\ufeffidiot", "idiot"),
        ("id\u00adiot", "idiot"),
        ("\u202eidiot\u202c", "idiot"),
        ("\u2066idiot\u2069", "idiot"),
        ("hello\U000e0069\U000e0064", "hello"),
        ("idi\x00ot", "idiot"),
        ("idi\ud800ot", "idiot"),
        ("idi\ufe0fot", "idiot"),
        ("ｉｄｉｏｔ", "idiot"),
        ("𝐢𝐝𝐢𝐨𝐭", "idiot"),
        ("ⓘⓓⓘⓞⓣ", "idiot"),
        ("idіоt", "idiot"),  # Cyrillic і and о
        ("ΚILL them", "KILL them"),  # Greek Kappa
        ("і\u200dd\u200dі\u200dо\u200dt", "idiot"),
        ("і\ue000dі\U000f0000оt", "idiot"),
        ("id\x80iot", "idiot"),
        ("id\U0001d173iot", "idiot"),
        ("id\u0600іоt", "idiot"),
        ("іd\ufe20іоt", "id\ufe20iot"),
        ("i \u200dd \u200d\u200bi", "i d i"),
    ],
)
def test_what_hides_a_word_is_undone(hidden, seen):
    result = canonicalise(hidden)
    assert result.text == seen
    assert result.is_changed


@pytest.mark.parametrize(
    "text",
    [
        "An ordinary sentence, with commas; and (brackets)!",
        "Привет, как дела?",
        "хорошо и ещё раз хорошо",
        "Καλημέρα κόσμε",
        "naïve café Ångström",
        "你好，世界".replace("，", ","),
        "👩\u200d💻 codes 🎉",
        "ẹ́ and x̄",
        "\u06dd ١٢",
        "line one\nline two",
        "x² is not x2".replace("²", "^2"),
    ],
)
def test_what_a_reader_sees_stays(text):
    result = canonicalise(text)
    assert result.text == text
    assert not result.is_changed


def test_a_pure_cyrillic_word_beside_latin_words_stays():
    assert canonicalise("the word сосна means pine").text == "the word сосна means pine"


@pytest.mark.parametrize("text", ["  two  spaces ", "a\tb", "a\u00a0b", "a\u3000b\r\n"])
def test_white_space_is_tidied_and_is_no_change(text):
    result = canonicalise(text)
    assert "  " not in result.text
    assert result.text == result.text.strip()
    assert not result.is_changed


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("you i d i o t", "you idiot"),
        ("i.d.i.o.t", "idiot"),
        ("i-d-i-o-t you", "idiot you"),
        ("i*d*i*o*t", "idiot"),
        ("i_d_i_o_t", "idiot"),
        ("f * c k", "fuck"),
        ("u r s o dumb", "urso dumb"),
        ("1d10t", "idiot"),
        ("k1ll y0ur$elf", "kill yourself"),
        ("@sshole $lut", "asshole slut"),
        ("noooooo waaaay", "noo waay"),
        ("i/d/i/o/t", "idiot"),
        ("i,d,i,o,t", "idiot"),
        ("i\nd\ni\no\nt", "idiot"),
        ("i~d~i~o~t and i+d+i+o+t", "idiot and idiot"),
        ("i|d|i|o|t", "idiot"),
        ("i·d·i·o·t or i•d•i•o•t", "idiot or idiot"),
        ("ıdıot", "idiot"),
        ("ɨđɨøŧ", "idiot"),
        ("ɪᴅɪᴏᴛ", "idiot"),
        ("🅸🅳🅸🅾🆃", "idiot"),
        ("🅘🅓🅘🅞🅣", "idiot"),
        ("a b c def g h i", "abc def ghi"),
        ("1\u0336d\u03361\u03360\u0336t\u0336", "idiot"),
        ("1d\u05b01\ufe200t", "idiot"),
        ("1dí0t", "idiot"),
        ("ì d i o t", "idiot"),
    ],
)
def test_the_second_view_reads_what_was_spelt_around(text, read):
    result = canonicalise(text)
    assert result.deobfuscated == read
    assert result.text == text
    assert not result.is_changed


@pytest.mark.parametrize(
    "text", ["Plan A or B", "call 555 0199 now", "I am 30", "x = 3", "a b", "cost: $5", "***", "1 + 2", "yes/no", "🇩🇰"]
)
def test_the_second_view_is_absent_where_it_says_nothing_new(text):
    assert canonicalise(text).deobfuscated is None


def test_what_is_written_in_tag_characters_is_read():
    hidden = "".join(chr(0xE0000 + ord(character)) for character in "you idiot")
    assert canonicalise(hidden) == CanonicalText("", is_changed=True, deobfuscated="you idiot")
    assert canonicalise(f"good morning{hidden}").deobfuscated == "good morning you idiot"


def test_a_flag_made_with_tags_says_nothing():
    england = "🏴" + "".join(chr(0xE0000 + ord(character)) for character in "gbeng") + "\U000e007f"
    assert canonicalise(england).deobfuscated is None


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\x00", "\ud800"])
def test_a_text_may_come_out_empty(text):
    assert canonicalise(text).text == ""


TROUBLEMAKERS = (
    "aeoxAB\u0435\u0430\u043e\u0445\u03bf"  # Latin, and what looks like it
    "\u0301\u0306\u0308\u0316\u0338\u0f73\uff9e\u1160\uffa0\u200b\u200d"  # marks, and what no one sees
    " \t\n\r*@$1._-"
)
tricky = st.text(alphabet=st.one_of(st.characters(codec=None), st.sampled_from(TROUBLEMAKERS)), max_size=60)


@settings(deadline=None)
@given(text=tricky)
@example(text="x\u0430\u0301\u0430\u0301")  # Latin + Cyrillic + accent: translating makes room for composing
@example(text="a" + "\u0301" * 40 + "\u0316" * 40)
@example(text="\u00a8 \u0344" * 20)
@example(text="\u0958" * 3 + "\u093c" * 31)
def test_canonicalising_twice_changes_nothing_more(text):
    once = canonicalise(text)
    again = canonicalise(once.text)
    assert again.text == once.text
    if not any(0xE0020 <= ord(character) < 0xE007F for character in text):
        assert again.deobfuscated == once.deobfuscated
    assert not again.is_changed


@settings(deadline=None)
@given(text=tricky)
def test_both_views_encode_as_utf8(text):
    result = canonicalise(text)
    result.text.encode()
    (result.deobfuscated or "").encode()


SIZE = 200_000
ADVERSARIAL = {
    "spaced letters": "a ",
    "spaced words": "a b c de ",
    "stars": "*",
    "spaced stars": "a * ",
    "letters that never end": "a_-",
    "at signs": "@",
    "letters and digits": "a1",
    "one letter": "a",
    "separators": ". ",
    "line ends": "\n ",
    "zero-width": "\u200b",
    "mixed scripts": "a\u0436",
    "accents after look-alikes": "x\u0430\u0301",
    "marks out of order": "\u0301\u0316",
    "marks that hold marks": "\u0f73",
    "half-width marks": "\u0301\uff9e",
    "emoji": "😀",
    "joiners": "\u200d",
    "joined emoji": "👩\u200d",
    "private use": "\ue000\U000f0000",
    "marks of nothing": "\u05b0",
}


@pytest.mark.parametrize("unit", ADVERSARIAL.values(), ids=ADVERSARIAL.keys())
def test_no_text_is_slow(unit):
    """0.2 s of this thread at the most for 200 kB when measured; what grows with the square of the length takes minutes."""
    for text in (unit * (SIZE // len(unit)), "a" + unit * (SIZE // len(unit)) + "_"):
        started_s = time.thread_time()
        canonicalise(text)
        assert time.thread_time() - started_s < 2.0


def test_sorting_a_long_run_of_marks_is_not_slow():
    text = "a" + "\u0301" * SIZE + "\u0316" * SIZE
    started_s = time.thread_time()
    result = canonicalise(text)
    assert time.thread_time() - started_s < 2.0
    assert 25 <= len(result.text) <= 32
