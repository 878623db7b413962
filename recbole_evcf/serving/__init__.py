"""Trained models at work: recommendations to new users, from a model file alone."""

from recbole_evcf.serving.recommender import LatentVectors, Recommender

__all__ = ["LatentVectors", "Recommender"]
