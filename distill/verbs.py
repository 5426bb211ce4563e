"""What each verb does: load, compute, save, report. The computing lives in the modules that they call."""

import json
import tomllib
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distill import calibrate as calibration_room
from distill import metrics
from distill.cascade.choose import choose_without_teacher
from distill.data import LabelledTexts, balanced_indices, load_split, random_indices
from distill.json_file import read_json
from distill.policy_file import write_numbers
from distill.run_record import hold_to, json_digest
from distill.settings_flags import from_flags
from server.core.calibration import Calibration, calibration_to_json
from server.core.errors import ConfigurationError
from server.core.policy import Policy, load_policies


def tune_teacher(arguments: Namespace) -> dict[str, Any]:
    from distill.seeds import seed_texts
    from distill.soft_labels import pool_with_student, teacher_logits
    from distill.teacher.saved import load_calibration
    from distill.teacher.tune import TuneSettings
    from distill.teacher.tune import tune_teacher as tune

    settings = from_flags(TuneSettings, arguments)
    rows = load_split(arguments.data, "train", assume_chat_benign=True)
    if settings.pool_with:
        store = _store_of_start(settings, arguments)
        rows = rows.take(_judged(rows, store))
    rows = _draw(rows, arguments.rows, seed=arguments.seed)
    if not arguments.without_seeds:
        rows += seed_texts()
    soft, made_with = None, {}
    if settings.pool_with:
        calibration = load_calibration(settings.start_from)
        soft = teacher_logits(rows, store, calibration)
        soft = pool_with_student(soft, rows, Path(settings.pool_with), _policy(arguments).teacher_weight)
        made_with["calibrations"] = _calibrations(calibration, Path(settings.pool_with))
    tune(settings, rows, _policy(arguments), arguments.out, soft, made_with=made_with)
    return {"teacher": str(arguments.out)}


def calibrate_teacher(arguments: Namespace) -> dict[str, Any]:
    from distill.teacher.saved import calibration_path

    path = calibration_path(arguments.teacher)
    rows = load_split(arguments.data, "dev", assume_chat_benign=True)
    rows = rows.take(random_indices(len(rows), arguments.rows))
    margins = _teacher_margins(arguments, rows)
    asked = np.where(np.isnan(margins), np.nan, rows.labels)
    calibration = calibration_room.fit_calibration(np.nan_to_num(margins), asked)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(calibration_to_json(calibration), indent=2) + "\n")
    return {"rows": len(rows), "calibration": calibration_to_json(calibration)}


def pack_teacher(arguments: Namespace) -> dict[str, Any]:
    from distill.teacher.pack import pack

    return pack(Path(arguments.teacher), arguments.out, _policy(arguments), allow_replace=arguments.replace)


def label(arguments: Namespace) -> dict[str, Any]:
    from distill.teacher.label import label_texts
    from distill.teacher.saved import signal_store

    rows = load_split(arguments.data, arguments.split, assume_chat_benign=True)
    if not arguments.all:
        rows = _draw(rows, arguments.rows, seed=arguments.seed)
    judge, encoder = _judge(arguments)
    store = signal_store(
        arguments.signals,
        arguments.teacher,
        _policy(arguments),
        hidden_size=judge.hidden_size,
        max_text_tokens=arguments.max_text_tokens,
    )
    new = label_texts(judge, encoder, rows, store)
    return {"signals": str(store.folder), "new": new, "total": len(store)}


