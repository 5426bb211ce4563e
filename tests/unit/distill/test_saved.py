"""Where a teacher's parts are kept."""

from distill.teacher.saved import calibration_path, teacher_id


def test_a_hub_id_is_never_shadowed_by_a_folder_of_its_name():
    path = calibration_path("google/shieldgemma-2b")
    assert not path.is_relative_to("google")
    assert path.name == "google--shieldgemma-2b.json"
    assert teacher_id("google/shieldgemma-2b") == "google/shieldgemma-2b"


def test_a_tuned_teacher_keeps_its_own_and_is_named_by_its_weights(tmp_path):
    (tmp_path / "tune.json").write_text('{"base": "b"}')
    (tmp_path / "adapter").mkdir()
    adapter = tmp_path / "adapter" / "adapter_model.safetensors"
    adapter.write_bytes(b"one")
    first = teacher_id(str(tmp_path))
    assert calibration_path(str(tmp_path)) == tmp_path / "calibration.json"
    adapter.write_bytes(b"two")
    assert first.startswith("b+")
    assert teacher_id(str(tmp_path)) != first
