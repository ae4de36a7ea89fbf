"""Networks whose programs have all instructions between them, but those of series in the angle."""

from __future__ import annotations

from kernreg import nn

__all__ = ["NETWORKS", "mlp"]


def mlp(fn: nn.Nonlinearity, depth: int = 3) -> nn.Layer:
    """Dense layers with biases and one nonlinearity."""
    return nn.mlp(depth=depth, activation=fn, W_std=1.4, b_std=0.1)


def _residual(*layers: nn.Layer) -> nn.Layer:
    return nn.residual(nn.serial(*layers))


_BRANCHES = (nn.serial(nn.Relu(), nn.Dense(1.1)), nn.serial(nn.Erf(), nn.Dense(0.9, 0.2)))
_IN, _OUT = nn.Dense(1.2, 0.1), nn.Dense()

NETWORKS: dict[str, nn.Layer] = {
    "relu": mlp(nn.Relu()),
    "relu without bias": nn.mlp(depth=2, W_std=1.4, b_std=0.0),
    "erf": mlp(nn.Erf()),
    "gelu": mlp(nn.Gelu()),
    "sin": mlp(nn.Sin(1.2, 0.8, 0.3), 2),
    "exp": nn.serial(nn.Dense(0.5, 0.1), nn.ExpNormalized(), _OUT),
    "hermite series": nn.serial(_IN, nn.Tanh(), _OUT),
    "residual": nn.serial(_IN, _residual(nn.Relu(), nn.Dense(0.7, 0.1)), nn.Relu(), _OUT),
    "sum": nn.serial(_IN, nn.parallel(*_BRANCHES), nn.Relu(), _OUT),
    "product": nn.serial(_IN, nn.parallel(*_BRANCHES, merge="product"), _OUT, nn.Relu(), _OUT),
    "dropout": nn.serial(_IN, nn.Relu(), nn.Dropout(0.8), nn.Dense(1.0, 0.2), nn.Relu(), _OUT),
    "layer norm": nn.serial(_IN, nn.LayerNorm(), nn.Gelu(), _OUT),
    "repeat": nn.serial(_IN, nn.repeat(_residual(nn.Relu(), nn.Dense(0.5, 0.1)), 5), _OUT),
    "loops": nn.serial(_IN, nn.repeat(nn.repeat(nn.serial(nn.Erf(), nn.Dense(1.3, 0.2)), 2), 3)),
    "standard": nn.serial(_IN, nn.Relu(), nn.Dense(1.2, 0.3, "standard", 50), nn.Erf(), _OUT),
    "not trained": nn.serial(
        nn.Dense(1.2, 0.1, trainable=False),
        *(nn.Relu(), nn.Dense(1.1, 0.2, trainable=False), nn.Erf(), _OUT, nn.Relu()),
        nn.Dense(1.3, trainable=False),
    ),
    "standard without bias": nn.serial(_IN, nn.Gelu(), nn.Dense(1.2, None, "standard", 50)),
}