def train(arguments: Namespace) -> dict[str, Any]:
    from distill.extra import hear_extra, load_extra, unhear_noes
    from distill.losses import LossWeights
    from distill.seeds import seed_texts
    from distill.soft_labels import pool_with_student
    from distill.teacher.saved import load_calibration, signal_store, teacher_form, teacher_id
    from distill.train import train_student
    from distill.train_data import align_signals
    from distill.train_settings import TrainSettings

    settings, weights = from_flags(TrainSettings, arguments), from_flags(LossWeights, arguments)
    everything = load_split(arguments.data, "train", assume_chat_benign=True)
    store = signal_store(arguments.signals, arguments.teacher, _policy(arguments)) if arguments.teacher else None
    drawn = balanced_indices(everything, arguments.rows, settings.seed)
    if store is not None:
        judged = _judged(everything, store)
        drawn = np.concatenate([np.setdiff1d(drawn, judged), np.repeat(judged, arguments.signal_repeats)])
    rows = everything.take(drawn)
    if not arguments.without_seeds:
        rows += seed_texts()
    extra = load_extra(arguments.extra, store, repeats=arguments.extra_repeats)
    rows += extra.rows
    calibration = load_calibration(arguments.teacher) if arguments.teacher else None
    of_teacher = unhear_noes(align_signals(rows, store, calibration, dimensions=settings.feature_dimensions), extra)
    if arguments.pool_with:
        weight = _policy(arguments).teacher_weight
        of_teacher = replace(of_teacher, logits=pool_with_student(of_teacher.logits, rows, arguments.pool_with, weight))
    signals = hear_extra(of_teacher, extra)
    dev = _draw(load_split(arguments.data, "dev"), arguments.dev_rows, seed=1)
    made_with = {
        "teacher": teacher_id(arguments.teacher) if arguments.teacher else None,
        "prompt_hash": teacher_form(arguments.teacher).hash(_policy(arguments)) if arguments.teacher else None,
        "pool_with": str(arguments.pool_with) if arguments.pool_with else None,
        "calibrations": _calibrations(calibration, arguments.pool_with),
    }
    figures = train_student(settings, weights, train=rows, signals=signals, dev=dev, out=arguments.out, made_with=made_with)
    earlier = _earlier(settings.start_from)
    provenance = {
        "base": earlier[0]["base"] if earlier else settings.base,
        **made_with,
        **_sources(rows),
        "rows_with_signals": int((~np.isnan(of_teacher.logits).all(axis=1)).sum()),
        "extra": {"files": [path.name for path in arguments.extra], "rows": len(extra)},
        "earlier": earlier,
        "settings": _plain(arguments),
        "dev": figures,
    }
    (arguments.out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    return {
        "checkpoint": str(arguments.out),
        "rows": len(rows),
        "rows_with_signals": provenance["rows_with_signals"],
        "rows_extra": len(extra),
        **figures,
    }


def refit_head(arguments: Namespace) -> dict[str, Any]:
    from distill.head import HeadSettings, pooled_states
    from distill.head import refit_head as refit
    from distill.seeds import seed_texts
    from distill.student import load_student

    settings = from_flags(HeadSettings, arguments)
    start, out = arguments.start_from, arguments.out
    model, tokenizer = load_student(Path(start))
    hold_to(out / "run.json", _plain(arguments), has_begun=(out / "model.safetensors").exists())
    everything = load_split(arguments.data, "train", assume_chat_benign=True)
    rows = everything.take(balanced_indices(everything, arguments.rows, arguments.seed))
    for _ in range(settings.seed_repeats):
        rows += seed_texts()
    shape = read_json(Path(start) / "student.json")
    states = pooled_states(model, tokenizer, rows.texts, max_tokens=shape["max_tokens"])
    losses = refit(model, states, rows, keep=settings.keep)
    earlier = _earlier(start)
    provenance = {
        "base": earlier[0]["base"] if earlier else start,
        "teacher": None,
        "prompt_hash": earlier[-1].get("prompt_hash") if earlier else None,
        **_sources(rows),
        "earlier": earlier,
        "settings": _plain(arguments),
    }
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for name, record in {"student.json": shape, "provenance.json": provenance}.items():
        (out / name).write_text(json.dumps(record, indent=2) + "\n")
    return {"checkpoint": str(out), "rows": len(rows), **losses}


def plant(arguments: Namespace) -> dict[str, Any]:
    from distill.planting import plant, write_planted
    from distill.seeds import seed_texts

    rows = load_split(arguments.data, arguments.split, assume_chat_benign=True)
    if arguments.split == "train":
        rows += seed_texts()
    planted = plant(rows, arguments.rows, max_chars=arguments.max_chars, seed=arguments.seed)
    return {"planted": str(arguments.out), **write_planted(arguments.out, planted, arguments.split)}


def calibrate(arguments: Namespace) -> dict[str, Any]:
    from distill.predict import checkpoint_logits

    dev = load_split(arguments.data, "dev", assume_chat_benign=True)
    logits = checkpoint_logits(arguments.checkpoint, dev.texts)
    calibration = calibration_room.fit_calibration(logits, dev.labels)
    scores = calibration_room.apply_calibration(logits, calibration)
    choice = choose_without_teacher(scores, dev.labels, budget=arguments.escalation_budget)
    (arguments.checkpoint / "calibration.json").write_text(json.dumps(calibration_to_json(calibration), indent=2) + "\n")
    numbers = choice.policy_numbers()
    if arguments.write_policy:
        write_numbers(arguments.policies, "default", **numbers)
    return {"calibration": calibration_to_json(calibration), **numbers}


def evaluate(arguments: Namespace) -> dict[str, Any]:
    from distill.compare import compare
    from distill.predict import checkpoint_scores

    rows = load_split(arguments.data, arguments.split)
    if arguments.rows:
        rows = _draw(rows, arguments.rows, seed=3)
    scores = _teacher_scores(arguments, rows) if arguments.teacher else checkpoint_scores(arguments.checkpoint, rows.texts)
    report = {"split": arguments.split, **metrics.evaluate(scores, rows.labels, _policy(arguments), rows.datasets)}
    if arguments.against:
        before = checkpoint_scores(arguments.against, rows.texts)
        report["against"] = compare(scores, before, rows.labels, _policy(arguments))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    return report


def _licences() -> dict[str, str]:
    return tomllib.loads(Path(__file__).with_name("licences.toml").read_text(encoding="utf-8"))


def _policy(arguments: Namespace) -> Policy:
    return load_policies(arguments.policies)["default"]


def _draw(rows: LabelledTexts, size: int, *, seed: int) -> LabelledTexts:
    return rows.take(balanced_indices(rows, size, seed))


def _judge(arguments: Namespace):
    """The teacher that the flags name, and the encoder that asks it in its form about the policy."""
    from distill.teacher.model import TreeEncoder
    from distill.teacher.saved import load_judge, teacher_form

    judge, form = load_judge(arguments.teacher), teacher_form(arguments.teacher)
    return judge, TreeEncoder(judge.tokenizer, _policy(arguments), form, max_text_tokens=arguments.max_text_tokens)


def _teacher_margins(arguments: Namespace, rows: LabelledTexts) -> np.ndarray:
    from distill.teacher.label import judge_known

    return judge_known(*_judge(arguments), rows)


def _teacher_scores(arguments: Namespace, rows: LabelledTexts) -> np.ndarray:
    from distill.teacher.saved import load_calibration

    calibration = load_calibration(arguments.teacher)
    if calibration is None:
        raise ConfigurationError("the teacher is not calibrated yet: run calibrate-teacher first")
    return calibration_room.apply_calibration(np.nan_to_num(_teacher_margins(arguments, rows)), calibration)


def _store_of_start(settings, arguments: Namespace):
    """What the teacher that a tuning starts from said: the half of the pool that is its own."""
    from distill.teacher.saved import signal_store

    if not settings.start_from:
        raise ConfigurationError("--pool-with is beside the teacher that a run starts from: it needs --start-from")
    return signal_store(arguments.signals, settings.start_from, _policy(arguments))


def _calibrations(teachers: Calibration | None, student: Path | None) -> list[str | None]:
    """By what the soft labels of a teacher, and of the student that they are pooled with, are calibrated: digests."""
    return [
        json_digest(calibration_to_json(teachers)) if teachers else None,
        json_digest(read_json(student / "calibration.json")) if student else None,
    ]


def _plain(arguments: Namespace) -> dict[str, Any]:
    """The flags, for the record; where files lie is nobody else's matter."""
    return {name: value for name, value in vars(arguments).items() if isinstance(value, int | float | str)}


def _sources(rows: LabelledTexts) -> dict[str, Any]:
    """Whose texts were learnt from, and by what licence."""
    counts = {str(n): int(c) for n, c in zip(*np.unique(rows.datasets.astype(str), return_counts=True), strict=True)}
    licences = {name: licence for name, licence in _licences().items() if name in counts}
    return {"data": counts, "licences": licences, "rows": len(rows)}


def _earlier(run: str) -> list[dict[str, Any]]:
    """What the student that a run goes on from was made of, and those before it; the oldest first."""
    path = Path(run) / "provenance.json"
    if not run or not path.exists():
        return []
    record = read_json(path)
    return [*record.pop("earlier", []), record]


def _judged(rows: LabelledTexts, store) -> np.ndarray:
    from distill.soft_labels import signal_rows

    return np.flatnonzero(signal_rows(rows, store) >= 0)
