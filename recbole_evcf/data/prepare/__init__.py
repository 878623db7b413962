"""Turn raw data sets, and splits made elsewhere, into data sets that RecBole reads."""

from __future__ import annotations

from recbole_evcf.data.prepare.counting import Counts
from recbole_evcf.data.prepare.dispatch import KINDS, prepare
from recbole_evcf.data.prepare.movielens import prepare_ml_20m
from recbole_evcf.data.prepare.netflix import prepare_netflix
from recbole_evcf.data.prepare.pro_sg import prepare_pro_sg
from recbole_evcf.data.prepare.report import Report, format_report

__all__ = [
    "KINDS",
    "Counts",
    "Report",
    "format_report",
    "prepare",
    "prepare_ml_20m",
    "prepare_netflix",
    "prepare_pro_sg",
]
