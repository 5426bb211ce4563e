"""Images, built once for all tests that run them."""

import pytest

from tests.ops.containers import build


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
