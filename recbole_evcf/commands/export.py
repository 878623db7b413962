"""``recbole-evcf export``: a trained model as an ONNX file."""

from __future__ import annotations

import argparse
import os

from recbole_evcf.serving.onnx_export import INPUT, OUTPUT, export_onnx
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.utils.files import check_target

__all__ = ["main"]


def main(options: argparse.Namespace, words: list[str]) -> int:
    """Export a model."""
    check_target(options.output)
    recommender = Recommender.load(options.model_file, device="cpu")
    export_onnx(recommender, options.output)
    size = os.path.getsize(options.output)
    items = f"{len(recommender.item_tokens):,} items"
    print(f"{options.output}: float32 {INPUT} (users, {items}) -> {OUTPUT}, {size / 1e6:,.1f} MB")
    return 0
