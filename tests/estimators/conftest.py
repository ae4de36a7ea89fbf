"""What is made of entries of the kernel, or without any, is not run on interpreted GPU kernels."""

import os

INTERPRETED = os.environ.get("KERNREG_BACKEND") == "triton"

collect_ignore = (
    [
        "test_bad_input_of_spreads.py",
        "test_ensemble.py",
        "test_features.py",
        "test_gaussian_process.py",
        "test_gp_classifier.py",
        "test_intervals.py",
        "test_marginal_likelihood.py",
        "test_posterior_files.py",
        "test_preparation.py",
        "test_whitening.py",
        "test_probabilities.py",
        "test_scikit_learn_programs.py",
        "test_small_variances.py",
        "test_tuning.py",
    ]
    if INTERPRETED
    else []
)
