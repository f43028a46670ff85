"""How posteriors are approximated: update rules, and what surrounds them.

A rule takes one step on the ELBO: `conjugate` for exponential families, `gaussian` for a Gaussian over
unconstrained parameters, `gradient` for whatever is differentiable; `adversarial` sets a generator against a
critic. `loop` repeats it until `convergence` says that nothing more is to be gained, and `settings` holds
what a user may choose. Afterwards `calibration`
weighs draws of the guide against the exact density (`psis`), and `moves` moves them where that will not do.
"""
