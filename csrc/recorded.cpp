// Steps of a recorded row pass. Compiled without the engine's liberties: every step rounds as torch
// does, and guards ask for infinities and NaN.
#include <algorithm>
#include <cmath>

#include "kr_api.h"

namespace kr {
namespace {

template <class F> void each(int64_t n, double *out, F f) {
  for (int64_t i = 0; i < n; ++i) out[i] = f(i);
}

void run_step(const RowStep &step, double *file, int64_t n) {
  const double *a = file + step.a * n, *b = file + step.b * n, *c = file + step.c * n;
  double *out = file + step.dst * n;
  switch (RowOp(step.op)) {
    case RowOp::add: return each(n, out, [=](int64_t i) { return a[i] + b[i]; });
    case RowOp::sub: return each(n, out, [=](int64_t i) { return a[i] - b[i]; });
    case RowOp::mul: return each(n, out, [=](int64_t i) { return a[i] * b[i]; });
    case RowOp::div: return each(n, out, [=](int64_t i) { return a[i] / b[i]; });
    case RowOp::maximum: return each(n, out, [=](int64_t i) { return std::max(a[i], b[i]); });
    case RowOp::minimum: return each(n, out, [=](int64_t i) { return std::min(a[i], b[i]); });
    case RowOp::gt: return each(n, out, [=](int64_t i) { return double(a[i] > b[i]); });
    case RowOp::ge: return each(n, out, [=](int64_t i) { return double(a[i] >= b[i]); });
    case RowOp::lt: return each(n, out, [=](int64_t i) { return double(a[i] < b[i]); });
    case RowOp::le: return each(n, out, [=](int64_t i) { return double(a[i] <= b[i]); });
    case RowOp::eq: return each(n, out, [=](int64_t i) { return double(a[i] == b[i]); });
    case RowOp::where: return each(n, out, [=](int64_t i) { return a[i] != 0 ? b[i] : c[i]; });
    case RowOp::neg: return each(n, out, [=](int64_t i) { return -a[i]; });
    case RowOp::abs: return each(n, out, [=](int64_t i) { return std::fabs(a[i]); });
    case RowOp::isfinite: return each(n, out, [=](int64_t i) { return double(std::isfinite(a[i])); });
    case RowOp::count: return;
  }
}

}  // namespace

bool run_recorded(const RowJob &job) {
  for (int64_t k = 0; k < job.n_steps; ++k) run_step(job.steps[k], job.file, job.n);
  for (int64_t k = 0; k < job.n_guards; ++k) {
    const RowGuard &guard = job.guards[k];
    const double *found = job.file + guard.at * job.n;
    int64_t hold = std::count_if(found, found + job.n, [](double v) { return v != 0; });
    if ((guard.all ? hold == job.n : hold > 0) != bool(guard.outcome)) return false;
  }
  return true;
}

}  // namespace kr
