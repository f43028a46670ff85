"""Recurrent networks for sequences."""
