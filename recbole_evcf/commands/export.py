"""``recbole-evcf export``: a trained model as an ONNX file."""

from __future__ import annotations

import argparse
import os

from recbole_evcf.commands.common import add_model_file
from recbole_evcf.serving import Recommender
from recbole_evcf.serving.onnx_export import INPUT, OUTPUT, export_onnx
from recbole_evcf.whole_file import check_target

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Export a model; arguments and exit code as :func:`recbole_evcf.cli.main`."""
    parser = argparse.ArgumentParser(
        prog="recbole-evcf export",
        allow_abbrev=False,
        description="Write a trained model for use without RecBole and PyTorch.",
    )
    add_model_file(parser)
    parser.add_argument("--format", choices=["onnx"], default="onnx", help="of the output")
    parser.add_argument("--output", required=True, help="the file to write, such as model.onnx")
    options = parser.parse_args(arguments)
    check_target(options.output)
    recommender = Recommender.load(options.model_file, device="cpu")
    export_onnx(recommender, options.output)
    size = os.path.getsize(options.output)
    items = f"{len(recommender.item_tokens):,} items"
    print(f"{options.output}: float32 {INPUT} (users, {items}) -> {OUTPUT}, {size / 1e6:,.1f} MB")
    return 0
