"""The window: what it counts, what it forgets, and what it is held against."""

import json
import math
from dataclasses import replace

import pytest

from server.cascade import Opinion
from server.check import Checked
from server.core.artifact import Manifest
from server.core.calibration import IDENTITY
from server.core.errors import ConfigurationError
from server.core.histograms import BINS, DriftReference, ScoreHistograms, bin_of
from server.core.taxonomy import CATEGORIES
from server.core.types import ArtifactId, CheckAnswer, Escalation, Text, TextResult, Timings
from server.drift import BUCKETS, MIN_TEXTS, DriftWindow, find_reference
from tests.steady import steady_policy

DAY_S = 86_400.0
POLICY = steady_policy()
MANIFEST = Manifest("v1", "fp32", CATEGORIES, 12, IDENTITY, None, "p", {}, {}, {})


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def request(*scores: float, artifact: str = "a", is_disguised: bool = False, escalation: Escalation | None = None) -> Checked:
    """A request of texts with one score in every category, as the steady policy decides."""
    texts = [Text("some text")] * len(scores)
    opinions = [Opinion("user", dict.fromkeys(CATEGORIES, score), 1, 9, is_disguised, lambda _: "") for score in scores]
    results: list[TextResult] = [opinion.decide(POLICY, escalation) for opinion in opinions]
    answer = CheckAnswer(tuple(results), "default", "1", Timings(0, 0, 0, 0, 0), ArtifactId("v", artifact, "fp32"))
    return Checked(request_id=None, key=None, policy=POLICY, texts=texts, opinions=opinions, answer=answer)


def in_one_bin(score: float, texts: int = 2 * MIN_TEXTS, artifact_hash: str | None = None) -> ScoreHistograms:
    counts = [0] * BINS
    counts[bin_of(score)] = texts
    return ScoreHistograms(texts, dict.fromkeys(CATEGORIES, tuple(counts)), artifact_hash)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make_window(clock):
    return lambda reference=None: DriftWindow("a", reference, window_s=DAY_S, clock=clock)


def test_what_is_counted_of_a_text(make_window):
    window = make_window()
    window.checked(request(0.9, 0.1))
    window.checked(request(0.1, is_disguised=True))
    window.checked(request(0.4, escalation=Escalation("deadline", 0.1, {}, {"hate": 0.4})))
    assert window.texts == 4
    assert [window.flagged_share(category) for category in CATEGORIES] == [0.25] * 8
    assert (window.escalated_share(), window.canonicalised_share()) == (0.25, 0.25)
    counts = window.histograms().scores["violence"]
    assert {index: count for index, count in enumerate(counts) if count} == {bin_of(0.1): 2, bin_of(0.4): 1, bin_of(0.9): 1}


def test_an_empty_window_says_nothing(make_window):
    window = make_window(DriftReference(in_one_bin(0.1), "traffic"))
    assert window.texts == 0
    shown = [window.psi("hate"), window.flagged_share("hate"), window.escalated_share(), window.canonicalised_share()]
    assert all(map(math.isnan, shown))
    assert window.histograms() == ScoreHistograms(0, dict.fromkeys(CATEGORIES, (0,) * BINS), "a")


def test_what_is_older_than_the_window_is_forgotten_bucket_by_bucket(make_window, clock):
    window = make_window()
    for _ in range(BUCKETS):
        window.checked(request(0.1))
        clock.now_s += DAY_S / BUCKETS
    assert window.texts == BUCKETS - 1
    clock.now_s += DAY_S / 2
    assert window.texts == BUCKETS / 2 - 1
    clock.now_s += 40 * DAY_S
    assert window.texts == 0
    window.checked(request(0.1))
    assert window.texts == 1


def test_scores_that_moved_are_far_from_the_reference_and_the_same_are_not(make_window):
    window = make_window(DriftReference(in_one_bin(0.1), "traffic"))
    window.checked(request(*[0.1] * MIN_TEXTS))
    assert window.psi("hate") < 0.01
    window.checked(request(*[0.6] * MIN_TEXTS))
    assert window.psi("hate") > 0.25


@pytest.mark.parametrize(("texts", "reference_texts"), [(MIN_TEXTS - 1, MIN_TEXTS), (MIN_TEXTS, MIN_TEXTS - 1)])
def test_too_few_texts_on_either_side_are_no_drift(make_window, texts, reference_texts):
    window = make_window(DriftReference(in_one_bin(0.9, reference_texts), "traffic"))
    window.checked(request(*[0.1] * texts))
    assert math.isnan(window.psi("hate"))


def test_another_artefact_begins_anew_and_late_answers_of_the_old_one_do_not_count(make_window):
    window = make_window()
    window.checked(request(0.1, 0.1))
    reference = DriftReference(in_one_bin(0.9), "artifact")
    window.judge_by("b", reference)
    window.checked(request(0.1))
    window.checked(request(0.1, artifact="b"))
    assert (window.texts, window.histograms().artifact_hash, window.reference) == (1, "b", reference)


def test_the_same_artefact_with_another_reference_goes_on(make_window):
    window = make_window()
    window.checked(request(0.1))
    window.judge_by("a", DriftReference(in_one_bin(0.9), "traffic"))
    assert window.texts == 1


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def test_without_a_file_the_reference_is_the_artefacts_own():
    shipped = in_one_bin(0.1)
    assert find_reference(None, MANIFEST) is None
    assert find_reference(None, replace(MANIFEST, reference=shipped)) == DriftReference(shipped, "artifact")


def test_a_file_of_this_artefacts_traffic_goes_before_it(tmp_path, make_window):
    manifest = replace(MANIFEST, reference=in_one_bin(0.9))
    traffic = in_one_bin(0.1, artifact_hash=manifest.hash)
    file = write(tmp_path / "reference.json", traffic.to_json())
    assert find_reference(file, manifest) == DriftReference(traffic, "traffic")
    several = write(tmp_path / "several.json", [traffic.to_json(), traffic.to_json()])
    assert find_reference(several, manifest).histograms.texts == 2 * traffic.texts


def test_a_file_of_another_artefacts_traffic_does_not(tmp_path):
    """The scores of two students aren't one's drift."""
    file = write(tmp_path / "reference.json", in_one_bin(0.1, artifact_hash="other").to_json())
    assert find_reference(file, MANIFEST) is None
    own = in_one_bin(0.9)
    assert find_reference(file, replace(MANIFEST, reference=own)) == DriftReference(own, "artifact")


def test_a_file_that_can_not_be_used_is_named(tmp_path):
    for name, content in (("torn.json", "{"), ("other.json", '{"texts": 3}'), ("none.json", "[]")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigurationError, match=f"drift reference .*{name}: "):
            find_reference(tmp_path / name, MANIFEST)
    with pytest.raises(ConfigurationError, match=r"absent\.json: No such file"):
        find_reference(tmp_path / "absent.json", MANIFEST)
