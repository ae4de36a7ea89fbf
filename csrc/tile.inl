// Fills part of a kernel matrix, tile by tile, on several threads.

constexpr int TI = KR_MR * (96 / KR_MR), TJ = kBlock;

// Sum of (a - sign b)^2 / 2, added in U: the gap of two unit vectors without cancellation.
template <class T, class U> inline U half_distance(const T *a, const T *b, int64_t d, U sign) {
  U total[16] = {0};
  int64_t k = 0;
  for (; k + 16 <= d; k += 16)
    for (int l = 0; l < 16; ++l) {
      U t = U(a[k + l]) - sign * U(b[k + l]);
      total[l] += t * t;
    }
  U sum = 0;
  for (; k < d; ++k) {
    U t = U(a[k]) - sign * U(b[k]);
    sum += t * t;
  }
  for (int l = 0; l < 16; ++l) sum += total[l];
  return U(0.5) * sum;
}

struct Scratch {
  std::vector<char> memory;
  size_t used = 0;
  explicit Scratch(size_t bytes) : memory(bytes + 4096) {}
  template <class U> U *take(size_t count) {
    used = (used + 63) & ~size_t(63);
    size_t base = (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    U *p = reinterpret_cast<U *>(memory.data() + base + used);
    used += count * sizeof(U);
    return p;
  }
};

template <class T, class O> struct Filler {
  const Job &job;
  const T *consts;
  static constexpr int kDepth = 512;               // inner dimension per pass of the GEMM
  static constexpr int64_t kPacked = 32 * kDepth;  // columns longer than this are packed by pass
  static constexpr int ld = TJ + 64 / sizeof(T);  // not a multiple of 1 KB: fewer cache clashes

  T *dots, *packed, *result[kOutputs];
  T (*regs)[kBlock];
  double (*fine)[kBlock];  // registers in double, where close pairs are worked out in it

  SparseStrip<T> sparse;
  int64_t features = 0;  // of the columns of a sparse strip

  // Numbers in the packed columns of a strip.
  static size_t packed_size(const Job &job) {
    int64_t deepest = job.rows.start ? kPacked : kDepth;
    return size_t(job.d <= kPacked ? job.d : deepest) * (TJ + NR<T>);
  }

  static size_t bytes(const Job &job) {
    return sizeof(T) * ((1 + kOutputs) * size_t(TI) * ld + packed_size(job) + size_t(kRegisters) * kBlock) +
           (job.fine.n_code ? sizeof(double) * size_t(kRegisters) * kBlock : 0) + (7 + kOutputs) * 64;
  }

  Filler(const Job &j, const T *c, Scratch &s)
      : job(j), consts(c), sparse(j.cols, j.cols.start ? j.d : 0) {
    dots = s.take<T>(size_t(TI) * ld);
    packed = s.take<T>(packed_size(job));
    for (T *&r : result) r = s.take<T>(size_t(TI) * ld);
    regs = registers<T>(s);
    fine = job.fine.n_code ? registers<double>(s) : nullptr;
  }

  template <class U> static U (*registers(Scratch &s))[kBlock] {
    U *first = s.take<U>(size_t(kRegisters) * kBlock);
    std::fill_n(first, size_t(kRegisters) * kBlock, U(0));
    return reinterpret_cast<U(*)[kBlock]>(first);
  }

  // Passes of equal length over the inner dimension.
  int pass() const {
    int64_t count = (job.d + kDepth - 1) / kDepth;
    return int((job.d + count - 1) / count);
  }

  const T *pack_columns(int64_t j, int cols, int64_t k0, int depth, T *to) {
    pack(static_cast<const T *>(job.cols.X) + j * job.d + k0, job.d, cols, depth, to);
    return to;
  }

  // Inner products of a row tile with the columns of a strip; `whole` says they are packed already.
  void inner_products(int64_t i, int rows, int64_t j, int cols, int live, bool whole) {
    const T *A = static_cast<const T *>(job.rows.X) + i * job.d;
    int64_t wide = (cols + NR<T> - 1) / NR<T> * NR<T>;
    for (int64_t k0 = 0; k0 < job.d; k0 += pass()) {
      int depth = int(k0 + pass() < job.d ? pass() : job.d - k0);
      const T *B = whole ? packed + k0 * wide : pack_columns(j, live, k0, depth, packed);
      multiply(A + k0, job.d, B, rows, live, depth, dots, ld, k0 > 0);
    }
  }

  void sparse_products(int64_t i, int rows, int64_t j, int live, bool whole) {
    for (int64_t k0 = 0; k0 == 0 || k0 < features; k0 += kPacked) {
      int64_t depth = features - k0 < kPacked ? features - k0 : kPacked;
      if (!whole) sparse.pack(j, live, k0, depth, packed);
      for (int r = 0; r < rows; ++r)
        sparse.multiply(job.rows, i + r, packed, live, k0, depth, dots + r * ld, k0 > 0);
    }
  }

  template <class U> U gap_by_difference(int64_t i, int64_t j, U sign) const {
    if (job.rows.start) return half_distance<T>(job.rows, i, job.cols, j, sign);
    const T *rows = static_cast<const T *>(job.rows.X), *columns = static_cast<const T *>(job.cols.X);
    return half_distance(rows + i * job.d, columns + j * job.d, job.d, sign);
  }

  // Returns whether some pairs are close.
  bool input(int64_t i, const T *dot, int64_t j, int n) {
    T *rho = regs[0], *gap = regs[1], *tau = regs[2];
    T near = T(job.near);
    int close = 0;
#pragma GCC ivdep
    for (int k = 0; k < n; ++k) {
      rho[k] = dot[k];
      gap[k] = max_(T(0), T(1) - abs_(dot[k]));
      tau[k] = T(0);
      close += gap[k] < near;
    }
    if (close == 0) return false;
    for (int k = 0; k < n; ++k)
      if (gap[k] < near) {
        T sign = rho[k] > T(0) ? T(1) : T(-1);
        gap[k] = gap_by_difference(i, j + k, sign);
        rho[k] = sign * (T(1) - gap[k]);
      }
    return true;
  }

  // Close pairs once more, in double. The columns from the first to the last of them are run, and
  // only what is close is taken, so that no pair depends on those beside it.
  void refine(int64_t i, const T *dot, int64_t j, int n) {
    bool close[kBlock];
    int first = n, last = 0;
    for (int k = 0; k < n; ++k) {
      close[k] = max_(T(0), T(1) - abs_(dot[k])) < T(job.near);
      if (close[k]) first = first < k ? first : k, last = k;
    }
    for (int k = first; k <= last; ++k) {
      double sign = dot[k] > T(0) ? 1.0 : -1.0;
      double gap = close[k] ? gap_by_difference(i, j + k, sign) : max_(0.0, 1.0 - abs_(double(dot[k])));
      fine[0][k - first] = sign * (1.0 - gap);
      fine[1][k - first] = gap;
      fine[2][k - first] = 0.0;
    }
    Machine<double> machine{job.fine.code, job.fine.n_code, job.fine.consts,
                            job.fine.table_rows, job.fine.table_cols,
                            job.rows.ld_table, job.cols.ld_table, fine,
                            job.out[0] != nullptr, job.out[1] != nullptr};
    machine.run(i, j + first, last - first + 1);
    for (int k = first; k <= last; ++k)
      for (int m = 0; close[k] && m < 3; ++m) regs[m][k] = T(fine[m][k - first]);
  }

  void tile(int64_t a, int rows, int64_t j, int cols) {
    Machine<T> machine{job.code, job.n_code, consts,
                       static_cast<const T *>(job.rows.table), static_cast<const T *>(job.cols.table),
                       job.rows.ld_table, job.cols.ld_table, regs,
                       job.out[0] != nullptr, job.out[1] != nullptr};
    for (int r = 0; r < rows; ++r) {
      int64_t i = a + r;
      int n = cols;
      if (job.symmetric && i - j + 1 < n) n = i - j + 1 > 0 ? int(i - j + 1) : 0;
      if (n == 0) continue;
      // A row with itself is known; it would only slow down the rows beside it.
      int others = job.symmetric && i - j < n ? int(i - j) : n;
      bool close = input(i, dots + r * ld, j, others);
      machine.run(i, j, others);
      if (close && fine) refine(i, dots + r * ld, j, others);
      double si = job.rows.scale[i];
      const double *sj = job.cols.scale + j;
      for (int m = 0; m < kOutputs; ++m) {
        if (!job.out[m]) continue;
        constexpr int place[kOutputs] = {0, 2, 1};  // correlation, tangent kernel, gap
        const T *value = regs[place[m]];
        T *to = result[m] + r * ld;
        if (sizeof(T) == sizeof(double)) {
          for (int k = 0; k < n; ++k) to[k] = T(si * sj[k]) * value[k];
        } else {
          T s = T(si);
          for (int k = 0; k < n; ++k) to[k] = s * T(sj[k]) * value[k];
        }
        if (job.symmetric && i - j < cols) to[i - j] = T(job.diagonal[m][i]);
      }
    }
    for (int m = 0; m < kOutputs; ++m)
      if (job.out[m]) store(static_cast<O *>(job.out[m]), job.ld_out[m], result[m], a, rows, j, cols);
  }

  void store(O *out, int64_t out_ld, const T *from, int64_t a, int rows, int64_t j, int cols) {
    for (int r = 0; r < rows; ++r) {
      int64_t i = a + r;
      int n = cols;
      if (job.symmetric && i - j + 1 < n) n = i - j + 1 > 0 ? int(i - j + 1) : 0;
      O *to = out + (i - job.i0) * out_ld + (j - job.j0);
      for (int k = 0; k < n; ++k) to[k] = O(from[r * ld + k]);
    }
    if (!job.symmetric) return;
    // The mirror image, where it falls into the part that was asked for.
    for (int k0 = 0; k0 < cols; k0 += 16) {
      int k1 = k0 + 16 < cols ? k0 + 16 : cols;
      for (int r = 0; r < rows; ++r) {
        int64_t i = a + r;
        if (i < job.j0 || i >= job.j1) continue;
        for (int k = k0; k < k1; ++k) {
          int64_t col = j + k;
          if (col >= i || col < job.i0 || col >= job.i1) continue;
          out[(col - job.i0) * out_ld + (i - job.j0)] = O(from[r * ld + k]);
        }
      }
    }
  }

  // Column tile j against row tiles in [a, b).
  void strip(int64_t j, int cols, int64_t a, int64_t b) {
    bool of_sparse = job.cols.start != nullptr;
    if (of_sparse) features = sparse.take(j, cols);
    bool whole = (of_sparse ? features : job.d) <= kPacked;
    int64_t wide = (cols + NR<T> - 1) / NR<T> * NR<T>;
    if (of_sparse && whole) sparse.pack(j, cols, 0, features, packed);
    for (int64_t k0 = 0; !of_sparse && whole && k0 < job.d; k0 += pass())
      pack_columns(j, cols, k0, int(k0 + pass() < job.d ? pass() : job.d - k0), packed + k0 * wide);
    for (int64_t i = a; i < b; i += TI) {
      int rows = int(i + TI < b ? TI : b - i);
      int live = cols;
      if (job.symmetric && i + rows - j < live) live = int(i + rows - j);
      if (live <= 0) continue;
      if (of_sparse)
        sparse_products(i, rows, j, live, whole);
      else
        inner_products(i, rows, j, cols, live, whole);
      tile(i, rows, j, live);
    }
  }
};

struct Strip { int64_t j; int cols; int64_t a, b; };

inline std::vector<Strip> strips(const Job &job) {
  // Long strips reuse the packed columns; at least eight per thread share the work evenly. Small
  // parts, such as tiles of gradients, have enough of them only if they are as low as a tile.
  int64_t rows = job.i1 - job.i0, tall = 16 * TI;
  std::vector<Strip> out;
  for (int64_t j = job.j0; j < job.j1; j += TJ) {
    int cols = int(j + TJ < job.j1 ? TJ : job.j1 - j);
    int64_t first = job.i0;
    if (job.symmetric && j > first) first = j;
    int64_t step = tall;
    int64_t tiles = (rows * (job.j1 - job.j0) / TJ) / tall;
    if (tiles < 8 * job.threads) step = 16 * tiles < 8 * job.threads ? TI : 4 * TI;
    for (int64_t a = first; a < job.i1; a += step)
      out.push_back({j, cols, a, a + step < job.i1 ? a + step : job.i1});
  }
  return out;
}

// Whether the system allows so many threads: OpenMP ends the process where one cannot be started.
inline bool can_start(int count) {
  static std::atomic<int> known{0};
  if (count <= known) return true;
  std::vector<std::thread> trial;
  try {
    std::atomic<bool> done{false};
    struct Join {
      std::vector<std::thread> &trial;
      std::atomic<bool> &done;
      ~Join() {
        done = true;
        for (auto &t : trial) t.join();
      }
    } join{trial, done};
    // All at the same time, as OpenMP keeps them.
    for (int t = 0; t < count; ++t)
      trial.emplace_back([&done] { while (!done) std::this_thread::yield(); });
  } catch (const std::system_error &) {
    return false;
  }
  known = count;
  return true;
}

template <class F> void start_threads(F &worker, int threads, int64_t work, Parallel parallel) {
  if (work < threads) threads = int(work);
  if (parallel && threads > 1 && can_start(threads - 1)) {
    parallel([](void *data) { (*static_cast<F *>(data))(); }, &worker, unsigned(threads), 0);
    return;
  }
  std::vector<std::thread> pool;
  try {
    for (int t = 1; t < threads; ++t) pool.emplace_back([&worker] { worker(); });
  } catch (const std::system_error &) {
    // The system allows no more: those that started share the work.
  }
  worker();
  for (auto &t : pool) t.join();
}

// A worker whose exceptions wait until all threads are done: none may leave a thread, nor unwind
// what the others still read.
template <class F> struct Held {
  F &work;
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  explicit Held(F &w) : work(w) {}
  void operator()() {
    try {
      work();
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  }
};

// Runs a worker on as many threads as are allowed and have work.
template <class F> void run_threads(F &given, int threads, int64_t work, Parallel parallel) {
  Held<F> worker(given);
  start_threads(worker, threads, work, parallel);
  if (worker.error) std::rethrow_exception(worker.error);
}

template <class T, class O> void fill(const Job &job) {
  std::vector<Strip> work = strips(job);
  std::vector<T> consts(job.consts, job.consts + job.n_consts);
  std::atomic<size_t> next{0};
  auto worker = [&] {
    Scratch scratch(Filler<T, O>::bytes(job));
    Filler<T, O> filler(job, consts.data(), scratch);
    for (size_t k; (k = next.fetch_add(1)) < work.size();)
      filler.strip(work[k].j, work[k].cols, work[k].a, work[k].b);
  };
  run_threads(worker, job.threads, int64_t(work.size()), job.parallel);
}
