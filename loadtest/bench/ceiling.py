"""The ceiling: what the model alone can do on this machine, over thread layouts, batch sizes and orders."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Literal, get_args

from loadtest.bench.artifact import Artifact
from loadtest.bench.ort_runs import Model, run_all
from loadtest.bench.windows import Window, Windower
from loadtest.machine import usable_cores

Order = Literal["sorted", "arrival"]

MAX_PADDED_TOKENS = (512, 2_048)
ALONE_RUNS = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """``sorted`` batches hold windows of like length from anywhere in the corpus, the longest first; ``arrival`` ones hold
    neighbours. A batch has at most ``max_items`` windows and, unless it is a single one, ``max_padded_tokens``."""

    sessions: int
    threads: int
    order: Order
    max_items: int
    max_padded_tokens: int

    @property
    def family(self) -> tuple[int, Order]:
        return self.threads, self.order

    def __str__(self) -> str:
        return f"{self.sessions} × {self.threads}-thread, {self.order}, ≤ {self.max_items} × ≤ {self.max_padded_tokens} tokens"


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens are those of the windows, special ones included, padding not. ``cpu_s_per_text`` is over all threads."""

    setting: Setting
    texts_per_s: float
    tokens_per_s: float
    cpu_s_per_text: float


@dataclass(frozen=True, slots=True)
class Ceiling:
    """``families`` holds the best setting of each layout and order, the fastest first.

    ``tokenise_s_per_text`` is wall time with every core at it. ``alone_s`` is the model's own time for each text that fits
    one window, by its index in the corpus: one thread, nothing beside it.
    """

    families: list[Rate]
    windows: int
    tokenise_s_per_text: float
    alone_s: dict[int, float]

    @property
    def best(self) -> Rate:
        return self.families[0]

    @property
    def with_tokenising_texts_per_s(self) -> float:
        """The best setting's rate when tokenising comes first, on the same cores."""
        return 1 / (self.tokenise_s_per_text + 1 / self.best.texts_per_s)


@dataclass(frozen=True, slots=True)
class Search:
    """How thoroughly to look: batch sizes to try, on how many texts; seconds for the final timing of each family's best; and
    how many texts are timed alone."""

    max_items: tuple[int, ...]
    scan_texts: int
    final_s: float
    alone_texts: int


def measure_ceiling(model_path: Path, artifact: Artifact, texts: Sequence[str], search: Search) -> Ceiling:
    """Scan every setting on a few texts, then time the best of each family on all of them."""
    windower = Windower(artifact)
    windower.cut(texts[:8])
    started = time.perf_counter()
    windows = windower.cut(texts)
    tokenise_s = time.perf_counter() - started
    model = Model(model_path)
    run_all(model.sessions(1, threads=1), [model.feeds(one) for one in windows[:8]])
    best: dict[tuple[int, Order], Rate] = {}
    for setting in settings(usable_cores(), search.max_items):
        rate = time_setting(model, windows[: search.scan_texts], setting)
        known = best.get(setting.family)
        if known is None or rate.texts_per_s > known.texts_per_s:
            best[setting.family] = rate
    families = [_time_longer(model, windows, rate, search.final_s) for rate in best.values()]
    families.sort(key=lambda rate: -rate.texts_per_s)
    return Ceiling(families, sum(map(len, windows)), tokenise_s / len(texts), _alone(model, windows[: search.alone_texts]))


def remeasure(model_path: Path, artifact: Artifact, texts: Sequence[str], known: Rate, final_s: float) -> Rate:
    """A setting's rate once more, to see whether the machine has drifted."""
    model = Model(model_path)
    windows = Windower(artifact).cut(texts)
    time_setting(model, windows[:8], known.setting)
    return _time_longer(model, windows, known, final_s)


def settings(cores: int, max_items: Sequence[int]) -> Iterator[Setting]:
    """A one-thread session per core, and one session with all cores, each in both orders and with every batch size."""
    for layout, order, items, tokens in product({(cores, 1), (1, cores)}, get_args(Order), max_items, MAX_PADDED_TOKENS):
        if items > 1 or tokens == MAX_PADDED_TOKENS[0]:  # single windows know no token bound
            yield Setting(*layout, order, items, tokens)


def form_batches(windows: Sequence[Window], setting: Setting) -> list[list[Window]]:
    """Every window once, in batches that hold to the setting's bounds."""
    ordered = sorted(windows, key=len, reverse=True) if setting.order == "sorted" else windows
    batches: list[list[Window]] = []
    longest = 0
    for window in ordered:
        padded = max(longest, len(window)) * (len(batches[-1]) + 1) if batches else 0
        if not batches or len(batches[-1]) >= setting.max_items or padded > setting.max_padded_tokens:
            batches.append([])
            longest = 0
        batches[-1].append(window)
        longest = max(longest, len(window))
    return batches


def time_setting(model: Model, windows: Sequence[Sequence[Window]], setting: Setting, *, passes: int = 1) -> Rate:
    """The rate over ``passes`` times all texts.

    Args:
        windows: each text's own.
    """
    flat = [window for of_text in windows for window in of_text]
    feeds = [model.feeds(batch) for batch in form_batches(flat, setting)]
    ran = run_all(model.sessions(setting.sessions, threads=setting.threads), feeds * passes)
    texts = len(windows) * passes
    tokens = sum(map(len, flat)) * passes
    return Rate(setting, texts / ran.wall_s, tokens / ran.wall_s, ran.cpu_s / texts)


def _time_longer(model: Model, windows: Sequence[Sequence[Window]], known: Rate, final_s: float) -> Rate:
    passes = max(1, round(final_s * known.texts_per_s / len(windows)))
    return time_setting(model, windows, known.setting, passes=passes)


def _alone(model: Model, windows: Sequence[Sequence[Window]]) -> dict[int, float]:
    (session,) = model.sessions(1, threads=1)
    alone_s = {}
    for index, of_text in enumerate(windows):
        if len(of_text) == 1:
            feeds = model.feeds(of_text)
            runs_s = []
            for _ in range(ALONE_RUNS):
                started = time.perf_counter()
                session.run(None, feeds)
                runs_s.append(time.perf_counter() - started)
            alone_s[index] = median(runs_s)
    return alone_s
