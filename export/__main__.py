"""``python -m export``: a trained student to a proven artefact. Its verbs, on finished artefacts: ``score``, what it says of
labelled texts; ``reference``, how its scores are spread; ``views``, what reading in canonical form costs and brings; ``sign``,
whose it is; ``unpack``, a student that training can go on from. Progress on stderr; the last line on stdout is JSON."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import get_args

from distill.settings_flags import positive
from server.core.artifact import Precision
from server.core.errors import StillguardError
from server.core.policy import DEFAULT_POLICY_FILE

_EPILOG = """\
what is proven, in this order: input and output names; dynamic axes; output shapes at several sizes; logits against torch;
AU-PRC within 0.005 of FP32 and 99 % of verdicts as FP32's on the reference set; 99 % of verdicts alike alone and in a batch.
An export that fails is refused with every failure listed, and nothing is written.

verbs on finished artefacts, each with a --help of its own: `score` runs one over labelled texts; `sign` signs it; `reference`
writes into it what drift is told by; `views` measures what reading in canonical form costs and brings; `unpack` makes of it a
student that training can go on from.

exit status: 0 written; 2 bad arguments, files or settings; 3 refused.
"""


def main(argv: list[str]) -> int:
    """Run the command line; returns the exit status. Without a verb, it exports."""
    verbs = {"score": _score, "reference": _reference, "views": _views, "sign": _sign, "unpack": _unpack}
    return verbs[argv[0]](argv[1:]) if argv and argv[0] in verbs else _export(argv)


def _export(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    import torch

    from export.pipeline import ExportSettings, export_checkpoint
    from export.proof import ExportRefused

    torch.set_num_threads(arguments.threads)
    try:
        summary = export_checkpoint(
            arguments.checkpoint,
            arguments.out,
            data=arguments.data,
            reference_texts=arguments.reference_texts,
            policy_file=arguments.policy,
            settings=ExportSettings(
                precision=arguments.precision,
                version=arguments.version,
                max_tokens=arguments.max_tokens,
                threads=arguments.threads,
                float_ffn_layers=arguments.float_ffn_layers,
                allow_replace=arguments.replace,
                command=shlex.join(["python", "-m", "export", *argv]),
            ),
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except ExportRefused as refused:
        print("export refused; nothing was written:", *refused.failures, sep="\n  ", file=sys.stderr)
        return 3
    except StillguardError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    print(json.dumps(summary))
    return 0


def _score(argv: list[str]) -> int:
    arguments = _score_parser().parse_args(argv)
    from distill.cascade.score_file import save_scores
    from export.score import score_artifact

    try:
        scored = score_artifact(
            arguments.artifact,
            arguments.data,
            split=arguments.split,
            size=arguments.rows,
            seed=arguments.seed,
            threads=arguments.threads,
        )
    except StillguardError as error:
        print(f"export score: {error}", file=sys.stderr)
        return 2
    save_scores(arguments.out, scored)
    print(json.dumps({"scores": str(arguments.out), "rows": len(scored), "artifact_hash": scored.artifact_hash}))
    return 0


def _reference(argv: list[str]) -> int:
    arguments = _reference_parser().parse_args(argv)
    from export.histograms import add_reference

    try:
        manifest = add_reference(arguments.artifact, arguments.data, limit=arguments.reference_texts, threads=arguments.threads)
    except StillguardError as error:
        print(f"export reference: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"artifact": str(arguments.artifact), "hash": manifest.hash, "texts": manifest.reference.texts}))
    return 0


def _views(argv: list[str]) -> int:
    arguments = _views_parser().parse_args(argv)
    from export.views import measure_views, table
    from server.core.policy import load_policies

    try:
        policy = load_policies(arguments.policy)["default"]
        found = measure_views(
            arguments.artifact, arguments.data, policy, limit=arguments.rows, seed=arguments.seed, threads=arguments.threads
        )
    except StillguardError as error:
        print(f"export views: {error}", file=sys.stderr)
        return 2
    print(table(found), file=sys.stderr)
    print(json.dumps(found))
    return 0


def _sign(argv: list[str]) -> int:
    arguments = _sign_parser().parse_args(argv)
    from export.sign import read_private_key, sign_folder

    try:
        seed = read_private_key(arguments.key)
        signed = [str(sign_folder(folder, seed=seed)) for folder in arguments.folders]
    except StillguardError as error:
        print(f"export sign: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"signatures": signed}))
    return 0


def _unpack(argv: list[str]) -> int:
    arguments = _unpack_parser().parse_args(argv)
    from export.unpack import unpack_artifact

    try:
        summary = unpack_artifact(arguments.artifact, arguments.out)
    except StillguardError as error:
        print(f"export unpack: {error}", file=sys.stderr)
        return 2
    print(json.dumps(summary))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Export a trained student to ONNX, quantise it, calibrate it, prove it, and write the artefact folder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR", help="the folder that `python -m distill train` wrote")
    add("--out", type=Path, required=True, metavar="DIR", help="the artefact folder to write")
    reference = parser.add_mutually_exclusive_group(required=True)
    reference.add_argument(
        "--data", type=Path, metavar="PARQUET", help="labelled texts; their dev split is calibrated, measured and proven on"
    )
    reference.add_argument(
        "--uncalibrated", action="store_true", help="no labelled texts: plain sigmoid scores, for plumbing tests only"
    )
    add("--precision", choices=get_args(Precision), default="int8", help="int8 for CPUs, fp16 for GPUs, fp32 (default: int8)")
    add("--policy", type=Path, default=DEFAULT_POLICY_FILE, metavar="FILE", help="its [default] policy sets the thresholds")
    add("--version", metavar="V", help="the artefact's name for people (default: today's date, as 2026.11.22)")
    add("--max-tokens", type=positive, metavar="N", help="longest window; longer texts have several (default: as trained)")
    add("--reference-texts", type=positive, metavar="N", help="use N dev texts, drawn at random (default: all)")
    add("--threads", type=positive, default=1, metavar="N", help="threads for measuring (default: 1)")
    add(
        "--float-ffn-layers",
        type=int,
        default=0,
        metavar="N",
        help="int8: keep the FFN's second MatMul of the first N layers in float, for a student refused without (default: 0)",
    )
    add("--replace", action="store_true", help="replace the artefact that is in --out, once the new one is proven")
    return parser


def _score_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export score",
        description="Run an artefact over labelled texts, as the server does, for `python -m distill cascade`.",
    )
    add = parser.add_argument
    add("--artifact", type=Path, required=True, metavar="DIR", help="the folder that `python -m export` wrote")
    add("--data", type=Path, required=True, metavar="PARQUET", help="labelled texts")
    add("--split", default="dev", help="which of its splits (default: dev)")
    add("--rows", type=positive, metavar="N", help="how many texts, drawn in balance over sources (default: the whole split)")
    add("--seed", type=int, default=0, help="of the draw; with the same, `distill label` draws the same texts (default: 0)")
    add("--threads", type=positive, default=1, metavar="N", help="threads for the model (default: 1)")
    add("--out", type=Path, required=True, metavar="NPZ", help="the score file to write")
    return parser


def _reference_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export reference",
        description="Write into an artefact's manifest how its scores are spread over labelled texts, for the server to tell "
        "drift by. An export does so by itself; this is for artefacts from before. The artefact's hash changes: sign it "
        "afterwards.",
    )
    add = parser.add_argument
    add("--artifact", type=Path, required=True, metavar="DIR", help="the folder that `python -m export` wrote")
    add("--data", type=Path, required=True, metavar="PARQUET", help="labelled texts, of which the dev split is scored")
    add("--reference-texts", type=positive, metavar="N", help="use N of them, drawn at random (default: all)")
    add("--threads", type=positive, default=1, metavar="N", help="threads for the model (default: 1)")
    return parser


def _views_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export views",
        description="Measure what canonical text and its second view cost in speed and in false blocks of harmless texts, and "
        "what they bring on harmful texts in disguise.",
    )
    add = parser.add_argument
    add("--artifact", type=Path, required=True, metavar="DIR", help="the folder that `python -m export` wrote")
    add("--data", type=Path, required=True, metavar="PARQUET", help="labelled texts, of which the dev split is read")
    add("--policy", type=Path, default=DEFAULT_POLICY_FILE, metavar="FILE", help="its [default] policy says what is blocked")
    add("--rows", type=positive, metavar="N", help="use N texts, drawn at random (default: all)")
    add("--seed", type=int, default=0, help="of the draw and of the disguises (default: 0)")
    add("--threads", type=positive, default=1, metavar="N", help="threads for the model (default: 1)")
    return parser


def _sign_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export sign",
        description="Sign finished folders, for servers that ask for it (--artifact-public-key-file).",
        epilog="a pair of keys: openssl genpkey -algorithm ed25519 -out release.pem; openssl pkey -in release.pem -pubout -out "
        "release.pub",
    )
    add = parser.add_argument
    add("folders", type=Path, nargs="+", metavar="DIR", help="an artefact's folder, or a teacher's")
    add("--key", type=Path, required=True, metavar="PEM", help="the Ed25519 private key, without a passphrase")
    return parser


def _unpack_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export unpack",
        description="Make of an INT8 artefact, such as the shipped one, the run folder of a student that `distill train` and "
        "`distill refit-head` go on from, calibrated as the artefact is.",
    )
    add = parser.add_argument
    add("--artifact", type=Path, required=True, metavar="DIR", help="the folder that `python -m export` wrote")
    add("--out", type=Path, required=True, metavar="DIR", help="the run folder to write")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
