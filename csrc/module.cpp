// The Python face of the engine: checks shapes and hands over pointers.
#include <dlfcn.h>
#include <pthread.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "generated/signatures.inl"
#include "kr_api.h"

namespace py = pybind11;
using kr::Instr;
using kr::Job;

namespace {

std::vector<std::string> instruction_sets() {
  std::vector<std::string> out;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    out.push_back("avx512");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out.push_back("avx2");
#endif
  out.push_back("baseline");
  return out;
}

kr::Kernels kernels(const std::string &isa) {
#if defined(__x86_64__)
  if (isa == "avx512") return kr::avx512_kernels();
  if (isa == "avx2") return kr::avx2_kernels();
#endif
  return kr::baseline_kernels();
}

// Torch's OpenMP threads, if it has loaded them for everybody: after a matrix product they spin
// for milliseconds, and would take the cores from threads of our own. A forked process has none of
// them, so a fork first sends them away, and starts its own where that is not possible.
kr::Parallel torch_threads() {
  static std::atomic<bool> lost{false}, away{false};
  static auto pause = reinterpret_cast<int (*)(int)>(dlsym(RTLD_DEFAULT, "omp_pause_resource_all"));
  static auto found = [] {
    pthread_atfork([] { away = pause && pause(2) == 0; }, nullptr, [] { lost = !away; });
    return reinterpret_cast<kr::Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  }();
  return lost ? nullptr : found;
}

using Array = py::array;

// Rows as an array (n, d), or sparse ones as (values, starts, features, d).
struct Rows {
  Array X;
  py::array_t<int64_t, py::array::c_style> start;
  py::array_t<int32_t, py::array::c_style> index;
  int64_t n, d;
  bool sparse;
  explicit Rows(const py::object &given) : sparse(py::isinstance<py::tuple>(given)) {
    if (sparse) {
      auto parts = py::cast<py::tuple>(given);
      X = py::cast<Array>(parts[0]);
      start = py::cast<decltype(start)>(parts[1]);
      index = py::cast<decltype(index)>(parts[2]);
      d = py::cast<int64_t>(parts[3]);
      n = start.size() - 1;
      check();
    } else {
      X = py::cast<Array>(given);
      if (X.ndim() != 2) throw std::invalid_argument("rows are a matrix");
      n = X.shape(0);
      d = X.shape(1);
    }
    if (!(X.flags() & py::array::c_style)) throw std::invalid_argument("arrays must be C-contiguous");
  }
  void check() const {
    const int64_t *s = start.data();
    bool fits = X.ndim() == 1 && start.ndim() == 1 && n >= 0 && s[0] == 0 &&
                std::is_sorted(s, s + n + 1) && s[n] == X.size() && index.size() == X.size();
    for (int64_t i = 0; fits && i < n; ++i)
      for (int64_t k = s[i]; fits && k < s[i + 1]; ++k)
        fits = index.data()[k] < d && index.data()[k] > (k > s[i] ? index.data()[k - 1] : -1);
    if (!fits) throw std::invalid_argument("malformed sparse rows");
  }
};

kr::Side side(const Rows &rows, const Array &table, const py::array_t<double> &scale) {
  if (table.ndim() != 2 || scale.ndim() != 1 || scale.shape(0) != rows.n ||
      (table.shape(0) > 0 && table.shape(1) != rows.n))
    throw std::invalid_argument("rows, tables and scales do not belong together");
  if (!(table.flags() & py::array::c_style))
    throw std::invalid_argument("arrays must be C-contiguous");
  return {rows.X.data(), table.data(), scale.data(), rows.n, rows.n,
          rows.sparse ? rows.start.data() : nullptr, rows.sparse ? rows.index.data() : nullptr};
}

using Code = py::array_t<int32_t, py::array::c_style>;
using Reals = py::array_t<double, py::array::c_style>;

const Instr *instructions(const Code &code) {
  if (code.ndim() != 2 || code.shape(1) != 8) throw std::invalid_argument("malformed instructions");
  return reinterpret_cast<const Instr *>(code.data());
}

// Code, constants and tables of both sides for close pairs; they must live as long as the job.
struct FineParts {
  Code code;
  Reals consts, table_rows, table_cols;
  kr::Fine fine{};
  FineParts(const py::object &given, const Job &job) {
    if (given.is_none()) return;
    auto parts = py::cast<py::tuple>(given);
    if (parts.size() != 4) throw std::invalid_argument("malformed job of close pairs");
    code = py::cast<Code>(parts[0]);
    consts = py::cast<Reals>(parts[1]);
    table_rows = py::cast<Reals>(parts[2]);
    table_cols = py::cast<Reals>(parts[3]);
    check(table_rows, job.rows.n);
    check(table_cols, job.cols.n);
    fine = {instructions(code), code.shape(0), consts.data(), table_rows.data(), table_cols.data()};
  }
  static void check(const Reals &table, int64_t n) {
    if (table.ndim() != 2 || (table.shape(0) > 0 && table.shape(1) != n))
      throw std::invalid_argument("rows and tables of close pairs do not belong together");
  }
};

void fill(const std::string &isa, const py::object &X1, const Array &table1,
          const py::array_t<double> &scale1, const py::object &X2, const Array &table2,
          const py::array_t<double> &scale2, bool symmetric, double near,
          const Code &code, const Reals &consts, const std::vector<py::object> &outs,
          const py::array_t<double> &diagonal_nngp, const py::array_t<double> &diagonal_ntk,
          std::vector<int64_t> part, int threads, const py::object &close) {
  Job job{};
  Rows first(X1), second(X2);
  job.rows = side(first, table1, scale1);
  job.cols = side(second, table2, scale2);
  job.d = first.d;
  if (second.d != job.d || first.sparse != second.sparse || part.size() != 4 ||
      outs.size() > kr::kOutputs)
    throw std::invalid_argument("malformed job");
  job.i0 = part[0]; job.i1 = part[1]; job.j0 = part[2]; job.j1 = part[3];
  if (job.i0 < 0 || job.j0 < 0 || job.i0 > job.i1 || job.j0 > job.j1 || job.i1 > job.rows.n ||
      job.j1 > job.cols.n)
    throw std::invalid_argument("part lies outside the matrix");
  job.symmetric = symmetric;
  job.near = near;
  job.code = instructions(code);
  job.n_code = code.shape(0);
  job.consts = consts.data();
  job.n_consts = consts.size();
  FineParts fine(close, job);
  job.fine = fine.fine;
  job.threads = threads < 1 ? 1 : threads;
  job.parallel = torch_threads();
  job.diagonal[0] = diagonal_nngp.data();
  job.diagonal[1] = diagonal_ntk.data();
  bool wide = false;
  for (size_t m = 0; m < outs.size(); ++m) {
    if (outs[m].is_none()) continue;
    Array out = py::cast<Array>(outs[m]);
    if (!out.writeable() || out.ndim() != 2 || out.shape(0) != job.i1 - job.i0 ||
        out.shape(1) != job.j1 - job.j0 || out.strides(1) != out.itemsize())
      throw std::invalid_argument("output must be writeable, of the part's shape, rows contiguous");
    job.out[m] = out.mutable_data();
    job.ld_out[m] = out.strides(0) / out.itemsize();
    wide = out.itemsize() == 8;
  }
  kr::Kernels k = kernels(isa);
  int64_t itemsize = first.X.itemsize();
  bool in_double = itemsize == 8;
  if (second.X.itemsize() != itemsize || (!in_double && wide) ||
      (table1.size() > 0 && table1.itemsize() != itemsize) ||
      (table2.size() > 0 && table2.itemsize() != itemsize))
    throw std::invalid_argument("types do not fit");
  void (*run)(const Job &) = !in_double ? k.in_float : wide ? k.in_double : k.in_double_to_float;
  py::gil_scoped_release release;
  run(job);
}

using Numbers = py::array_t<int64_t, py::array::c_style>;

// Tables of every stage: arrays (images, slots, length of a table) of one type.
struct Tables {
  std::vector<const void *> table;
  std::vector<int64_t> slots;
  kr::PlaneSide side{};
  Tables(const std::vector<Array> &arrays, const kr::PlaneStage *stages, int64_t itemsize) {
    for (size_t k = 0; k < arrays.size(); ++k) {
      const Array &a = arrays[k];
      if (a.ndim() != 3 || !(a.flags() & py::array::c_style) || a.itemsize() != itemsize ||
          a.shape(2) != stages[k].table() || (k > 0 && a.shape(0) != arrays[0].shape(0)))
        throw std::invalid_argument("tables of planes must be (images, slots, length of a table)");
      table.push_back(a.data());
      slots.push_back(a.shape(1));
    }
    side = {table.data(), slots.data(), arrays[0].shape(0)};
  }
};

void planes(const std::string &isa, const std::vector<Array> &rows, const std::vector<Array> &cols,
            const Numbers &stages, const py::array_t<int32_t, py::array::c_style> &code,
            const Reals &consts, const Numbers &numbers, const Numbers &shifts,
            std::vector<int64_t> part, int64_t mode, py::object readouts, py::object still, int threads) {
  kr::PlaneJob job{};
  static_assert(sizeof(kr::PlaneStage) == 11 * sizeof(int64_t));
  if (rows.empty() || rows.size() != cols.size() || part.size() != 4 || stages.ndim() != 2 ||
      stages.shape(0) != int64_t(rows.size()) || stages.shape(1) != 11 || code.ndim() != 2 ||
      code.shape(1) != 8 || shifts.ndim() != 2 || shifts.shape(1) != 2)
    throw std::invalid_argument("malformed job of planes");
  job.stages = reinterpret_cast<const kr::PlaneStage *>(stages.data());
  job.n_stages = stages.shape(0);
  int64_t itemsize = rows[0].itemsize();
  Tables first(rows, job.stages, itemsize), second(cols, job.stages, itemsize);
  job.rows = first.side;
  job.cols = second.side;
  job.i0 = part[0]; job.i1 = part[1]; job.j0 = part[2]; job.j1 = part[3];
  job.mode = mode;
  if (job.i0 < 0 || job.j0 < 0 || job.i0 > job.i1 || job.j0 > job.j1 || job.i1 > job.rows.n ||
      job.j1 > job.cols.n)
    throw std::invalid_argument("part lies outside the matrix");
  int64_t wide = mode == kr::same_image ? 1 : job.j1 - job.j0, pairs = (job.i1 - job.i0) * wide;
  job.code = reinterpret_cast<const Instr *>(code.data());
  job.consts = consts.data();
  job.n_consts = consts.size();
  job.numbers = numbers.data();
  job.planes = shifts.data();
  job.threads = threads < 1 ? 1 : threads;
  job.parallel = torch_threads();
  if (!readouts.is_none()) {
    Reals out = py::cast<Reals>(readouts);
    if (out.ndim() != 3 || out.shape(0) != pairs || out.shape(2) != 2)
      throw std::invalid_argument("readouts must be (pairs, readouts, 2)");
    job.readouts = out.mutable_data();
    job.n_readouts = out.shape(1);
  }
  if (!still.is_none()) {
    Reals out = py::cast<Reals>(still);
    const kr::PlaneStage &last = job.stages[job.n_stages - 1];
    if (out.ndim() != 3 || out.shape(0) != pairs || out.shape(1) != last.landed ||
        out.shape(2) != last.cells())
      throw std::invalid_argument("room for undisplaced planes must be (images, landed, cells)");
    job.still = out.mutable_data();
  }
  kr::Kernels k = kernels(isa);
  void (*run)(const kr::PlaneJob &) = itemsize == 8 ? k.planes_in_double : k.planes_in_float;
  py::gil_scoped_release release;
  run(job);
}

using Ints = py::array_t<int32_t, py::array::c_style>;

bool run_rows(Reals file, const Ints &steps, const Ints &guards) {
  static_assert(sizeof(kr::RowStep) == 5 * sizeof(int32_t));
  static_assert(sizeof(kr::RowGuard) == 3 * sizeof(int32_t));
  if (file.ndim() != 2 || steps.ndim() != 2 || steps.shape(1) != 5 || guards.ndim() != 2 ||
      guards.shape(1) != 3)
    throw std::invalid_argument("malformed row pass");
  auto inside = [&](int64_t k) { return 0 <= k && k < file.shape(0); };
  for (int64_t k = 0; k < steps.shape(0); ++k) {
    const int32_t *step = steps.data(k);
    if (step[0] < 0 || step[0] >= int32_t(kr::RowOp::count) ||
        !std::all_of(step + 1, step + 5, inside))
      throw std::invalid_argument("malformed step of a row pass");
  }
  for (int64_t k = 0; k < guards.shape(0); ++k)
    if (!inside(*guards.data(k))) throw std::invalid_argument("malformed guard of a row pass");
  kr::RowJob job{};
  job.file = file.mutable_data();
  job.n = file.shape(1);
  job.steps = reinterpret_cast<const kr::RowStep *>(steps.data());
  job.n_steps = steps.shape(0);
  job.guards = reinterpret_cast<const kr::RowGuard *>(guards.data());
  job.n_guards = guards.shape(0);
  return kr::run_recorded(job);
}

void multiply_half(const std::string &isa, const Array &panel, int64_t i0, const Reals &source,
                   Reals target, int threads) {
  kr::HalfJob job{};
  if (panel.ndim() != 2 || source.ndim() != 2 || target.ndim() != 2)
    throw std::invalid_argument("a panel and vectors have two axes");
  job.i0 = i0;
  job.i1 = i0 + panel.shape(0);
  job.vectors = source.shape(0);
  job.n = source.shape(1);
  if (panel.strides(1) != panel.itemsize() || i0 < 0 || panel.shape(1) != job.i1 || job.i1 > job.n ||
      target.shape(0) != job.vectors || target.shape(1) != job.n)
    throw std::invalid_argument("a panel has rows up to the diagonal, and vectors the order of the matrix");
  job.panel = panel.data();
  job.ld = panel.strides(0) / panel.itemsize();
  job.source = source.data();
  job.target = target.mutable_data();
  job.threads = threads < 1 ? 1 : threads;
  job.parallel = torch_threads();
  kr::Kernels k = kernels(isa);
  void (*run)(const kr::HalfJob &) = panel.itemsize() == 8 ? k.half_of_doubles : k.half_of_floats;
  py::gil_scoped_release release;
  run(job);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Tile engine of the cpu backend.";
  torch_threads();  // before anything forks
  m.def("instruction_sets", &instruction_sets, "Those this machine can run, best first.");
  m.def("signatures", [] { return std::vector<std::string>(std::begin(kSignatures), std::end(kSignatures)); },
        "Signatures of the generated duals, by number.");
  m.def("slopes", [] { return std::vector<std::string>(std::begin(kSlopesSignatures), std::end(kSlopesSignatures)); },
        "Signatures of those with derivatives.");
  m.attr("REGISTERS") = kr::kRegisters;
  m.attr("BLOCK") = kr::kBlock;
  m.attr("ANGLE_TERMS") = kr::kAngleTerms;
  m.attr("MAX_NODES") = kr::kMaxNodes;
  m.attr("INSTRUCTIONS") = int(kr::kInstructions);
  m.attr("PLANES") = kr::kPlanes;
  m.attr("LANDED") = kr::kLanded;
  m.def("fill", &fill, "Fill part of a kernel matrix.");
  m.def("planes", &planes, "Work out spatial kernels of pairs of images.");
  std::vector<std::string> row_ops;
#define KR_NAME(name) row_ops.push_back(#name);
  KR_ROW_OPS(KR_NAME)
#undef KR_NAME
  m.attr("ROW_OPS") = row_ops;
  m.def("run_rows", &run_rows, "Run steps of a recorded row pass.");
  m.def("multiply_half", &multiply_half, "Add what a panel of a symmetric matrix gives to a product.");
}
