"""Models that users write as Pyro programs.

    model.py        PyroModel, which users subclass
    columns.py      the data that a program sees: columns as tensors, by name
    whole.py        whole numbers beside the columns: sizes and numbers alike
    sites.py        the sites of a program, found by executing it once
    failures.py     an error in a program as one line: file, line and site
    program.py      a program over the columns of a table: its density, and draws from its posterior
    bound.py        the same with all that the verbs ask for
    execution.py    one execution at a point u: log densities, discrete latents summed out
    centring.py     location and scale taken out of latent sites
    inplace.py      models that write into tensors, for many points at once
    recording.py    what a program computes, recorded, and alike operations made at once
    elimination.py  the sum over discrete latents
    missing.py      missing cells masked out of the likelihood
    density.py      the log joint density at many points at once
    train.py        training: which rule and which guide
    prior.py        points to start from
    start.py        searches for modes, and Gaussians to start from
    modes.py        several modes: their shares, and how to go between them
    gradient.py     the ELBOs that the gradient rule ascends
    guides.py       guides that the gradient rule learns
    pair.py         the guide of the Gaussian rule as a Pyro program
    calibrate.py    calibration: the guide as it was trained, or draws moved
    moving.py       draws moved to the posterior by Hamiltonian chains
    simulate.py     observed sites drawn anew, and the posterior of discrete latents
    made_up.py      data for a program that has none
    groups.py       groups for ArviZ by site, and draws of the prior
    naming.py       names of dimensions and their coordinates
    checks.py       how many modes the draws are of, and which a guide missed

A program is given its data by column, and executed under handlers that give its latent sites their values
at a point u of unconstrained space; everything else is a function of the density that follows.
"""
