"""Serve trained models: recommend to new users from a model file alone."""
