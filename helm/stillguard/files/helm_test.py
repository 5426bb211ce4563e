"""`helm test`: one real moderation call, through the Service. Exit code 0 if the answer is as expected."""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

headers = {"content-type": "application/json"}
if file := os.environ.get("API_KEY_FILE"):
    headers["authorization"] = f"Bearer {Path(file).read_text().strip()}"
body = json.dumps({"texts": [{"text": "you are an idiot"}]}).encode()
try:
    with urllib.request.urlopen(urllib.request.Request(os.environ["URL"], body, headers), timeout=30) as reply:
        status, answer = reply.status, json.load(reply)
except urllib.error.HTTPError as error:
    status, answer = error.code, {}
if str(status) != os.environ["EXPECTED_STATUS"]:
    raise SystemExit(f"status {status}, expected {os.environ['EXPECTED_STATUS']}")
if status == 200 and answer["results"][0]["verdict"] not in ("allow", "review", "block"):
    raise SystemExit(f"no verdict in {answer}")
