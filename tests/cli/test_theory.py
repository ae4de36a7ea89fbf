"""``kernreg theory``."""

from __future__ import annotations

import json

import matplotlib.image
import numpy as np
import pytest

from kernreg import nn
from kernreg.theory.criticality.critical_point import critical
from kernreg.theory.criticality.tuning import tune
from kernreg.theory.eigenlearning.curves import predict_learning_curve
from kernreg.theory.finite_width.one_input import coefficients
from kernreg.theory.inverse.design import activation_from_kernel


def numbers(path):
    return json.loads(path.read_text())


def is_picture(path):
    """Axes and letters are grey, what is drawn is coloured."""
    picture = matplotlib.image.imread(path)[..., :3]
    return np.mean(np.ptp(picture, axis=2) > 0.1) > 1e-3


def test_criticality_of_a_nonlinearity(run, tmp_path):
    files = ["--json", tmp_path / "a.json", "--picture", tmp_path / "a.png"]
    result = run("theory", "criticality", "Gelu()", *files)
    assert result.exit_code == 0
    assert "half-stable" in result.stdout
    assert "C_W = 1.983058257" in result.stdout
    found = numbers(tmp_path / "a.json")
    assert found["critical"]["C_b"] == critical(nn.Gelu()).C_b
    assert found["critical"]["sigma"] == "Gelu()"
    assert found["phase"] is None
    assert is_picture(tmp_path / "a.png")


def test_no_critical_point_is_an_answer(run):
    result = run("theory", "criticality", "Softplus()")
    assert result.exit_code == 0
    assert "class none" in result.stdout


def test_phase(run, tmp_path):
    options = ["--C-b", 0.05, "--C-W", 3, "--json", tmp_path / "a.json"]
    result = run("theory", "criticality", "Tanh()", *options)
    assert "chaotic at C_b = 0.05" in result.stdout
    assert numbers(tmp_path / "a.json")["phase"]["c_star"] == pytest.approx(0.299318, abs=1e-6)


def test_report_of_a_network(run, tmp_path):
    network = "mlp(depth=50, activation=Erf(), W_std=0.9, b_std=0.3)"
    result = run("theory", "criticality", network, "--json", tmp_path / "a.json")
    assert "too deep to train" in result.stdout
    found = numbers(tmp_path / "a.json")
    assert found["report"]["trains"] is False
    assert nn.from_json(found["tuned"]) == tune(nn.mlp(50, nn.Erf(), 0.9, 0.3))
    assert "critical: serial(Dense(), repeat(serial(Erf(), Dense(W_std=0.886" in result.stdout


def test_report_of_a_network_without_a_critical_point(run, tmp_path):
    files = ["--json", tmp_path / "a.json"]
    result = run("theory", "criticality", "mlp(depth=3, activation=Softplus())", *files)
    assert result.exit_code == 0
    assert "critical: none (" in result.stdout
    assert numbers(tmp_path / "a.json")["tuned"] is None


def test_a_half_stable_point_is_kept(run, tmp_path):
    run("theory", "finite-width", "Gelu()", "--draws", 0, "--json", tmp_path / "a.json")
    K = numbers(tmp_path / "a.json")["coefficients"]["K"]
    np.testing.assert_allclose(K, critical(nn.Gelu()).K, rtol=1e-9)


def test_finite_width(run, tmp_path):
    files = ["--json", tmp_path / "a.json", "--picture", tmp_path / "a.svg"]
    options = ["--depth", 2, "--width", 16, "--draws", 200]
    result = run("theory", "finite-width", "Relu()", *options, *files)
    assert result.exit_code == 0
    assert "200 networks of width 16:" in result.stdout
    expected = coefficients(nn.Relu(), 0.0, 2.0, 0.0, 2.0, 2, K1=2.0)
    assert numbers(tmp_path / "a.json")["coefficients"]["V"] == expected.V.tolist()
    assert (tmp_path / "a.svg").read_text().count("<path") > 5


def test_finite_width_of_a_network(run, tmp_path):
    options = ["--draws", 0, "--json", tmp_path / "a.json"]
    layers = "Dense(1.2, 0.3), Tanh(), Dense(1.2, 0.3), Tanh(), Dense(1.2, 0.3)"
    result = run("theory", "finite-width", f"serial({layers})", *options)
    assert result.exit_code == 0
    found = numbers(tmp_path / "a.json")
    variances = 0.3**2, 1.2**2
    expected = coefficients(nn.Tanh(), *variances, *variances, 2, K1=sum(variances))
    np.testing.assert_allclose(found["coefficients"]["B"], expected.B, rtol=1e-12)
    assert found["comparison"] is None


