"""Densities made of neural networks: encoders, decoders, and likelihoods over the columns of a table."""
