"""Put chosen numbers into a policy file, leaving its wording and comments as they are."""

import re
from pathlib import Path

from server.core.errors import ConfigurationError
from server.core.policy import load_policies


def write_numbers(
    path: Path,
    policy_id: str,
    block_at: dict[str, float],
    unsure: dict[str, tuple[float, float]],
    teacher_weight: float | None = None,
) -> None:
    """Replace ``block_at`` and ``unsure`` of each given category, rounded to three decimals, and set ``teacher_weight``,
    rounded to two, if it is given.

    Raises:
        PolicyError: the file is no policy file, before or after; it is as it was.
        ConfigurationError: a category's numbers don't stand as they should.
    """
    load_policies(path)
    text = path.read_text(encoding="utf-8")
    for category, threshold in block_at.items():
        low, high = unsure[category]
        section = re.compile(rf"(\[{policy_id}\.categories\.{category}\][^\[]*?)block_at = .*\nunsure = .*")
        text, count = section.subn(rf"\g<1>block_at = {threshold:.3f}\nunsure = [{low:.3f}, {high:.3f}]", text)
        if count != 1:
            raise ConfigurationError(f"{path}: [{policy_id}.categories.{category}] has no block_at followed by unsure")
    if teacher_weight is not None:
        head = re.compile(rf"(?P<head>\[{policy_id}\]\n(?:[^\[\n].*\n)*?)(?:teacher_weight = .*\n|(?=\n|\[))")
        text, count = head.subn(rf"\g<head>teacher_weight = {teacher_weight:.2f}\n", text, count=1)
        if count != 1:
            raise ConfigurationError(f"{path}: [{policy_id}] has no place for teacher_weight")
    trial = path.with_name(f".{path.name}.trial")
    try:
        trial.write_text(text, encoding="utf-8")
        load_policies(trial)
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
