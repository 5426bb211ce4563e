"""The served form of a tuned teacher: GGUF adapter for llama.cpp, FP16 safetensors copy, and the manifest."""

from pathlib import Path
from typing import Any

from distill.folder import appearing_whole
from distill.json_file import read_json
from distill.teacher.card import teacher_card
from server.core.artifact import MODEL_CARD, file_sha256
from server.core.calibration import calibration_to_json
from server.core.errors import ConfigurationError
from server.core.policy import Policy
from server.core.teacher_manifest import ADAPTER_GGUF, ADAPTER_SAFETENSORS, TEACHER_MANIFEST, write_teacher_manifest

MAX_ADAPTER_BYTES = 12_000_000


def pack(run: Path, out: Path, policy: Policy, *, allow_replace: bool = False) -> dict[str, Any]:
    """Write ``out`` from a tuned and calibrated run folder, all of it or nothing.

    Raises:
        ConfigurationError: ``out`` is taken, ``run`` is no run folder or isn't calibrated, its base isn't a Llama in a GGUF
            file (the embedded teacher serves the packaged one only), or an adapter file is over 12 MB.
    """
    from distill.teacher.gguf_adapter import write_gguf_adapter, write_safetensors_adapter
    from distill.teacher.model import gguf_of
    from distill.teacher.saved import load_calibration, teacher_form, teacher_id

    if not (run / "tune.json").exists():
        raise ConfigurationError(f"{run} is no run folder of tune-teacher")
    calibration = load_calibration(str(run))
    if calibration is None:
        raise ConfigurationError(f"{run} is not calibrated: run calibrate-teacher first")
    settings = read_json(run / "tune.json")
    base = gguf_of(settings["base"])
    if base is None:
        raise ConfigurationError(
            f"only an adapter of a GGUF base can be packed; {settings['base']} is served by vLLM, as the docs say"
        )
    heads, kv_heads = _heads(base)
    metrics = {path.stem: read_json(path) for path in sorted(run.glob("*.json")) if path.stem in ("dev", "test")}
    with appearing_whole(out, manifest=TEACHER_MANIFEST, allow_replace=allow_replace) as scratch:
        packed = scratch / "artifact"
        write_gguf_adapter(run / "adapter", packed / ADAPTER_GGUF, heads=heads, kv_heads=kv_heads)
        write_safetensors_adapter(run / "adapter", packed / ADAPTER_SAFETENSORS)
        sizes = {name: (packed / name).stat().st_size for name in (ADAPTER_GGUF, ADAPTER_SAFETENSORS)}
        too_large = [name for name, size in sizes.items() if size > MAX_ADAPTER_BYTES]
        if too_large:
            raise ConfigurationError(f"{', '.join(too_large)} over {MAX_ADAPTER_BYTES} bytes: tune with a lower rank")
        reports = {"test": metrics["test"]} if "test" in metrics else {}
        (packed / MODEL_CARD).write_text(teacher_card(settings, reports), encoding="utf-8")
        write_teacher_manifest(
            packed,
            name=teacher_id(str(run)),
            base=settings["base"],
            base_sha256=file_sha256(base),
            form=teacher_form(str(run)),
            policy=policy,
            calibration=calibration,
            metrics=metrics,
        )
    return {"teacher": str(out), "bytes": sizes, "calibration": calibration_to_json(calibration)}


def _heads(gguf_path: Path) -> tuple[int, int]:
    from gguf import GGUFReader

    fields = GGUFReader(gguf_path).fields
    architecture = fields["general.architecture"].contents()
    if architecture != "llama":
        raise ConfigurationError(f"{gguf_path.name}: the adapter's names in GGUF are a Llama's, not those of {architecture}")
    return (
        int(fields[f"{architecture}.attention.head_count"].contents()),
        int(fields[f"{architecture}.attention.head_count_kv"].contents()),
    )
