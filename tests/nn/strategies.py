"""Random layers and networks for property tests."""

from __future__ import annotations

import hypothesis.strategies as st

from kernreg import nn

W_STDS = st.floats(0.5, 2.0)
BIASES = st.sampled_from([0.0, None]) | st.floats(0.01, 1.0)
FACTORS = st.floats(0.5, 1.5)
# No phase is nearly 0: the kernel of a row of zeros would then underflow.
PHASES = st.integers(-8, 8).map(lambda k: k / 8)

HOMOGENEOUS = st.one_of(
    st.sampled_from([nn.Relu(), nn.Abs(), nn.RectifiedMonomial(1), nn.Monomial(1)]),
    st.builds(nn.LeakyRelu, st.floats(0.0, 0.9)),
    st.builds(nn.ABRelu, FACTORS, FACTORS),
    st.builds(nn.ExpNormalized, FACTORS),
)
SMOOTH = st.one_of(
    st.sampled_from([nn.Gelu(), nn.SigmoidLike(), nn.Gabor()]),
    st.builds(nn.Erf, FACTORS, FACTORS, st.sampled_from([0.0, 0.3])),
    st.builds(nn.Sin, FACTORS, FACTORS, PHASES),
    st.builds(nn.Cos, FACTORS, FACTORS, PHASES),
    st.builds(nn.Rbf, FACTORS),
    st.builds(nn.Gaussian, FACTORS, st.floats(-1.0, -0.1)),
)
JUMPS = st.sampled_from([nn.Sign(), nn.RectifiedMonomial(0)])
# These raise variances to a power, so they follow a LayerNorm.
GROWING = st.one_of(
    st.builds(nn.Monomial, st.integers(2, 4)),
    st.builds(nn.RectifiedMonomial, st.integers(2, 3)),
    st.builds(nn.Exp, FACTORS, PHASES),
    st.builds(nn.Hermite, st.lists(FACTORS, min_size=1, max_size=4).map(tuple)),
    st.builds(nn.Polynomial, st.lists(FACTORS, min_size=1, max_size=4).map(tuple)),
)
NUMERICAL = st.one_of(
    st.sampled_from([nn.Tanh(), nn.Swish(), nn.Softplus(), nn.Selu()]),
    st.builds(nn.Elu, FACTORS),
)
CLOSED_FORM = HOMOGENEOUS | SMOOTH | JUMPS | GROWING
NONLINEARITIES = CLOSED_FORM | NUMERICAL

DENSE = st.builds(nn.Dense, W_STDS, BIASES)
STANDARD = st.builds(
    nn.Dense,
    W_STDS,
    st.none() | st.floats(0.01, 1.0),
    st.just("standard"),
    st.integers(1, 64),
)


def hidden_layers(
    nonlinearities: st.SearchStrategy[nn.Nonlinearity],
) -> st.SearchStrategy[nn.Layer]:
    """Blocks from a Gaussian value to a Gaussian value, of one nonlinearity."""
    norms = st.just(nn.LayerNorm())
    drops = st.none() | st.builds(nn.Dropout, st.floats(0.5, 1.0))

    def block(fn: nn.Layer, drop: nn.Layer | None, dense: nn.Layer) -> nn.Layer:
        return nn.serial(fn, *([] if drop is None else [drop]), dense)

    bends = st.builds(nn.serial, norms, GROWING) | nonlinearities
    return st.builds(block, bends, drops, DENSE | DENSE | STANDARD)


def _composed(
    blocks: st.SearchStrategy[nn.Layer],
) -> st.SearchStrategy[nn.Layer]:
    """One more level of combinators around blocks."""
    few = st.lists(blocks, min_size=1, max_size=3)
    weighted = few.flatmap(
        lambda layers: st.builds(
            lambda w, dense: nn.serial(
                nn.parallel(*layers, merge="concat", weights=tuple(w)), dense
            ),
            st.lists(FACTORS, min_size=len(layers), max_size=len(layers)),
            DENSE,
        )
    )
    # Branches that are added or multiplied must be independent: each ends in weights of its own.
    fresh = st.builds(nn.serial, blocks, DENSE)
    several = st.lists(fresh, min_size=1, max_size=3)
    return st.one_of(
        few.map(lambda layers: nn.serial(*layers)),
        fresh.map(nn.residual),
        st.builds(nn.residual, blocks, DENSE),
        several.map(lambda layers: nn.parallel(*layers)),
        st.builds(
            lambda layers, d: nn.serial(nn.parallel(*layers, merge="product"), d), several, DENSE
        ),
        weighted,
        st.builds(nn.repeat, blocks, st.integers(0, 3)),
    )


def networks(
    nonlinearities: st.SearchStrategy[nn.Nonlinearity] = HOMOGENEOUS | SMOOTH,
    max_leaves: int = 5,
) -> st.SearchStrategy[nn.Layer]:
    """Whole networks: a dense layer and a tree of blocks of about ``max_leaves`` nonlinearities."""
    body = st.recursive(hidden_layers(nonlinearities), _composed, max_leaves=max_leaves)
    return st.builds(nn.serial, DENSE, body)
