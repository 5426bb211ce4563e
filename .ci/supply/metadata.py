"""A distribution's licence as an SPDX expression, from its metadata; and which expressions may be shipped."""

from collections.abc import Mapping
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

ALLOWED = frozenset(
    [
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0"),
        *("Zlib", "ZPL-2.1"),
    ]
)
"""Licences that ask for nothing but their text and a notice."""

EXCEPTIONS = {
    "MPL-2.0 asks for the source of files that are changed; we ship them as they are": ("bidict", "certifi", "tqdm"),
    "NVIDIA's own terms, for NVIDIA's GPUs; in the GPU image alone, and whoever hands that image on accepts them": (
        *("nvidia-cublas", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cudnn-cu13", "nvidia-cufft"),
        *("nvidia-curand", "nvidia-nvjitlink"),
    ),
}
"""Reason → the distributions that are shipped for it all the same."""

EXCEPTED = frozenset(name for names in EXCEPTIONS.values() for name in names)

SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
}
"""What the field License holds where it isn't SPDX."""

CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
"""Classifiers that name one licence. "BSD License" doesn't: it is several."""

BY_HAND = dict.fromkeys(("contourpy", "cycler", "itsdangerous", "jinja2", "kiwisolver"), "BSD-3-Clause")
"""What can't be read from the metadata; the licence's text was read instead."""


def licence(metadata: Mapping[str, Any]) -> str | None:
    """The SPDX expression, or None if none can be read.

    Args:
        metadata: in the JSON form of PEP 566: ``name``, and where they are there ``license_expression``, ``license`` and
            ``classifier``.
    """
    stated = [metadata.get("license_expression"), metadata.get("license"), BY_HAND.get(normalised(metadata["name"]))]
    stated += [CLASSIFIERS.get(classifier) for classifier in metadata.get("classifier") or ()]
    for text in stated:
        try:
            if text:
                return str(canonicalize_license_expression(SPELLINGS.get(text.strip(), text.strip())))
        except InvalidLicenseExpression:
            continue
    return None


def normalised(name: str) -> str:
    """A distribution's name as the locks have it."""
    return name.lower().replace("_", "-").replace(".", "-")


def objection(name: str, expression: str | None) -> str | None:
    """Why a distribution may not be shipped; None if it may."""
    if name in EXCEPTED:
        return None
    if expression is None:
        return f"{name}: no licence can be read from its metadata"
    if "(" in expression or " WITH " in expression:
        return f"{name}: {expression} is not a plain AND or OR: read it, and make it an exception with a reason"
    if not any(ALLOWED.issuperset(choice.split(" AND ")) for choice in expression.split(" OR ")):
        return f"{name}: {expression} is not on the list of allowed licences"
    return None
