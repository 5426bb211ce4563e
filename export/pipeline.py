"""From a trained checkpoint to a proven artefact, top to bottom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from distill.folder import appearing_whole, check_destination
from distill.json_file import read_json
from distill.metrics import evaluate
from distill.student import load_student
from export.histograms import count_scores
from export.ladder import prove_graphs, prove_verdicts
from export.model_card import model_card
from export.onnx_graph import to_onnx
from export.proof import Limits
from export.quantise import to_fp16, to_int8
from export.reference import ReferenceSet, load_reference, require_proof, shipped_sentences
from export.runner import Windows, cut_windows, shipped_tokenizer, spread_sample
from server.core.artifact import FILES, MANIFEST, MODEL, MODEL_CARD, TOKENIZER, Manifest, Precision, file_sha256, write_manifest
from server.core.errors import ConfigurationError
from server.core.policy import DEFAULT_POLICY_FILE, Policy, load_policies

DEFAULT_MAX_TOKENS = 256
_RANGE_TEXTS = 256
_PACKAGES = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime")

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """``version`` is the manifest's; None takes today's date. ``max_tokens`` is the longest window, None for what the student
    was trained with: shorter windows find short harm in long texts, longer ones read more at once. ``threads`` are
    onnxruntime's, while it measures. ``float_ffn_layers`` is INT8's (:mod:`export.quantise`). ``command`` is kept in the
    manifest's provenance."""

    precision: Precision = "int8"
    version: str | None = None
    max_tokens: int | None = None
    threads: int = 1
    float_ffn_layers: int = 0
    limits: Limits = field(default_factory=Limits)
    allow_replace: bool = False
    command: str | None = None


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    data: Path | None,
    reference_texts: int | None = None,
    policy_file: Path = DEFAULT_POLICY_FILE,
    settings: ExportSettings,
    report: Report,
) -> dict[str, Any]:
    """Load what the command line names, export it, and return :func:`export_student`'s summary.

    Args:
        checkpoint: a trained student's folder; ``student.json`` and ``provenance.json`` in it are optional.
        data: labelled Parquet file; None exports without calibration.
        reference_texts: how many dev texts to use, drawn at random; None for all.

    Raises:
        ConfigurationError: something named is missing or malformed, or there are too few labelled texts to prove anything by.
        ExportRefused: the export failed its proof; nothing was written.
    """
    check_destination(out, manifest=MANIFEST, allow_replace=settings.allow_replace)
    policy = load_policies(policy_file)["default"]
    trained = _read_json(checkpoint / "student.json").get("max_tokens", DEFAULT_MAX_TOKENS)
    max_tokens = settings.max_tokens or trained
    provenance = _read_json(checkpoint / "provenance.json")
    model, tokenizer = load_student(checkpoint)
    reference = shipped_sentences()
    if data:
        reference = load_reference(data, limit=reference_texts)
        require_proof(reference)
    return export_student(
        model,
        tokenizer,
        out,
        reference=reference,
        policy=policy,
        max_tokens=max_tokens,
        provenance=provenance,
        settings=settings,
        report=report,
    )


def export_student(
    model: Any,
    tokenizer: Any,
    out: Path,
    *,
    reference: ReferenceSet,
    policy: Policy,
    max_tokens: int,
    provenance: Mapping[str, Any],
    settings: ExportSettings,
    report: Report,
) -> dict[str, Any]:
    """Export, prove, calibrate and write one artefact; all of it or nothing.

    Returns:
        ``{"artifact", "hash", "version", "precision", "size_bytes", "au_prc", "au_prc_fp32",
        "verdict_agreement_with_fp32", "speedup_int8_over_fp32"}``; the last is None unless the precision is INT8.

    Raises:
        ConfigurationError: ``out`` is taken, the window doesn't fit the model, or the labels can't be calibrated on.
        ExportRefused: the proof failed.
    """
    if not 8 <= max_tokens <= model.config.max_position_embeddings:
        raise ConfigurationError(f"max_tokens {max_tokens} is not in 8…{model.config.max_position_embeddings}")
    model.eval()
    with appearing_whole(out, manifest=MANIFEST, allow_replace=settings.allow_replace) as scratch:
        artifact = scratch / "artifact"
        shipped_tokenizer(tokenizer).save(str(artifact / TOKENIZER))
        windows = cut_windows(artifact / TOKENIZER, reference.texts, max_tokens=max_tokens)

        report("exporting to ONNX")
        graphs = {"fp32": scratch / "fp32.onnx", settings.precision: artifact / MODEL}
        _write_graphs(model, windows, scratch, artifact / MODEL, settings)
        report(f"proving the {settings.precision} graph against torch")
        options = {"limits": settings.limits, "threads": settings.threads}
        figures = prove_graphs(graphs, model, windows, max_tokens=max_tokens, **options)
        report(f"comparing {settings.precision} with FP32 on {len(reference.texts)} texts of {reference.split}")
        judged = prove_verdicts(graphs, windows, reference, policy, precision=settings.precision, **options)
        figures |= judged.figures

        metrics = None
        if reference.is_labelled:
            metrics = evaluate(judged.scores, reference.labels, policy, reference.datasets)
        version = settings.version or f"{date.today():%Y.%m.%d}"
        card = model_card(
            version=version,
            precision=settings.precision,
            size_bytes=graphs[settings.precision].stat().st_size,
            max_tokens=max_tokens,
            policy=policy,
            proof=figures,
            report=metrics,
            split=reference.split,
            provenance=provenance,
        )
        (artifact / MODEL_CARD).write_text(card, encoding="utf-8")
        manifest = Manifest(
            version=version,
            precision=settings.precision,
            categories=tuple(judged.calibration),
            max_tokens=max_tokens,
            calibration=judged.calibration,
            prompt_hash=provenance.get("prompt_hash"),
            policy_hash=policy.hash,
            files={name: file_sha256(artifact / name) for name in FILES},
            metrics={"split": reference.split, "proof": figures, "quality": metrics},
            provenance={
                **provenance,
                "export_command": settings.command,
                "packages": {name: package_version(name) for name in _PACKAGES},
            },
            reference=count_scores(judged.scores) if reference.is_labelled else None,
        )
        write_manifest(artifact, manifest)
    return {
        "artifact": str(out),
        "hash": manifest.hash,
        "version": manifest.version,
        "precision": manifest.precision,
        "size_bytes": (out / MODEL).stat().st_size,
        **{name: figures[name] for name in ("au_prc", "au_prc_fp32", "verdict_agreement_with_fp32", "speedup_int8_over_fp32")},
    }


def _write_graphs(model: Any, windows: Windows, scratch: Path, final: Path, settings: ExportSettings) -> None:
    fp32 = scratch / "fp32.onnx"
    to_onnx(model, fp32)
    match settings.precision:
        case "int8":
            token_ids = spread_sample(windows, _RANGE_TEXTS)[0].token_ids
            to_int8(model, final, token_ids=token_ids, float_ffn_layers=settings.float_ffn_layers)
        case "fp16":
            to_fp16(fp32, final, config=model.config)
        case "fp32":
            fp32.rename(final)


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
