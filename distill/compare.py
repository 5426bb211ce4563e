"""Two students on the same labelled texts: what the newer mends, and what it breaks."""

from typing import Any

import numpy as np

from distill.cascade.opinions import is_labelled, is_wrong
from distill.cascade.router import bootstrap_lead
from distill.metrics import average_precision, average_precision_per_category
from server.core.policy import Policy


def compare(scores: np.ndarray, before: np.ndarray, labels: np.ndarray, policy: Policy) -> dict[str, Any]:
    """Both calibrated, float (N, C), on labels (N, C) with 1, 0 or NaN; verdicts at the policy's ``block_at``.

    Returns:
        ``{"texts", "wrong", "mended", "broken", "false_blocks", "misses", "au_prc", "categories"}``. ``mended`` verdicts were
        wrong before and are right now, ``broken`` ones the other way round. ``false_blocks`` are of the texts that people
        found harmless in all that they judged, ``misses`` of the others. ``au_prc`` is pooled, with the lead of the newer
        and its 90 % interval (paired bootstrap over texts); None without both labels.
    """
    thresholds = np.array([rule.block_at for rule in policy.rules])
    kept = is_labelled(labels)
    scores, before, labels = scores[kept], before[kept], labels[kept]
    now_wrong, was_wrong = is_wrong(scores, labels, thresholds), is_wrong(before, labels, thresholds)
    is_harmful = (labels == 1).any(axis=1)
    return {
        "texts": len(labels),
        "wrong": _pair(was_wrong, now_wrong),
        "mended": int((was_wrong & ~now_wrong).sum()),
        "broken": int((~was_wrong & now_wrong).sum()),
        "false_blocks": {"of": int((~is_harmful).sum()), **_pair(was_wrong[~is_harmful], now_wrong[~is_harmful])},
        "misses": {"of": int(is_harmful.sum()), **_pair(was_wrong[is_harmful], now_wrong[is_harmful])},
        "au_prc": _au_prc(scores, before, labels),
        "categories": {
            name: {"before": old, "after": new}
            for (name, old), new in zip(
                average_precision_per_category(before, labels).items(),
                average_precision_per_category(scores, labels).values(),
                strict=True,
            )
        },
    }


def _pair(was: np.ndarray, now: np.ndarray) -> dict[str, int]:
    return {"before": int(was.sum()), "after": int(now.sum())}


def _au_prc(scores: np.ndarray, before: np.ndarray, labels: np.ndarray) -> dict[str, Any] | None:
    new, old = (average_precision(values.ravel(), labels.ravel()) for values in (scores, before))
    if new is None or old is None:
        return None
    lead, low, high = bootstrap_lead(scores, before, labels, seed=0)
    return {"before": old, "after": new, "lead": lead, "interval": [low, high]}
