"""Convolutional networks for images and signals."""
