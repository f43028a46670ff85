"""The Gaussian mixture, and mixtures of any family."""
