"""``kernreg theory``: what theory says of a network and of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from kernreg import nn
from kernreg.cli.console import progress, stderr, stdout
from kernreg.cli.inputs import check_data
from kernreg.cli.networks import parse_network
from kernreg.cli.options import (
    DataArgument,
    Drop,
    Header,
    Impute,
    Kernel,
    Overwrite,
    Target,
    Task,
    TaskOption,
    check_choice,
    table_options,
)
from kernreg.cli.outputs import (
    NUMBERS,
    PICTURE,
    PICTURE_MARK,
    Output,
    check_outputs,
    is_stream,
    place,
    write_text,
)
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.jsonable import as_plain
from kernreg.wording import is_number

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Criticality, finite width, learning curves, kernel design."
)

Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers.")
]
Picture = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also draw: PNG, SVG or PDF by the name of the file."),
]
What = Annotated[
    str, typer.Argument(help="A nonlinearity such as 'Tanh()', or a network as for fit.")
]


@app.command()
def criticality(
    what: What,
    C_b: Annotated[
        float | None, typer.Option("--C-b", min=0.0, help="Variance of the biases.")
    ] = None,
    C_W: Annotated[
        float | None, typer.Option("--C-W", min=0.0, help="Variance of the weights.")
    ] = None,
    json_file: Json = None,
    picture: Picture = None,
    overwrite: Overwrite = False,
) -> None:
    """Critical initialisation of a nonlinearity, or how deep a network can be and still train."""
    _check_files(json_file, picture, overwrite, what)
    network = parse_network(what, part=True)
    if isinstance(network, nn.Nonlinearity) and (C_b is None) != (C_W is None):
        raise InvalidInputError("--C-b and --C-W belong together: give both, or none.")
    from kernreg.theory.criticality.critical_point import critical
    from kernreg.theory.criticality.phases import phase
    from kernreg.theory.criticality.reports import report
    from kernreg.theory.criticality.tuning import tune

    if not isinstance(network, nn.Nonlinearity):
        if (C_b, C_W, picture) != (None, None, None):
            raise InvalidInputError(
                "--C-b, --C-W and --picture are for a nonlinearity: a network has variances."
            )
        found = report(network)
        stdout.print(str(found), markup=False, soft_wrap=True)
        try:
            tuned, text = tune(network), ""
        except NetworkError as error:
            tuned, text = None, f"none ({error})"
        stdout.print(f"critical: {text or repr(tuned)}", markup=False, soft_wrap=True)
        _write(json_file, {"report": found, "tuned": None if tuned is None else nn.to_json(tuned)})
        return
    point = critical(network)
    stdout.print(str(point), markup=False, soft_wrap=True)
    at = None if C_b is None or C_W is None else phase(network, C_b, C_W)
    if at is not None:
        stdout.print(str(at), markup=False, soft_wrap=True)
    _write(json_file, {"critical": point, "phase": at})
    if picture is not None:
        from kernreg.plotting import PhaseDiagramDisplay

        middle = point.C_W or C_W or 1.0
        grids = np.linspace(0.0, max(0.5, 2 * (point.C_b or 0)), 21), np.linspace(0.25, 3, 34)
        shown = PhaseDiagramDisplay.from_nonlinearity(network, grids[0], middle * grids[1])
        _save(shown.figure_, picture)


@app.command("finite-width")
def finite_width(
    what: What,
    width: Annotated[int, typer.Option(min=2, help="Of the hidden layers.")] = 100,
    depth: Annotated[
        int, typer.Option(min=1, help="Hidden layers behind a nonlinearity alone.")
    ] = 5,
    draws: Annotated[
        int,
        typer.Option(min=0, help="Real networks to compare with; 0 for none, else 100 or more."),
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the networks drawn.")] = 0,
    json_file: Json = None,
    picture: Picture = None,
    overwrite: Overwrite = False,
) -> None:
    """Corrections of order 1/width to kernels, beside real networks.

    A nonlinearity alone is taken at its critical initialisation.
    """
    _check_files(json_file, picture, overwrite, what)
    network = parse_network(what, part=True)
    from kernreg.theory.finite_width.comparison import compare
    from kernreg.theory.finite_width.monte_carlo import sample
    from kernreg.theory.finite_width.one_input import coefficients

    sigma, C_b, C_W, depth, K1 = _plain(network, depth)
    found = coefficients(sigma, C_b, C_W, C_b, C_W, depth, K1=K1)
    stdout.print(f"{sigma!r}, C_b = {C_b:g}, C_W = {C_W:g}, K1 = {K1:g}", markup=False)
    stdout.print(str(found), markup=False, soft_wrap=True)
    table, drawn = None, []
    if draws:
        with progress(what=f"drawing {draws:,} networks"):
            drawn = [sample(sigma, C_b, C_W, C_b, C_W, depth, width, draws, K1=K1, seed=seed)]
        table = compare(drawn[0])
        stdout.print(f"\n{draws} networks of width {width}:\n{table}", markup=False)
    _write(json_file, {"coefficients": found, "comparison": table})
    if picture is not None:
        from kernreg.plotting import FiniteWidthDisplay

        depths = {1, -(-depth // 3), -(-2 * depth // 3)} - {depth} if draws else set()
        shallow = [
            sample(sigma, C_b, C_W, C_b, C_W, layers, width, draws, K1=K1, seed=seed)
            for layers in sorted(depths)
        ]
        _save(FiniteWidthDisplay(found, [*shallow, *drawn]).plot().figure_, picture)


@app.command("learning-curve")
def learning_curve(
    data: DataArgument,
    network: Annotated[str, typer.Option(help="As for fit.")] = "mlp(depth=3)",
    sizes: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of training points.")
    ] = "50,100,200,400",
    alpha: Annotated[float, typer.Option(min=0.0, help="Ridge over the mean diagonal.")] = 1e-3,
    kernel: Kernel = "ntk",
    trials: Annotated[
        int, typer.Option(min=0, help="Random training sets to compare with; 0 for none.")
    ] = 10,
    max_rows: Annotated[int, typer.Option(min=10, help="Rows of the pool.")] = 2000,
    target: Target = None,
    task: TaskOption = Task.auto,
    drop: Drop = None,
    impute: Impute = "auto",
    header: Header = True,
    json_file: Json = None,
    picture: Picture = None,
    overwrite: Overwrite = False,
) -> None:
    """Error against the number of training points, predicted from the spectrum and measured.

    Columns are standardised, and so are targets; labels have one output for each class.
    """
    _check_files(json_file, picture, overwrite, data, network)
    check_choice("--kernel", kernel, ("ntk", "nngp"))
    if trials == 1:
        raise InvalidInputError("--trials is 1; expected 0, or at least 2 for a standard error.")
    net, grid = parse_network(network), _numbers("--sizes", sizes, int)
    check_data(data, "theory learning-curve DATA --network NETWORK")
    from kernreg.datasets import load
    from kernreg.theory.eigenlearning.curves import measure_learning_curve, predict_learning_curve

    loaded = load(data, target, task.value, **table_options(drop, None, impute, header))
    X, y = _some_rows(loaded, max_rows)
    if loaded.task == "regression" and np.ptp(y) == 0:
        raise InvalidInputError(f"the target is {y[0]:g} in all {len(y)} rows: nothing to learn.")
    y = (y - y.mean()) / y.std() if loaded.task == "regression" else y.astype(str)
    predicted = predict_learning_curve(net, X, y, grid, alpha, kernel=kernel)
    stdout.print(str(predicted), markup=False, soft_wrap=True)
    measured = None
    if trials:
        with progress(what=f"fitting {trials} training sets of each size"):
            measured = measure_learning_curve(net, X, y, grid, alpha, kernel=kernel, trials=trials)
        stdout.print(str(measured), markup=False, soft_wrap=True)
    _write(json_file, {"predicted": predicted, "measured": measured})
    if picture is not None:
        from kernreg.plotting import LearningCurveDisplay

        _save(LearningCurveDisplay(predicted, measured).plot().figure_, picture)


@app.command()
def design(
    target: Annotated[
        str,
        typer.Argument(
            metavar="COEFFICIENTS|NETWORK",
            help="Kernel as power series of the cosine, e.g. 0,0.5,0,0.5, or that of a network.",
        ),
    ],
    kernel: Kernel = "ntk",
    degree: Annotated[
        int | None,
        typer.Option(min=1, help="Where a network's series is cut off.", show_default="40"),
    ] = None,
    json_file: Json = None,
    picture: Picture = None,
    overwrite: Overwrite = False,
) -> None:
    """The nonlinearity whose network with one hidden layer has a kernel."""
    _check_files(json_file, picture, overwrite, target)
    check_choice("--kernel", kernel, ("ntk", "nngp"))
    deep = not is_number(target.split(",")[0])
    wanted: Any = parse_network(target) if deep else _numbers("COEFFICIENTS", target, float)
    if not deep and degree is not None:
        raise InvalidInputError("--degree is for a network: coefficients end where they end.")
    from kernreg.theory.inverse.design import activation_from_kernel

    made = activation_from_kernel(wanted, kernel, degree=(degree or 40) if deep else None)
    stdout.print(str(made), markup=False, soft_wrap=True)
    stdout.print(f"network: {made.network!r}", markup=False, soft_wrap=True)
    _write(json_file, {"design": made, "network": nn.to_json(made.network)})
    if picture is not None:
        _save_design(made, picture)


@app.command()
def evolve(
    data: DataArgument,
    network: Annotated[str, typer.Option(help="As for fit.")] = "mlp(depth=2)",
    width: Annotated[int, typer.Option(min=1, help="Of the hidden layers.")] = 128,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = 500,
    max_rows: Annotated[int, typer.Option(min=20, help="Rows that are used.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and the split.")] = 0,
    target: Target = None,
    task: TaskOption = Task.auto,
    drop: Drop = None,
    impute: Impute = "auto",
    header: Header = True,
    json_file: Json = None,
    picture: Picture = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a network of finite width; what that does to its kernel, and what each can do.

    Columns are standardised. Scores are those of held-out rows: of the network, and of regression
    with its tangent kernel before and after training.
    """
    _check_files(json_file, picture, overwrite, data, network)
    net = parse_network(network)
    check_data(data, "theory evolve DATA --network NETWORK")
    from kernreg.datasets import load
    from kernreg.finite import evolve as run

    loaded = load(data, target, task.value, **table_options(drop, None, impute, header))
    X, y = _some_rows(loaded, max_rows)
    shape = tuple(X.shape[1:])
    y = y.astype(np.float64) if loaded.task == "regression" else y.astype(str)
    with progress(what=f"training {steps:,} steps") as bar:
        found = run(
            net,
            X,
            y,
            width=width,
            steps=steps,
            input_shape=shape if len(shape) > 1 else None,
            random_state=seed,
            callback=bar,
        )
    stdout.print(str(found), markup=False, soft_wrap=True)
    snapshots = [vars(s) for s in found.evolution.snapshots]
    _write(json_file, {"scores": found.scores, "measure": found.measure, "snapshots": snapshots})
    if picture is not None:
        from kernreg.plotting import KernelEvolutionDisplay

        _save(KernelEvolutionDisplay(found.evolution).plot().figure_, picture)


