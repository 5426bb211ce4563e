"""Fill a folder from a URL: ``fetch.py URL SHA256 FOLDER``. Runs in an init container; the standard library is all it has.

A tar archive is unpacked, without links that lead outside; anything else is stored under the last part of the URL's path.
Nothing is left in the folder, and the exit code is 1, unless the SHA-256 of what came is the one expected.
"""

import hashlib
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 60
BLOCK_BYTES = 1 << 20


def main(url: str, sha256: str, folder: Path) -> str | None:
    """What went wrong, or None."""
    name = Path(urlsplit(url).path).name or "download"
    partial = folder / f".{name}.partial"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply, partial.open("wb") as file:
            while block := reply.read(BLOCK_BYTES):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != sha256:
            return f"{name} has sha256 {digest.hexdigest()}, expected {sha256}"
        if tarfile.is_tarfile(partial):
            with tarfile.open(partial) as archive:
                archive.extractall(folder, filter="data")
        else:
            partial.rename(folder / name)
    except (OSError, tarfile.TarError) as error:
        return f"{name}: {error}"
    finally:
        partial.unlink(missing_ok=True)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
