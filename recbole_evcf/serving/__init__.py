"""Trained models at work: recommendations to new users, from a model file alone."""
