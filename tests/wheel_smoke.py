"""Whether an installed wheel works: ``tools/wheel_test.py`` runs this in a clean environment.

It is copied beside nothing else, so that no file of the checkout can help.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import shutil
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "icx", "nvcc")


def without_a_compiler() -> None:
    """No name of a compiler leads anywhere, nor does what Python itself was built with."""
    own = [str(sysconfig.get_config_var(name) or "").split() for name in ("CC", "CXX")]
    names = {*COMPILERS, *(words[0] for words in own if words)}
    there = {name: shutil.which(name) for name in sorted(names)}
    assert not any(there.values()), there
    print(f"no compiler: {', '.join(there)} not found")


def command_line(version: str) -> None:
    """The program beside this Python."""
    program = Path(sys.executable).with_name("kernreg")

    def said(*arguments: str) -> str:
        return subprocess.run(
            [program, *arguments], capture_output=True, text=True, check=True
        ).stdout

    assert said("--version") == f"{version}\n", said("--version")
    text = said("--help")
    assert all(name in text for name in ("baseline", "fit", "predict", "gram", "doctor")), text
    print(f"kernreg --version: {version}; --help names the commands")


def kernels(compiled: bool) -> None:
    """The kernels of two orthogonal rows and of themselves, and which backend makes them."""
    import numpy as np

    from kernreg import KernelOperator, gram, nn

    X = np.eye(2)
    net = nn.serial(nn.Dense(), nn.Relu(), nn.Dense())
    operator = KernelOperator(net, X)
    assert operator.backend == ("cpu" if compiled else "reference"), operator
    # Inner products are 1/2 and 0. The first layer's dual of the angle pi/2 is 1 / (2 pi) times
    # 1/2, its derivative meets an inner product of 0; of a row itself both kernels halve.
    nngp, ntk = gram(net, X, kernel=("nngp", "ntk"))
    across = 1 / (4 * math.pi)
    np.testing.assert_allclose(nngp, [[0.25, across], [across, 0.25]], rtol=0, atol=1e-10)
    np.testing.assert_allclose(ntk, [[0.5, across], [across, 0.5]], rtol=0, atol=1e-10)
    many = np.random.default_rng(0).standard_normal((40, 7))
    tanh = nn.mlp(depth=3, activation=nn.Tanh())
    K = gram(tanh, many)
    exact = gram(tanh, many, backend="reference")
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert np.abs((K - exact) / scale).max() <= 1e-10
    print(f"gram on {operator.backend}: 1 / (4 pi) is {nngp[0, 1]:.15f}")


def estimators() -> None:
    """A fit whose predictions pass through its labels, and that knows what lies between."""
    import numpy as np

    from kernreg import KernelRegressor, load, nn

    X = np.linspace(-1, 1, 20)[:, None]
    y = np.sin(3 * X[:, 0])
    model = KernelRegressor(nn.mlp(depth=2), alpha=1e-6).fit(X, y)
    assert np.abs(model.predict(X) - y).max() < 1e-2
    between = np.array([[0.5]])
    assert abs(model.predict(between)[0] - math.sin(1.5)) < 1e-2
    model.save("one.model")
    assert load("one.model").predict(between) == model.predict(between)
    print("fit, predict, save and load")


def files() -> None:
    """What is read at run time, and what type checkers look for."""
    import kernreg
    from kernreg.backends.cuda.source import csrc

    package = Path(kernreg.__file__).parent
    assert "__global__" in csrc("cuda/gram.cuh")
    names = ["cuda/device.cuh", "cuda/steps.cuh", "cuda/product.cuh", "pair.inl", "vmath.inl"]
    assert all(csrc(name) == (package / "csrc" / name).read_text() for name in names)
    assert (package / "py.typed").exists()
    assert list((package / "report").rglob("*.j2")) or list((package / "report").rglob("*.html"))
    print(f"{len(names) + 1} files of csrc, templates of the report, py.typed")


def extension(wanted: bool) -> bool:
    """Whether it is there, which must be as wanted."""
    from kernreg.backends.cpu import load_extension

    module, reason = load_extension()
    assert (module is not None) == wanted, reason or "there is an extension in a wheel without one"
    if module is not None:
        file = Path(str(module.__file__)).resolve()
        assert Path(sysconfig.get_paths()["platlib"]).resolve() in file.parents, file
        print(f"extension: {file.name}, {', '.join(module.instruction_sets())}")
    return module is not None


def main() -> None:
    """All of it; the first thing that does not hold ends it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version")
    parser.add_argument("--without-extension", action="store_true")
    options = parser.parse_args()
    without_a_compiler()
    import kernreg

    installed = Path(sysconfig.get_paths()["purelib"]).resolve()
    assert installed in Path(kernreg.__file__).resolve().parents, kernreg.__file__
    assert importlib.metadata.version("kernreg") == kernreg.__version__ == options.version
    command_line(options.version)
    compiled = extension(not options.without_extension)
    with warnings.catch_warnings():
        # With the extension nothing may be slow or missing; without it kernreg says so.
        warnings.simplefilter("error" if compiled else "ignore")
        kernels(compiled)
        estimators()
    files()


if __name__ == "__main__":
    main()