def _plain(network: nn.Layer, depth: int) -> tuple[Any, float, float, int, float]:
    """Nonlinearity, variances, depth and first variance of a network of equal layers."""
    from kernreg.theory.criticality.critical_point import critical
    from kernreg.theory.finite_width.plain import plain_layers

    if isinstance(network, nn.Nonlinearity):
        point = critical(network)
        if point.C_W is None or point.C_b is None:
            raise InvalidInputError(
                f"{network!r} has no critical initialisation ({point.reason}): give a network, for "
                f"example mlp(depth={depth}, activation={network!r}, W_std=1.0, b_std=0.1)."
            )
        # At the critical variance, which a half-stable point keeps from one side only.
        return network, point.C_b, point.C_W, depth, point.K or point.C_b + point.C_W
    layers = plain_layers(network)
    if not layers.depth:
        raise InvalidInputError(
            f"expected a network with a hidden layer, such as mlp(depth=3), found {network!r}: "
            "without one its kernels are those of infinite width."
        )
    kinds = {(sigma, affine) for sigma, affine in layers.hidden[:-1]}
    sigma = layers.hidden[0][0]
    alike = all(s == sigma and a == layers.first for s, a in kinds)
    last = layers.hidden[-1]
    if not alike or last[0] != sigma or last[1] != layers.first:
        raise InvalidInputError(
            "expected a network whose layers are all alike, such as "
            "mlp(depth=5, activation=Tanh(), W_std=1.0, b_std=0.0) with a readout of the same "
            f"variances, found {network!r}: use finite_width.from_network in Python."
        )
    first = layers.first
    return sigma, first.C_b, first.C_W, layers.depth, first.C_b + first.C_W


