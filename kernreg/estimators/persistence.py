"""Models as one file: arrays in the safetensors format, everything else as JSON in its header.

Nothing in such a file is code. A network that names Python functions is loaded on request only.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from safetensors import SafetensorError

from kernreg.estimators import state
from kernreg.estimators.checks import check_arrays
from kernreg.exceptions import InvalidInputError, ModelFileError, NetworkError
from kernreg.nn.bounds import check_bounds, functions_named
from kernreg.operators.inputs import check_device
from kernreg.operators.store.disk import atomic
from kernreg.operators.store.records import Changed, Damaged, parse, read_record, write_record

if TYPE_CHECKING:
    from kernreg.estimators.base import KernelModel

__all__ = ["MODELS", "load", "save"]

MODELS: dict[str, type[KernelModel]] = {}
"""Classes that files may hold, by name; the base of the estimators fills it."""

FORMAT = "kernreg-model"
VERSION = 3
# Version 2 has no scales, and version 1 no hash either.
_WITHOUT_SCALES, _WITHOUT_HASH = 2, 1


def save(model: KernelModel, path: str | os.PathLike[str]) -> None:
    """Write a fitted model to one file.

    The file is complete or absent: it is written beside its place and moved there at the end.

    Parameters
    ----------
    model : KernelRegressor or KernelClassifier
        A fitted model.
    path : path-like
        Name of the file; an existing file is replaced.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    InvalidInputError
        If a parameter or the class labels have no JSON form, or coefficients are NaN or infinite.
    NetworkError
        If the network cannot be read again: a function without an importable name, more than
        50,000 layers or 100 inside each other.
    OSError
        If the folder is missing or not writable.

    Notes
    -----
    Time and size are those of the training data, the coefficients and the solution that they are
    rounded from, ``8 n (d + 2 t)`` bytes in float64. The factor of the kernel matrix is not part of
    a model. A SHA-256 over everything finds damage when the file is read; it does not prove where
    a file comes from.
    """
    arrays, header = state.to_state(model)
    header = {"format": FORMAT, "version": VERSION, "kernreg": _version()} | header
    try:
        text = json.dumps(header, allow_nan=True)
        check_bounds(header["network"])
        check_bounds(header["fitted_network"])
        check_arrays(arrays)
    except NetworkError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"The model cannot be saved: {error}.") from error
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Cannot save to {target}: there is no folder {target.parent}.")
    try:
        with atomic(target) as draft:
            draft.touch()
            mode = draft.stat().st_mode
            write_record(draft, arrays, {"kernreg": text})
            draft.chmod(mode)  # safetensors makes its files private
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"Cannot save to {target}: {reason}. Nothing was written.") from error


def load(
    path: str | os.PathLike[str],
    expected: type[KernelModel] | None = None,
    *,
    trusted: bool = False,
) -> KernelModel:
    """Read a model that :func:`save` wrote.

    Parameters
    ----------
    path : path-like
        Name of the file.
    expected : class, optional
        The class that the caller wants, for example :class:`~kernreg.KernelRegressor`.
    trusted : bool, default=False
        Allow a network that names Python functions, as ``nn.Elementwise(fn)`` does: loading it
        imports them.

    Returns
    -------
    KernelModel
        The fitted model; its predictions are those of the saved one, bit for bit, unless it must
        compute elsewhere.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file is truncated, damaged, not a kernreg model, of another format version, holds
        another class than ``expected``, or names Python functions and is not ``trusted``.

    Warns
    -----
    UserWarning
        If the model computes on a GPU that is not there: it is given ``device="cpu"``. If it was
        written before files had a hash, so that damage cannot be noticed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> import kernreg
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    >>> model = kernreg.KernelRegressor().fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(pathlib.Path(folder) / "model.safetensors")
    ...     again = kernreg.load(pathlib.Path(folder) / "model.safetensors")
    >>> bool((again.predict(X) == model.predict(X)).all())
    True
    """
    header, arrays = _read(Path(path))
    cls = MODELS.get(str(header.get("class")))
    if cls is None:
        raise ModelFileError(
            f"{path} holds a model of class {header.get('class')!r}; this version of kernreg "
            f"knows {', '.join(sorted(MODELS))}."
        )
    if expected is not None and cls is not expected:
        raise ModelFileError(
            f"{path} holds a {cls.__name__}, not a {expected.__name__}; load it with "
            f"kernreg.load or {cls.__name__}.load."
        )
    functions = functions_named(header)
    if functions and not trusted:
        raise ModelFileError(
            f"The network in {path} uses the Python function {functions[0]}, which loading would "
            "import. If you trust the file, load it with trusted=True."
        )
    try:
        model = state.from_state(cls, arrays, header)
    except state.UnknownClassError as error:
        raise ModelFileError(f"Cannot load {path}: {error}.") from error
    except NetworkError as error:
        if functions:
            raise ModelFileError(f"Cannot load {path}: {error}") from error
        raise ModelFileError(f"{path} is damaged or was edited: {error!r}.") from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelFileError(f"{path} is damaged or was edited: {error!r}.") from error
    except RecursionError as error:
        raise ModelFileError(f"{path} is nested too deeply for a model.") from error
    _move_to_what_is_there(model)
    return model


def _move_to_what_is_there(model: KernelModel) -> None:
    """A model of a GPU that this machine lacks computes on the CPU."""
    if not str(model.device).startswith("cuda"):
        return
    try:
        check_device(model.device)
    except InvalidInputError:
        # Backends of a GPU would refuse to.
        backend = "auto" if model.backend in ("triton", "cuda") else model.backend
        warnings.warn(
            f"the model was saved with device={model.device!r}, which is not there: it computes on "
            "the CPU, where the last digits of predictions may differ; set_params(device=...) "
            "names another device",
            UserWarning,
            stacklevel=3,
        )
        model.set_params(device="cpu", backend=backend)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    if not path.is_file():
        stored = (path.parent / "zarr.json").is_file()
        other = f": `kernreg fit DATA --store {path.parent}` fits one from that tile store" * stored
        raise FileNotFoundError(f"There is no model file {path}{other}.")
    try:
        texts, arrays, hashed = read_record(path)
    except Changed as error:
        raise ModelFileError(f"{path} is damaged: {error}.") from error
    except Damaged as error:
        raise ModelFileError(f"{path} is not a kernreg model, or it is truncated.") from error
    if "kernreg" not in texts:
        raise ModelFileError(f"{path} is a safetensors file but not a kernreg model.")
    try:
        header = parse(texts["kernreg"])
    except Damaged as error:
        raise ModelFileError(f"{path} has a damaged header: {error}.") from error
    _check_header(path, header)
    if not hashed and header["version"] != _WITHOUT_HASH:
        raise ModelFileError(f"{path} is damaged or was edited: it has no hash.")
    if not hashed:
        warnings.warn(
            f"{path} was written before model files had a hash, damage would not be noticed: save "
            "the model again",
            UserWarning,
            stacklevel=3,
        )
    return header, arrays


def _check_header(path: Path, header: Any) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError(f"{path} is a safetensors file but not a kernreg model.")
    version = header.get("version")
    if isinstance(version, bool) or version not in (_WITHOUT_HASH, _WITHOUT_SCALES, VERSION):
        raise ModelFileError(
            f"{path} has format version {version!r} (written by kernreg "
            f"{header.get('kernreg')}); this version of kernreg, {_version()}, reads version "
            f"{VERSION}. Load it with the kernreg that wrote it."
        )


def _version() -> str:
    from kernreg import __version__

    return __version__
