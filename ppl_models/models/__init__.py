"""The models, a package each: the density and the fields in `model`, what it can do with data in `bound`.

Mixtures (`gmm`) and hidden Markov models (`hmm`) rest on `ppl_models.latent`; logistic regression
(`logistic`), generalised linear models (`glm`) and support vector machines (`svm`) on
`ppl_models.regression`; networks with a Bayesian head (`mlp`, `cnn`, `rnn`) on `ppl_models.neural`; the
variational autoencoder (`vae`), the generative adversarial network (`gan`) and the autoregressive transformer
(`transformer`) on `ppl_models.networks`; user-defined models are Pyro programs (`program`).
"""