def _some_rows(loaded: Any, most: int) -> tuple[Any, Any]:
    """Rows with standardised columns, images as they are, and their targets."""
    chosen = np.random.default_rng(0).permutation(len(loaded.X))[:most]
    X, y = loaded.X[chosen].astype(np.float64), np.asarray(loaded.y)[chosen]
    if X.ndim > 2:
        return X, y
    spread = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0), y


def _numbers(name: str, text: str, kind: type[int] | type[float]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise InvalidInputError(
            f"{name} is {text!r}; expected {what} with commas between them."
        ) from error


def _check_files(
    json_file: Path | None, picture: Path | None, overwrite: bool, *inputs: str
) -> None:
    """Refuse files that must or could not be written, before anything is computed."""
    for option, file in (("--json", json_file), ("--picture", picture)):
        if file is not None and not place(file).parent.is_dir():
            raise InvalidInputError(
                f"{option} is {file}, but its folder does not exist: make it first."
            )
    if picture is not None and picture.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InvalidInputError(
            f"--picture is {picture}; expected a name that ends in .png, .svg or .pdf."
        )
    check_outputs(
        [Output("--json", json_file, NUMBERS), Output("--picture", picture, PICTURE)],
        [("what is read", text) for text in inputs],
        overwrite,
    )


def _save(figure: Any, path: Path) -> None:
    from kernreg.operators.store.disk import atomic

    kind = path.suffix[1:].lower()
    metadata = {"Software" if kind == "png" else "Creator": PICTURE_MARK}
    with atomic(place(path)) as draft:
        figure.savefig(draft, format=kind, dpi=150, metadata=metadata)
    stdout.print(f"wrote {path}", markup=False)


def _save_design(made: Any, path: Path) -> None:
    import torch

    from kernreg.plotting.style import COLOURS, new_axes

    figure, axes = new_axes()
    z = torch.linspace(-3.0, 3.0, 400, dtype=torch.float64)
    axes.plot(z, made.torch_activation()(z).detach(), color=COLOURS[0], linewidth=2)
    axes.set_xlabel("preactivation z")
    axes.set_ylabel(r"$\sigma(z)$")
    _save(figure, path)


def _write(path: Path | None, found: dict[str, Any]) -> None:
    """Results as JSON; what is not finite becomes null."""
    if path is None:
        return
    named = {"format": "kernreg-theory"} | found
    write_text(path, json.dumps(as_plain(named, nn.Layer), indent=1, allow_nan=False) + "\n")
    (stderr if is_stream(path) else stdout).print(f"wrote {path}", markup=False)
