"""``python -m export``: a trained student to a proven artefact. Progress on stderr; the last line on stdout is JSON."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import get_args

from server.core.artifact import Precision
from server.core.errors import StillguardError
from server.core.policy import DEFAULT_POLICY_FILE

_EPILOG = """\
what is proven, in this order: input and output names; dynamic axes; output shapes at several sizes; logits against torch;
AU-PRC within 0.005 of FP32 and 99 % of verdicts as FP32's on the reference set; 99 % of verdicts alike alone and in a batch.
An export that fails is refused with every failure listed, and nothing is written.

exit status: 0 written; 2 bad arguments, files or settings; 3 refused.
"""


def main(argv: list[str]) -> int:
    """Run the command line; returns the exit status."""
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
    add("--reference-texts", type=_positive, metavar="N", help="use N dev texts, drawn at random (default: all)")
    add("--threads", type=_positive, default=1, metavar="N", help="threads for measuring (default: 1)")
    add(
        "--float-ffn-layers",
        type=int,
        default=0,
        metavar="N",
        help="int8: keep the FFN's second MatMul of the first N layers in float, for a student refused without (default: 0)",
    )
    add("--replace", action="store_true", help="replace the artefact that is in --out, once the new one is proven")
    return parser


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
