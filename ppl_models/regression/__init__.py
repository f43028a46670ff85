"""Bayesian regression: design matrices, likelihoods, priors and Gaussian posteriors."""
