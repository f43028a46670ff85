"""Models beside one another on one data set: `compare`, and `recommend`, which says what to compare first.

folds       the same parts of the rows for every model
entries     what stands in a comparison: a model, a finished run, a scikit-learn estimator, one helped by
            another; and how it is written in one word
peers       estimators of scikit-learn
answers     what a model says of rows that it was not fitted to
figures     how good that is: log loss, CORP, AUC, CRPS
resampling  differences of folds, with standard errors that know that folds share rows
harder      learning curves, test cells going missing, labels going missing
compare     all of this
result      what comes out, as tables, text, Markdown and JSON
advice      which two systems to start with
"""
