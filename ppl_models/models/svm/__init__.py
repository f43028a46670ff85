"""Bayesian support vector machines."""