def test_learning_curve(run, tables, tmp_path):
    files = ["--json", tmp_path / "a.json", "--picture", tmp_path / "a.png"]
    options = ["--sizes", "10,20", "--trials", 2, "--network", "mlp(depth=1)", "--alpha", 0.1]
    result = run("theory", "learning-curve", "diabetes", "--max-rows", 60, *options, *files)
    assert result.exit_code == 0
    assert "predicted from the points" in result.stdout
    assert "measured in 2 trials" in result.stdout
    found = numbers(tmp_path / "a.json")
    assert found["predicted"]["n"] == [10, 20]
    assert is_picture(tmp_path / "a.png")
    labels = run("theory", "learning-curve", tables.rings, *options, "--trials", 0)
    assert labels.exit_code == 0
    assert "measured" not in labels.stdout


def test_learning_curve_is_that_of_python(run, tmp_path):
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = (y - y.mean()) / y.std()
    options = ["--sizes", "50", "--trials", 0, "--json", tmp_path / "a.json"]
    run("theory", "learning-curve", "diabetes", "--network", "mlp(depth=1)", *options)
    expected = predict_learning_curve(nn.mlp(depth=1), X, y, [50], 1e-3)
    found = numbers(tmp_path / "a.json")["predicted"]["test"]
    np.testing.assert_allclose(found, expected.test, rtol=1e-6)


def test_design(run, tmp_path):
    files = ["--json", tmp_path / "a.json", "--picture", tmp_path / "a.pdf"]
    result = run("theory", "design", "0,0.5,0,0.5", *files)
    assert "Hermite degree 3: error 0 at c = 1" in result.stdout
    made = activation_from_kernel([0.0, 0.5, 0.0, 0.5])
    assert nn.from_json(numbers(tmp_path / "a.json")["network"]) == made.network
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    deep = run("theory", "design", "mlp(depth=3)", "--kernel", "nngp", "--degree", 10)
    assert "nngp, one hidden layer, Hermite degree 10" in deep.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["criticality", "Tanh()", "--C-b", "0.1"], "--C-b and --C-W belong together"),
        (["criticality", "mlp(depth=2)", "--C-b", "1", "--C-W", "1"], "are for a nonlinearity"),
        (["criticality", "Tanhh()"], "Did you mean 'Tanh'"),
        (["criticality", "Tanh()", "--picture", "a.txt"], "ends in .png, .svg or .pdf"),
        (["criticality", "Tanh()", "--picture", "/no/such/a.png"], "its folder does not exist"),
        (["design", "0,-1"], "a_1"),
        (["design", "0,x"], "expected numbers with commas"),
        (["design", "0,1", "--degree", "3"], "--degree is for a network"),
        (["design", "0,1", "--json", "/no/such/a.json"], "its folder does not exist"),
        (["finite-width", "Dense()"], "a network with a hidden layer"),
        (["design", "0,1", "--kernel", "both"], "expected ntk or nngp"),
        (["finite-width", "Softplus()"], "no critical initialisation"),
        (["finite-width", "serial(Dense(2.0), Relu(), Dense(1.0))"], "layers are all alike"),
        (["learning-curve", "iris", "--sizes", "10,a"], "expected whole numbers"),
        (["learning-curve", "iris", "--trials", "1"], "expected 0, or at least 2"),
        (["learning-curve", "iris", "--sizes", "150"], "150"),
    ],
)
def test_bad_arguments(arguments, message, refused):
    assert message in refused("theory", *arguments)


def test_evolve(run, tmp_path):
    files = ["--json", tmp_path / "a.json", "--picture", tmp_path / "a.png"]
    options = ["--width", 16, "--steps", 20, "--max-rows", 120]
    result = run("theory", "evolve", "iris", *options, *files)
    assert result.exit_code == 0, result.output
    assert "kernel after training" in result.stdout
    found = numbers(tmp_path / "a.json")
    assert found["measure"] == "accuracy"
    assert set(found["scores"]) == {"kernel before training", "kernel after training", "network"}
    assert found["snapshots"][0]["movement"] == 0.0 < found["snapshots"][-1]["movement"]
    assert is_picture(tmp_path / "a.png")
    again = run("theory", "evolve", "iris", *options, "--json", tmp_path / "b.json")
    assert again.exit_code == 0
    assert numbers(tmp_path / "b.json")["scores"] == found["scores"]


def test_evolve_of_numbers(run):
    result = run("theory", "evolve", "diabetes", "--width", 16, "--steps", 10, "--max-rows", 80)
    assert result.exit_code == 0, result.output
    assert "R2" in result.stdout


def test_evolve_refuses(run):
    result = run("theory", "evolve", "iris", "--network", "cnn(depth=1)")
    assert result.exit_code == 2
    assert "images" in result.stderr
