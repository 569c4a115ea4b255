"""Intervals, paired tests, equivalence, bootstrap and judge correction: pure functions of arrays.

Shares are fractions of 1. Unscored values are NaN and are left out of a share's numerator and denominator
alike. Everything random takes a seed. What scipy and statsmodels have is taken from there.
"""

from evals.statistics.agreement import alpha_of_counts, cohens_kappa, krippendorffs_alpha
from evals.statistics.comparisons import (
    Equivalence,
    PairedDifference,
    benjamini_hochberg,
    detectable_drop,
    equivalence,
    holm,
    holm_levels,
    mcnemar,
    mcnemar_power,
    paired_difference,
    paired_f1_difference,
    paired_share_difference,
    share_equivalence,
    weighted_holm,
)
from evals.statistics.intervals import (
    Estimate,
    Interval,
    error_of,
    harmonic_mean,
    jeffreys,
    mean_estimate,
    standard_error,
    wilson,
)
from evals.statistics.judge_error import (
    Stratum,
    prediction_powered,
    prediction_powered_f1,
    square_and_add,
    stratified_share,
)
from evals.statistics.labelled_few import (
    ENOUGH_LABELS,
    UNLIKELY,
    LabelledFew,
    corrected_f1,
    corrected_share,
    draw_p_values,
)
from evals.statistics.power import seeds_for_difference, seeds_for_margin
from evals.statistics.resampling import (
    Spread,
    bootstrap,
    cluster_shares,
    clustered_interval,
    mean_spread,
    percentiles,
    resample_counts,
)

__all__ = [
    "ENOUGH_LABELS",
    "UNLIKELY",
    "Equivalence",
    "Estimate",
    "Interval",
    "LabelledFew",
    "PairedDifference",
    "Spread",
    "Stratum",
    "alpha_of_counts",
    "benjamini_hochberg",
    "bootstrap",
    "cluster_shares",
    "clustered_interval",
    "cohens_kappa",
    "corrected_f1",
    "corrected_share",
    "detectable_drop",
    "draw_p_values",
    "equivalence",
    "error_of",
    "harmonic_mean",
    "holm",
    "holm_levels",
    "jeffreys",
    "krippendorffs_alpha",
    "mcnemar",
    "mcnemar_power",
    "mean_estimate",
    "mean_spread",
    "paired_difference",
    "paired_f1_difference",
    "paired_share_difference",
    "percentiles",
    "prediction_powered",
    "prediction_powered_f1",
    "resample_counts",
    "seeds_for_difference",
    "seeds_for_margin",
    "share_equivalence",
    "square_and_add",
    "standard_error",
    "stratified_share",
    "weighted_holm",
    "wilson",
]
