"""Scores of an ensemble against the truth, from sums over cells and times.

For members x_1 … x_M and truth y, both (…, H, W), weights w the areas of cells (0 where one is missing), and ⟨·⟩ the
weighted mean, every score is a formula f on a sum of terms s:

    score = f( Σ_t Σ_cells s(x, y, w), M )        RMSE: s = w (1, (x̄ − y)²), f(a, b) = √(b / a)

So a series scored in parts has the scores of the whole, and a bootstrap over times adds up the terms of drawn times and
applies f again. Scores that depend on M by chance alone are taken in their fair form (Ferro 2014), unbiased in M.

A score is written once: a `Statistic` (s, f and the scores f gives) beside its formula, listed in `table`. In the files
of scores ``<name>_terms`` is s, ``<name>_formula`` is f on summed terms with any number of leading axes, and a function
named after the score does both for members (M, T, H, W) and truth (T, H, W).

    settings       what is scored: thresholds, windows, cell sizes
    cells          one time as a frame and in chunks of cells; steps in time; weighted sums and ratios
    record         Statistic and Score: what a score is
    table          the list of all
    sums           Sums: statistics of one system over time, and its scores
    joint_sums     JointSums: the same of several variables together
    bootstrap      intervals, and differences between two systems

    crps           CRPS, and above a threshold            deterministic  errors of the mean, spread–skill
    ranks          ranks, PIT, coverage                   spread_error   error by spread
    events         CSI, POD, FAR, Brier, reliability, ROC
    fss            fractions skill score                  image          PSNR, SSIM
    multivariate   energy and variogram score             sal            objects of rain
    spectra        power spectra and their distance       distribution   quantiles, maximum, wet fraction
    moving         autocorrelation along the motion
    temporal       autocorrelation, border ratio          conservation   block means against the coarse field
    wet_days       wet days, length of dry spells         across         several variables together
    direction      streaks, by the structure tensor
    texture        imprint of coarse cells, specks, flat squares, structure functions

No file here knows torch, xarray or a file format; `finescale.verify` brings data here and shows what comes out.
"""
