"""Tiles of kernel matrices on a GPU: Gram matrices, and products that never store a tile.

``PROGRAM`` is the generated kernel program, called on a tile of pairs. Rows that a tile reaches
beyond the matrix are read as its last row and never written. Tiles begin at 64-bit addresses;
inside a tile 32 bits do, which saves registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["gram", "multiply"]

_SIZES = ["n", "m", "shift", "ldx", "ldy", "ld0", "ld1", "columns"]


@triton.jit
def _dot(a, b, total, PRECISION: tl.constexpr):
    """``total + a @ b``."""
    return tl.dot(a, b, total, input_precision=PRECISION, out_dtype=total.dtype)


@triton.jit
def _entries(
    X, Y, TX, TY, consts, i, j, d, ldx, ldy, same, near,
    PROGRAM: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Correlation and tau of a tile at the output of the network.

    ``i`` and ``j`` are numbers of rows of X and Y; where ``i - j == same`` they are the same row.
    """
    k = tl.arange(0, BK)
    left = X + (i * d)[:, None] + k[None, :]
    right = Y + (j * d)[None, :] + k[:, None]
    rho = tl.zeros((BM, BN), X.dtype.element_ty)
    for k0 in range(0, d, BK):
        a = tl.load(left + k0, mask=k[None, :] < d - k0, other=0.0)
        b = tl.load(right + k0, mask=k[:, None] < d - k0, other=0.0)
        rho = _dot(a, b, rho, PRECISION)
    gap = tl.maximum(1.0 - tl.abs(rho), 0.0)
    apart = tl.where(i[:, None] - j[None, :] == same, 1.0, gap)
    if tl.min(tl.min(apart, 1), 0) < near:
        # The gap of close pairs is lost in rounding; half their squared distance has it.
        sign = tl.where(rho > 0, 1.0, -1.0).to(rho.dtype)
        squares = tl.zeros((BM, BN), rho.dtype)
        for k1 in range(d):
            distance = tl.load(X + i * d + k1)[:, None] - sign * tl.load(Y + j * d + k1)[None, :]
            squares += distance * distance
        exact = 0.5 * squares
        rho = tl.where(gap < near, sign * (1.0 - exact), rho)
        gap = tl.where(gap < near, exact, gap)
    return PROGRAM(rho, gap, tl.zeros_like(rho), TX, TY, ldx, ldy, i, j, consts)


