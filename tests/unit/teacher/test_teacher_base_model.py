"""The Q8_0 copy of the base: same metadata, same values to Q8_0's step, made once and whole."""

import gguf
import numpy as np
import pytest

from server.core.artifact import file_sha256
from server.core.errors import ConfigurationError
from server.teacher.base_model import ensure_q8_base
from tests.unit.teacher.tiny_llama import LAYERS, make_weights, write_gguf


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "tiny.Q4_1.gguf"
    return write_gguf(path, make_weights(), quantise=gguf.GGMLQuantizationType.Q4_1)


def test_only_q4_1_tensors_and_the_file_type_change(source, tmp_path):
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(ensure_q8_base(tmp_path, source=source))

    fields = {name: (field.types, field.contents()) for name, field in before.fields.items() if not name.startswith("GGUF.")}
    q8_type = int(gguf.LlamaFileType.MOSTLY_Q8_0)
    fields["general.file_type"] = (fields["general.file_type"][0], q8_type)
    assert {n: (f.types, f.contents()) for n, f in after.fields.items() if not n.startswith("GGUF.")} == fields

    kinds = [tensor.tensor_type.name for tensor in after.tensors]
    assert (kinds.count("Q8_0"), kinds.count("Q4_1"), kinds.count("F32")) == (7 * LAYERS, 0, 3 + 2 * LAYERS)
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert (old.name, old.shape.tolist()) == (new.name, new.shape.tolist())
        values, copy = (gguf.dequantize(t.data, t.tensor_type) for t in (old, new))
        if old.tensor_type == gguf.GGMLQuantizationType.Q4_1:
            # Half a step of 1/127 of a block's largest value, and FP16's rounding of that step.
            assert np.abs(values - copy).max() <= np.abs(values).max() / 127 * 0.51
        else:
            assert np.array_equal(values, copy)


def test_it_is_made_once(source, tmp_path):
    target = ensure_q8_base(tmp_path, source=source)
    made_at = target.stat().st_mtime_ns
    assert ensure_q8_base(tmp_path, source=source) == target
    assert target.stat().st_mtime_ns == made_at
    assert list(tmp_path.iterdir()) == [target]
    assert file_sha256(source)[:16] in target.name


def test_a_failed_copy_leaves_nothing_behind(tmp_path):
    source, cache = tmp_path / "broken.gguf", tmp_path / "cache"
    source.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ConfigurationError, match="not a GGUF file that can be read"):
        ensure_q8_base(cache, source=source)
    assert list(cache.iterdir()) == []


def test_another_base_than_the_adapters_is_refused(source, tmp_path):
    assert ensure_q8_base(tmp_path, source=source, expected_sha256=file_sha256(source)).is_file()
    with pytest.raises(ConfigurationError, match="not the one that the adapter was tuned on"):
        ensure_q8_base(tmp_path, source=source, expected_sha256="0" * 64)


def test_a_source_that_is_not_there_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        ensure_q8_base(tmp_path, source=tmp_path / "absent.gguf")
