"""Images, built once for all tests that run them."""

from pathlib import Path

import pytest

from tests.ops.containers import build

TIMEOUT_S = 2400
"""The first test that wants an image builds it; each command that is waited for has a shorter time of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def image(tmp_path_factory) -> str:
    """The Dockerfile's target ``server``."""
    return build("server", tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def teacher_image(tmp_path_factory) -> str:
    """The Dockerfile's target ``teacher``."""
    return build("teacher", tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def loadtest_image(tmp_path_factory) -> str:
    """The Dockerfile's target ``loadtest``."""
    return build("loadtest", tmp_path_factory.mktemp("build"))
