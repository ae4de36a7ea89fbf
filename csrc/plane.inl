// Spatial kernels: each plane of a covariance, the pairs of positions of one displacement, goes
// through all layers of a stage in cache.
//
// The positions of an image are laid out line by line as one array of cells, with dead cells between
// lines and behind the last one: a shift of positions is a shift of cells, and cell `j` of one image
// is paired with cell `j + shift` of the other, modulo their number. Where positions wrap around
// (circular), lines hold copies of their ends instead, and those of the other image are turned.

template <class T> struct Planes {
  const PlaneJob &job;
  const T *consts;
  std::vector<T> memory, turned;
  std::vector<T> buffers[2];            // what stages begin with
  Plane<T> states[kPlanes], sums;

  const PlaneStage *stage;
  int64_t k, i, j;                      // stage and images
  const T *x, *y;
  int64_t ldx, ldy, cells, whole, shift, turn;
  bool same;
  double *readout;

  explicit Planes(const PlaneJob &job, const T *consts) : job(job), consts(consts) {
    int64_t widest = 0, landed[2] = {0, 0}, tables = 0;
    for (int64_t m = 0; m < job.n_stages; ++m) {
      const PlaneStage &s = job.stages[m];
      widest = max_(widest, s.cells() + 2 * s.halo + 128);
      landed[m % 2] = max_(landed[m % 2], 2 * s.landed * s.cells() * count(s) + kBeyond);
      if (s.circular) tables = max_(tables, job.cols.slots[m] * s.table());
    }
    memory.resize(2 * (kPlanes + 1) * widest);
    turned.resize(tables);
    for (int m = 0; m < 2; ++m) buffers[m].resize(landed[m]);
    int64_t halo = 0;
    for (int64_t m = 0; m < job.n_stages; ++m) halo = max_(halo, job.stages[m].halo);
    T *p = memory.data() + halo;
    for (int s = 0; s <= kPlanes; ++s, p += 2 * widest) (s < kPlanes ? states[s] : sums) = {p, p + widest};
  }

  // Displacements of a stage.
  static int64_t count(const PlaneStage &s) {
    return s.circular ? (s.line - 2 * s.ring) * s.lines : s.cells();
  }

  // Number of a displacement, which may be negative.
  static int64_t number(const PlaneStage &s, int64_t dy, int64_t dx) {
    if (!s.circular) {
      int64_t shift = dy * s.line + dx;
      return shift < 0 ? shift + s.cells() : shift;
    }
    int64_t width = s.line - 2 * s.ring;
    return (dx < 0 ? dx + width : dx) * s.lines + (dy < 0 ? dy + s.lines : dy);
  }

  T *landed(int64_t m, int64_t slot, int part) {
    const PlaneStage &s = job.stages[m];
    return buffers[m % 2].data() + (2 * slot + part) * s.cells() * count(s);
  }

  // The parts of a plane of height x width positions that have one displacement each.
  template <class F> void rectangles(int64_t height, int64_t width, F f) const {
    int64_t dy = shift / stage->line, dx = stage->circular ? turn : shift % stage->line;
    int64_t period = stage->circular ? stage->line - 2 * stage->ring : stage->line;
    for (int carried = 0; carried < 2; ++carried)
      for (int around = 0; around < 2; ++around) {
        Rectangle r{dy + (carried && !stage->circular) - around * stage->lines,
                    dx - carried * period, 0, height, 0, width};
        r.y0 = max_(int64_t(0), -r.dy), r.y1 = min_(height, height - r.dy);
        r.x0 = max_(int64_t(0), -r.dx), r.x1 = min_(width, width - r.dx);
        if (r.y0 < r.y1 && r.x0 < r.x1) f(r);
      }
  }

  // Cells beyond both ends of the array, and beyond those of its lines where they wrap around.
  void wrap(T *v) const {
    if (stage->circular) {
      int64_t ring = stage->ring, width = stage->line - 2 * ring;
      for (T *line = v; line < v + cells; line += stage->line)
        for (int64_t c = 0; c < ring; ++c) {
          line[c] = line[c + width];
          line[ring + width + c] = line[ring + c];
        }
    }
    for (int64_t c = 0; c < stage->halo; ++c) {
      v[c - stage->halo] = v[cells - stage->halo + c];
      v[cells + c] = v[c];
    }
  }

  // What instructions do, in plane_instructions.inl.
  static void add_up(const T *v, const int64_t *offset, int64_t count, T *out, int64_t from,
                     int64_t to);
  void box(Plane<T> in, Plane<T> out, const int64_t *geometry) const;
  void mix(const Instr &I, Plane<T> in, Plane<T> out, const T *c, const int64_t *geometry) const;
  template <int CHANNELS> void few_pixels(Plane<T> out) const;
  void pixels(Plane<T> out, int64_t channels) const;
  void take(const Instr &I, Plane<T> out, const T *c);
  void reset(const Instr &I, Plane<T> in, Plane<T> out) const;
  void dropout(const Instr &I, Plane<T> in, Plane<T> out, T keep) const;
  void sum(Plane<T> a, Plane<T> b, Plane<T> out, T wa, T wb) const;
  void product(Plane<T> a, Plane<T> b, Plane<T> out) const;
  void series(const Instr &I, Plane<T> in, Plane<T> out, const T *c) const;
  void land(const Instr &I, Plane<T> in, const int64_t *g);
  void read_out(const Instr &I, Plane<T> in, const T *weights, const int64_t *g);

  template <class D> void run_dual(D, const Instr &I, Plane<T> in, Plane<T> out, const T *c) const {
    if (I.b)
      for (T *v : {in.D, in.N}) wrap(v);
    run_plane_dual<D>(I, in, out, x, ldx, y, ldy, c, job.numbers + I.b, whole);
  }

  void run_plane() {
    struct Turn { int64_t start; int left; int64_t offset; int step; } stack[8];
    int depth = 0;
    const T *tx = x, *ty = y;
    int64_t offset = 0;
    for (int64_t p = stage->code; p < stage->code + stage->n_code; ++p) {
      const Instr &I = job.code[p];
      Plane<T> in = I.a >= 0 && I.a < kPlanes ? states[I.a] : sums;
      Plane<T> out = I.dst >= 0 && I.dst < kPlanes ? states[I.dst] : sums;
      x = tx + (I.x + offset) * ldx;
      y = ty + (I.y + offset) * ldy;
      const T *c = consts + I.c;
      switch (I.op) {
        case op_loop: stack[depth++] = {p, I.n, offset, I.x}; break;
        case op_next: {
          Turn &t = stack[depth - 1];
          if (--t.left > 0) offset += t.step, p = t.start;
          else offset = t.offset, --depth;
          break;
        }
        case op_pixels: pixels(out, I.n); break;
        case op_landed: take(I, out, c); break;
        case op_box: box(in, sums, job.numbers + I.n); break;
        case op_mix: mix(I, in, out, c, job.numbers + I.b); break;
        case op_reset: reset(I, in, out); break;
        case op_dropout: dropout(I, in, out, c[0]); break;
        case op_sum: sum(in, states[I.b], out, c[0], c[1]); break;
        case op_product: product(in, states[I.b], out); break;
        case op_series: series(I, in, out, c); break;
        case op_land: land(I, in, job.numbers + I.n); break;
        case op_readout: read_out(I, in, c, job.numbers + I.n); break;
        case op_copy: sum(in, in, out, T(1), T(0)); break;
        default:
          switch (I.op - op_dual) {
#define KR_DUAL(m) \
  case m: run_dual(Dual##m<T>{}, I, in, out, c); break;
            KR_DUALS
#undef KR_DUAL
          }
      }
    }
    x = tx, y = ty;
  }

  // The tables of the second image with their lines turned.
  const T *turn_lines(const T *from, int64_t slots) {
    int64_t ring = stage->ring, line = stage->line, width = line - 2 * ring;
    for (int64_t m = 0; m < slots; ++m)
      for (int64_t row = 0; row < stage->lines; ++row) {
        const T *source = from + m * ldy + row * line + ring;
        T *target = turned.data() + m * ldy + row * line;
        for (int64_t c = 0; c < line; ++c) target[c] = source[(c - ring + turn + 2 * width) % width];
        std::memcpy(target + cells, target, line * sizeof(T));
      }
    return turned.data();
  }

  // Room for what the stage before leaves, in the planes that are needed.
  void clear(int64_t m) {
    const PlaneStage &s = job.stages[m];
    for (int64_t slot = 0; slot < s.landed; ++slot)
      for (int part = 0; part < 2; ++part)
        for (int64_t p = s.plane; p < s.plane + s.n_planes; ++p) {
          int64_t turned = job.planes[2 * p], shifted = job.planes[2 * p + 1];
          int64_t at = s.circular ? turned * s.lines + shifted / s.line : shifted;
          std::memset(landed(m, slot, part) + at * s.cells(), 0, s.cells() * sizeof(T));
        }
  }

  void run(int64_t first, int64_t second) {
    i = first, j = second, same = job.mode == same_image;
    for (k = 0; k < job.n_stages; ++k) {
      stage = job.stages + k;
      cells = stage->cells(), whole = stage->whole();
      ldx = ldy = stage->table();
      int64_t rows = job.rows.slots[k], cols = job.cols.slots[k];
      const T *tx = static_cast<const T *>(job.rows.table[k]) + i * rows * ldx;
      const T *ty = static_cast<const T *>(job.cols.table[k]) + j * cols * ldy, *now = ty;
      if (k + 1 < job.n_stages) clear(k + 1);
      int64_t turned_by = 0;
      for (int64_t m = 0; m < stage->n_planes; ++m) {
        turn = job.planes[2 * (stage->plane + m)], shift = job.planes[2 * (stage->plane + m) + 1];
        if (turn != turned_by) now = turn ? turn_lines(ty, cols) : ty, turned_by = turn;
        x = tx, y = now + shift;
        run_plane();
      }
    }
  }
};

template <class T> void fill_planes(const PlaneJob &job) {
  std::vector<T> consts(job.consts, job.consts + job.n_consts);
  int64_t wide = job.mode == same_image ? 1 : job.j1 - job.j0;
  std::atomic<int64_t> next{job.i0 * wide};
  int64_t end = job.i1 * wide;
  auto worker = [&] {
    Planes<T> planes(job, consts.data());
    std::vector<double> nothing(2 * job.n_readouts + 2);
    for (int64_t at; (at = next.fetch_add(1)) < end;) {
      int64_t i = at / wide, j = job.mode == same_image ? i : job.j0 + at % wide;
      if (job.mode == lower_pairs && j >= i) continue;
      planes.readout = job.readouts ? job.readouts + (at - job.i0 * wide) * 2 * job.n_readouts : nothing.data();
      planes.run(i, j);
      if (!job.still) continue;
      const PlaneStage &last = job.stages[job.n_stages - 1];
      for (int64_t s = 0; s < last.landed; ++s) {
        const T *from = planes.landed(job.n_stages - 1, s, 0);
        double *to = job.still + ((at - job.i0 * wide) * last.landed + s) * last.cells();
        for (int64_t m = 0; m < last.cells(); ++m) to[m] = double(from[m]);
      }
    }
  };
  run_threads(worker, job.threads, end - job.i0 * wide, job.parallel);
}
