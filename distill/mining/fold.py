"""Near duplicates: MinHash (Broder, 1997) over character 5-grams, found by locality-sensitive hashing.

Texts whose estimated Jaccard similarity is at least :data:`SIMILAR` are near duplicates. They are folded only if what is
held of them agrees: "he shot a man" and "he shot a fan" are near and teach the opposite, which is just what a student that
fails on one of them has to learn.
"""

import zlib
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from datasketch import MinHash, MinHashLSH
from tqdm import tqdm

from distill.mining.candidates import PEOPLE, REASONS, Candidate
from distill.signals import text_digest

SIMILAR = 0.8
_PERMUTATIONS = 128
_GRAM = 5
_CHUNK = 2048


class NearTexts:
    """Texts under keys, to be found by others like them. Case doesn't count."""

    def __init__(self) -> None:
        # What is found in vain is dropped by its estimate; what isn't found is lost. The library weighs both alike.
        self._index = MinHashLSH(threshold=SIMILAR, num_perm=_PERMUTATIONS, weights=(0.02, 0.98))
        self._hashes: dict[Hashable, MinHash] = {}

    def add(self, key: Hashable, signature: MinHash) -> None:
        """``key`` is new."""
        self._index.insert(key, signature)
        self._hashes[key] = signature

    def near(self, signature: MinHash) -> list[Hashable]:
        """The keys of its near duplicates, nearest first."""
        found = [(self._hashes[key].jaccard(signature), key) for key in self._index.query(signature)]
        return [key for similarity, key in sorted(found, reverse=True) if similarity >= SIMILAR]


def signatures(texts: Sequence[str], *, doing: str) -> Iterator[MinHash]:
    """The MinHash of each text, in order, with a progress bar."""
    with tqdm(total=len(texts), desc=doing, unit="text", disable=len(texts) < 1000) as progress:
        for start in range(0, len(texts), _CHUNK):
            chunk = [_grams(text.casefold()) for text in texts[start : start + _CHUNK]]
            yield from MinHash.generator(chunk, num_perm=_PERMUTATIONS, hashfunc=zlib.crc32)
            progress.update(len(chunk))


def fold(candidates: Sequence[Candidate], left_out: Counter[str]) -> tuple[list[Candidate], list[float]]:
    """Near duplicates folded into the best-ranked text of each kind, which counts them as its copies and has the strongest of
    their reasons; best rank first. Where the teacher may not clear one of them, it may not clear what stands for it.

    Returns:
        the texts that are left, and for each the least lot in [0, 1] of those near it, and near those: what is drawn by lot
        takes all of them or none. A text that people labelled has a lot of its own, the same in every run; the others' is 1.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.rank)
    kept: list[Candidate] = []
    groups: list[set[int]] = []
    index = NearTexts()
    for candidate, signature in zip(ordered, signatures([c.text for c in ordered], doing="fold"), strict=True):
        near = index.near(signature)
        twin = next((place for place in near if _is_same(kept[place], candidate)), None)
        if twin is not None:
            reason = min(kept[twin].reason, candidate.reason, key=REASONS.index)
            may_clear = kept[twin].teacher_may_clear and candidate.teacher_may_clear
            copies = kept[twin].copies + candidate.copies
            kept[twin] = replace(kept[twin], copies=copies, reason=reason, teacher_may_clear=may_clear)
            left_out["near_duplicate"] += 1
            continue
        place = len(kept)
        index.add(place, signature)
        kept.append(candidate)
        groups.append({place})
        group = groups[place].union(*(groups[other] for other in near))
        for member in group:
            groups[member] = group
    lots = [_lot(candidate) for candidate in kept]
    return kept, [min(lots[member] for member in group) for group in groups]


def near_any(candidates: Sequence[Candidate], texts: Sequence[str]) -> set[int]:
    """Indices of the candidates that are near duplicates of one of the texts, whatever their role."""
    index = NearTexts()
    for place, signature in enumerate(signatures([c.text for c in candidates], doing="index")):
        index.add(place, signature)
    return {place for signature in signatures(texts, doing="held out") for place in index.near(signature)}


def _is_same(kept: Candidate, candidate: Candidate) -> bool:
    """Of the very same text the better-ranked opinion holds, even against another."""
    return kept.role == candidate.role and (kept.text == candidate.text or not kept.contradicts(candidate))


def _lot(candidate: Candidate) -> float:
    if candidate.source not in PEOPLE:
        return 1.0
    return int.from_bytes(text_digest(candidate.text, candidate.role)[:4]) / 2**32


def _grams(text: str) -> set[bytes]:
    return {text[i : i + _GRAM].encode() for i in range(max(1, len(text) - _GRAM + 1))}