@triton.jit
def _triangle(tile, PER_ROW: tl.constexpr):
    """Row and column of a tile of the lower triangle; row i has ``(i + 1) * PER_ROW`` tiles."""
    square = tile // PER_ROW
    row = ((tl.sqrt(8.0 * square.to(tl.float64) + 1.0) - 1.0) * 0.5).to(tl.int64)
    # The root may be off by one where it is close to a whole number.
    row = tl.where(row * (row + 1) // 2 > square, row - 1, row)
    row = tl.where((row + 1) * (row + 2) // 2 <= square, row + 1, row)
    return row, tile - PER_ROW * (row * (row + 1) // 2)


@triton.jit(do_not_specialize=_SIZES)
def gram(
    X, Y, TX, TY, SX, SY, consts, D0, D1, OUT0, OUT1,
    n, m, d, shift, ldx, ldy, ld0, ld1, near,
    PROGRAM: tl.constexpr, PRECISION: tl.constexpr, HALF: tl.constexpr,
    NNGP: tl.constexpr, NTK: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """A part of a kernel matrix, ``OUT0`` the NNGP and ``OUT1`` the NTK of the same pass.

    Row i of X is row ``i + shift`` of Y (``shift >= m`` if they are different data); these entries
    come from ``D0`` and ``D1``. With ``HALF`` the part is a symmetric matrix, of which only tiles
    on and below the diagonal are worked out.
    """
    tile = tl.program_id(0).to(tl.int64)
    if HALF:
        tile_row, tile_column = _triangle(tile, BM // BN)
        if tile_column * BN >= m:
            return
    else:
        tile_row, tile_column = tile // tl.cdiv(m, BN), tile % tl.cdiv(m, BN)
    row, column = tl.arange(0, BM), tl.arange(0, BN)
    rows = (n - tile_row * BM).to(tl.int32)
    columns = (m - tile_column * BN).to(tl.int32)
    i, j = tl.minimum(row, rows - 1), tl.minimum(column, columns - 1)
    same = (tile_column * BN - tile_row * BM - shift).to(tl.int32)
    first_row, first_column = tile_row * BM, tile_column * BN
    SX += first_row
    SY += first_column
    rho, tau = _entries(
        X + first_row * d, Y + first_column * d, TX + first_row, TY + first_column, consts,
        i, j, d, ldx, ldy, same, near, PROGRAM, PRECISION, BM, BN, BK,
    )  # fmt: skip
    scale = tl.load(SX + i)[:, None] * tl.load(SY + j)[None, :]
    if NNGP:
        _store(OUT0, scale * rho, D0, first_row, first_column, rows, columns, same, ld0, HALF)
    if NTK:
        _store(OUT1, scale * tau, D1, first_row, first_column, rows, columns, same, ld1, HALF)


@triton.jit
def _store(OUT, value, D, first_row, first_column, rows, columns, same, ld, HALF: tl.constexpr):
    BM: tl.constexpr = value.shape[0]
    BN: tl.constexpr = value.shape[1]
    row, column = tl.arange(0, BM)[:, None], tl.arange(0, BN)[None, :]
    wanted = (row < rows) & (column < columns)
    value = value.to(OUT.dtype.element_ty)
    if same > -BN and same < BM:
        exact = tl.load(D + first_row + tl.minimum(row, rows - 1))
        value = tl.where(row - column == same, exact.to(value.dtype), value)
    if HALF:
        wanted = wanted & (row - column >= same)
        mirror = OUT + (first_column * ld + first_row)
        tl.store(mirror + (column * ld + row), value, mask=wanted)
    tl.store(OUT + (first_row * ld + first_column) + (row * ld + column), value, mask=wanted)


@triton.jit(do_not_specialize=_SIZES)
def multiply(
    X, Y, TX, TY, SX, SY, consts, D, V, OUT,
    n, m, d, shift, ldx, ldy, columns, near,
    PROGRAM: tl.constexpr, PRECISION: tl.constexpr, HALF: tl.constexpr, NTK: tl.constexpr,
    BT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """``K @ V`` without storing K; V has ``columns`` columns, at most ``BT``.

    Programs along the second axis share the columns of K, and each writes a sum of its own. With
    ``HALF`` K is symmetric, and a tile below the diagonal serves ``K V`` and, by its mirror image,
    other rows of the same product: all are added to one ``OUT``.
    """
    tile_row = tl.program_id(0)
    if HALF:
        # The longest rows start first.
        tile_row = tl.num_programs(0) - 1 - tile_row
    first_row = tile_row.to(tl.int64) * BM
    rows = (n - first_row).to(tl.int32)
    row, column, t = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BT)
    i = tl.minimum(row, rows - 1)
    X += first_row * d
    TX += first_row
    D += first_row
    si = tl.load(SX + first_row + i)
    total = tl.zeros((BM, BT), V.dtype.element_ty)
    in_rows = (row < rows)[:, None] & (t < columns)[None, :]
    tiles = tl.cdiv(m, BN)
    if HALF:
        tiles = tl.minimum(tiles, tl.cdiv((tile_row + 1) * BM, BN))
    for tile in range(tl.program_id(1), tiles, tl.num_programs(1)):
        first_column = tile * tl.full((), BN, tl.int64)
        live = (m - first_column).to(tl.int32)
        j = tl.minimum(column, live - 1)
        same = (first_column - first_row - shift).to(tl.int32)
        rho, tau = _entries(
            X, Y + first_column * d, TX, TY + first_column, consts,
            i, j, d, ldx, ldy, same, near, PROGRAM, PRECISION, BM, BN, BK,
        )  # fmt: skip
        value = tau if NTK else rho
        value = value * si[:, None] * tl.load(SY + first_column + j)[None, :]
        if same > -BN and same < BM:
            exact = tl.load(D + i).to(value.dtype)[:, None]
            value = tl.where(row[:, None] - column[None, :] == same, exact, value)
        in_columns = (column < live)[:, None] & (t < columns)[None, :]
        at = (j * columns)[:, None] + t[None, :]
        if HALF:
            below = tl.where(row[:, None] - column[None, :] > same, value, 0.0)
            u = tl.load(V + first_row * columns + (i * columns)[:, None] + t[None, :],
                        mask=in_rows, other=0.0)  # fmt: skip
            mirrored = _dot(tl.trans(below), u, tl.zeros((BN, BT), value.dtype), PRECISION)
            tl.atomic_add(
                OUT + first_column * columns + at, mirrored, mask=in_columns, sem="relaxed"
            )
            value = tl.where(row[:, None] - column[None, :] >= same, value, 0.0)
        v = tl.load(V + first_column * columns + at, mask=in_columns, other=0.0)
        total = _dot(value, v, total, PRECISION)
    at = first_row * columns + (i * columns)[:, None] + t[None, :]
    if HALF:
        tl.atomic_add(OUT + at, total, mask=in_rows, sem="relaxed")
    else:
        share = tl.program_id(1).to(tl.int64) * n * columns
        tl.store(OUT + share + at, total, mask=in_rows)
