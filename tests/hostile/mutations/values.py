"""What may stand where a configuration, a saved model or a journal has a value: strategies of hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

WORDS = (
    "", "none", "kind", "unet", "vit", "edsr", "pixel", "wavelet", "patch_pod", "heun", "ddim", "edm", "vp",
    "vp_sde", "schedule", "network", "standardize", "log1p", "additive", "softmax", "penalty", "tapered", "haar", "1x4",
    "3x2", "1e9", "nan", "true", "data.path", "\x00", "é", "steps", "a" * 3000,
)  # fmt: skip
# Small sizes are built; those between are nothing but more memory and time.
NUMBERS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([10**6, 10**9, -(10**9), 2**63, 2**64, 10**30, 10**300]),
    st.floats(-4, 12),
    st.sampled_from([1e-300, 1e300, -1e300, float("nan"), float("inf"), -float("inf"), 0.5, 1e-6]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(WORDS), st.text(max_size=5))
KEYS = st.one_of(
    st.sampled_from([*WORDS, "backbone", "width", "levels", "T", "patch", "modes", "frames", "low"]), SCALARS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)
