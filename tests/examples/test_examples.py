"""Every example runs in its short form and shows what it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib import pyplot

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """``run("name")`` gives what ``main`` returns, and checks text and picture."""

    def invoke(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
        spec.loader.exec_module(module)
        found = module.main(["--quick", "--out", str(tmp_path / "picture.png")])
        pyplot.close("all")
        assert len(capsys.readouterr().out.splitlines()) > 3
        # Axes and letters are grey, what is drawn is coloured.
        picture = matplotlib.image.imread(tmp_path / "picture.png")[..., :3]
        assert np.mean(np.ptp(picture, axis=2) > 0.1) > 1e-3
        return found

    return invoke


def test_all_are_tested():
    here = Path(__file__).read_text(encoding="utf-8")
    assert all(f'run("{path.stem}")' in here for path in EXAMPLES.glob("*.py"))


def test_signals_pass_at_criticality(run):
    found = run("criticality")
    norm, gradient, accuracy = found["critical"]
    # 1 / (1 + 2 K l) of the variance is left, 40 % for K = 0.01 and 100 layers, up to the scatter
    # of depth / width; gradients are of order 1.
    assert 0.2 < norm < 1
    assert 0.1 < gradient < 10
    assert found["small weights"][1] < 1e-6
    assert found["large weights"][1] > 1e3
    # Ten classes: 0.1 is chance, whose scatter on 1,000 images is 0.01; most of what a vanishing
    # gradient can learn in 60 steps is the class that is most frequent.
    assert accuracy > 0.5
    assert found["small weights"][2] < 0.3
    assert found["large weights"][2] < 0.3


def test_learning_curve_is_predicted(run):
    assert all(0.9 < ratio < 1.1 for ratio in run("learning_curve"))


def test_parity_is_learned_by_the_designed_activation(run):
    found = run("parity")
    share, wide_error, _, trained_error, right = found["designed"]
    relu = found["ReLU"]
    assert share > 0.9 > 10 * relu[0]
    assert wide_error < 0.6 < 2 * wide_error < relu[1]
    assert trained_error < 0.5 * relu[3]
    assert right > 0.9 > relu[4]


def test_fluctuations_follow_depth_over_width(run):
    for depth, width, expected, measured, error in run("depth_to_width"):
        # What the expansion leaves out is of relative order depth / width, times about 5.
        assert abs(measured - expected) < 4 * error + 5 * depth / width * expected


def test_alignment_does_not_rank_by_error(run):
    found = run("alignment")
    assert found["convolutional, averaged"][0] < found["fully connected"][0]
    assert found["convolutional, averaged"][1] < found["fully connected"][1]
    # Without the average alignment and error are those of the fully connected kernel, to a fifth.
    for flat, full in zip(found["convolutional, flat"], found["fully connected"], strict=True):
        assert flat == pytest.approx(full, rel=0.2)


def test_trained_networks_are_as_the_infinite_ensemble(run):
    mean, std, trained_mean, trained_std = run("ensemble")
    # 200 networks: four standard errors, and what width 512 leaves out.
    assert (abs(trained_mean - mean) < 4 * std / 200**0.5 + 0.06 * (abs(mean) + std)).all()
    assert (abs(trained_std / std - 1) < 4 / 400**0.5 + 0.1).all()
    assert (std[-1] < 0.2 * std[0]).all()


def test_intervals_hold_once_tuned(run):
    found = run("intervals")
    # 133 rows held out: two standard errors are 0.05 at level 0.9.
    levels = [0.5, 0.8, 0.9, 0.95]
    assert (abs(found["tuned"][:4] - levels) < 0.1).all()
    assert (abs(found["calibrated"][:4] - levels) < 0.1).all()
    assert (found["before"][:4] < np.array(levels) - 0.2).all()
    assert (found["tuned"][4:] > found["before"][4:] + 1).all()


def test_an_average_over_places_needs_the_fewest_images(run):
    found = run("images")
    # The scatter of an accuracy on 100 images is 0.05, of a difference 0.07.
    others = [scores[-1] for name, scores in found.items() if name != "convolutions, averaged"]
    assert found["convolutions, averaged"][-1] > max(others) + 0.1
    assert min(others) > 0.3


def test_learned_points_teach_more_than_random_digits(run):
    found = run("distillation")
    # Two standard errors of an accuracy of 0.95 on 360 digits are 0.023.
    assert found["100 learned points"] > found["100 random digits"] + 0.023


def test_scales_find_the_columns_that_matter(run):
    found = run("columns")
    assert found["one scale per column"] > found["plain kernel"] + 0.1


def test_optimisation_goes_below_its_first_values(run):
    found = run("optimisation")
    # The best of the eight points that it begins with is 5.3 above the minimum.
    assert found["network's posterior"] < 1.5


def test_deep_convolutions_train_at_criticality(run):
    found = run("deep_convolutions")
    critical, small, gaussian = found.values()
    assert critical[-1] < 0.5 * critical[0]
    assert abs(small[-1] / small[0] - 1) < 0.01
    # A hundred layers of independent weights leave some signal.
    assert gaussian[-1] > 0.9 * gaussian[0]


def test_errors_fall_with_the_width(run):
    widths, *errors, slopes = run("width").values()
    assert list(widths) == sorted(widths)
    assert all(e[-1] < 0.6 * e[0] for e in errors)
    # Four widths of a few networks each: the scatter of an error is a third, of a slope 0.2.
    assert all(-1.3 < slope < -0.25 for slope in slopes)


def test_a_module_of_ones_own(run):
    # Ten classes of 80 digits; two standard errors on 150 others are 0.08.
    assert min(run("own_module").values()) > 0.4


def test_the_kernel_after_training(run):
    found = run("after_kernel")
    assert found["kernel after training"] > found["network"] - 0.1


def test_phases_are_those_of_the_theory(run):
    found = run("phases")
    assert set(found["cosine"].phase.ravel()) <= {"ordered", "chaotic", "edge"}
    # ReLU without biases: critical at C_W = 2, beyond which variances have no fixed point.
    beyond = found["ReLU"].C_W > 2
    assert (found["ReLU"].phase[:, beyond] == "unbounded").all()
    assert not (found["ReLU"].phase[:, ~beyond] == "unbounded").any()


def test_leading_modes_hold_the_labels(run):
    found = run("matrices")
    shares = found.power.cumsum() / found.power.sum()
    assert shares[9] > 0.5 > shares[0]


def test_support_vectors_on_the_tangent_kernel(run):
    # One standard error of an accuracy on 2,000 rows is 0.006; noise leaves 0.93 or so.
    assert min(run("support_vectors").values()) > 0.88


def test_more_centres_come_near_the_full_model(run):
    found = run("centres")
    errors, (full, standard_error) = found["restricted"][:, 0], found["full"]
    assert (np.diff(errors) < 0).all()
    assert errors[-1] < 1.5 * full
    assert full > 1 - 3 * standard_error  # the noise
