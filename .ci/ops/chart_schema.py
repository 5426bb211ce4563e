"""Writes the knobs into the chart's schema: ``python .ci/ops/chart_schema.py`` after a change to server/settings.py.

``settings`` in values.schema.json then takes every knob by its name, within its bounds, but for those that the chart sets
from values of its own. With ``--check`` nothing is written, and the exit code is 1 where the file isn't current.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from server.settings import Settings  # noqa: E402

SCHEMA = ROOT / "helm" / "stillguard" / "values.schema.json"
SET_BY_THE_CHART = {
    *("host", "port", "admin_host", "admin_port", "device", "artifact", "policies", "api_keys_file"),
    *("artifact_public_key_file", "teacher", "teacher_model", "teacher_api_key_file"),
    *("feedback_dir", "feedback_hash_key_file", "drift_reference"),
}
NEEDED_BY_THE_CHART = ["drain_timeout_s", "teacher_timeout_s"]
KEYWORDS = (
    *("type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern"),
    "description",
)


def settings_schema() -> dict[str, Any]:
    """The chart's ``settings``, in the few words of JSON Schema that Helm 3 and 4 both know."""
    known = Settings.model_json_schema()["properties"]
    knobs = {name: _plain(schema) for name, schema in sorted(known.items()) if name not in SET_BY_THE_CHART}
    return {
        "type": "object",
        "description": "Knobs of the server, by their names without STILLGUARD_.",
        "additionalProperties": False,
        "required": NEEDED_BY_THE_CHART,
        "properties": knobs,
    }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A knob's schema without defaults, titles and null: one that isn't wanted is left out of the values."""
    (kind, *others) = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    assert not others, f"a knob with {1 + len(others)} types can't be put into the chart"
    return {keyword: source[keyword] for keyword in KEYWORDS for source in (schema, kind) if keyword in source}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the file isn't current")
    is_checked = parser.parse_args().check
    written = SCHEMA.read_text(encoding="utf-8")
    schema = json.loads(written)
    schema["properties"]["settings"] = settings_schema()
    current = json.dumps(schema, indent=2) + "\n"
    if is_checked:
        return int(written != current)
    SCHEMA.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
