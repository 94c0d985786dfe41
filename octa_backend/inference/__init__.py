"""Prediction with a trained network."""
