import pytest
from scripted_model import Model, Recorder


@pytest.fixture
def model():
    model = Model()
    yield model
    model.release()
    model.free()


@pytest.fixture
def recorder():
    return Recorder()
