"""The models, a package each: the density and the fields in `model`, what it can do with data in `bound`.

Mixtures (`gmm`) and hidden Markov models (`hmm`) rest on `ppl_models.latent`, logistic regression
(`logistic`) on `ppl_models.regression`, the variational autoencoder (`vae`) on `ppl_models.networks`; the
generative adversarial network (`gan`) has networks of its own; user-defined models are Pyro programs
(`program`).
"""
