"""Models beside one another on one data set: `compare`, and `recommend`, which says where to start.

The files, from the ground up:

    folds       the same parts of the rows for every model
    answers     what a model says of rows that it was not fitted to
    peers       estimators of scikit-learn
    lending     features and rows that a joint model gives another
    entries     what stands in a comparison: a model, an estimator, one helped by another
    words       how that is written in one word
    figures     how good answers are: log loss, CORP, AUC, CRPS
    resampling  differences of folds, with standard errors that know that folds share rows
    harder      learning curves, test cells going missing, labels going missing
    result      what comes out, as tables, text, Markdown and JSON
    compare     all of this
    advice      which two systems to start with
"""
