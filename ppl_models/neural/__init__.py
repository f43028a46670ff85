"""What systems with a neural network for p(y | x) share.

A backbone turns rows into features; `training` trains it by the gradient rule, `heads` are the Bayesian
regressions on its features, `bound` puts them together, `posteriors` and `natural` say whose uncertainty
there is, `targets` what is predicted of a label and of a number, `checks` looks at held-out rows, and
`fields` are the hyperparameters that all of them have.
"""
