// Stands in for csrc/cuda/device.cuh on the host. The threads of a block are fibers. A warp runs as
// far ahead of the others as barriers let it, the first and the last one by turns, and copies to
// shared memory arrive as early or as late as the device may deliver them, so that a missing barrier
// shows in the results.

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#define KR_MEMBER inline
#define KR_INLINE static inline
#define __global__
#define __shared__ static
#define __align__(bytes)
#define __launch_bounds__(threads)

constexpr int kLanes = 32;

struct Index { unsigned x; };
static Index threadIdx, blockIdx;

struct Copy { double *to; const double *from; bool wanted; };

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  std::vector<std::vector<Copy>> copies{1};
  bool done = false;
};

struct Barrier {
  int arrived = 0, turn = 0;
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static Barrier block_barrier, warp_barriers[32];
static double exchanged[32][kLanes];
struct Matrices { double A[16][16], B[16][8]; };
static Matrices matrices[32];
static std::function<void()> body;
static int64_t arrivals;

static void wait_at(Barrier &barrier, int threads) {
  int turn = barrier.turn;
  ++arrivals;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.turn;
  }
  while (barrier.turn == turn) swapcontext(&fibers[threadIdx.x].context, &scheduler);
}

static void __syncthreads() { wait_at(block_barrier, int(fibers.size())); }
static void sync_warp() { wait_at(warp_barriers[threadIdx.x / kLanes], kLanes); }

static void enter() {
  body();
  fibers[threadIdx.x].done = true;
}

// Runs a warp until it waits for others or is done; whether it was not.
static bool run_warp(int warp) {
  bool running = false;
  for (int64_t before = -1; before != arrivals;) {
    before = arrivals;
    for (int lane = 0; lane < kLanes; ++lane) {
      threadIdx.x = unsigned(warp * kLanes + lane);
      if (fibers[threadIdx.x].done) continue;
      swapcontext(&scheduler, &fibers[threadIdx.x].context);
      running = true;
    }
  }
  return running;
}

// Runs `work` in every thread of every block.
static void emulate(int64_t blocks, int threads, std::function<void()> work) {
  body = work;
  for (int64_t block = 0; block < blocks; ++block) {
    blockIdx.x = unsigned(block);
    fibers = std::vector<Fiber>(threads);
    for (Fiber &f : fibers) {
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.data();
      f.context.uc_stack.ss_size = f.stack.size();
      f.context.uc_link = &scheduler;
      makecontext(&f.context, enter, 0);
    }
    int warps = threads / kLanes;
    for (bool forwards = true, running = true; running; forwards = !forwards) {
      running = false;
      for (int w = 0; w < warps; ++w) running |= run_warp(forwards ? w : warps - 1 - w);
    }
  }
}

KR_INLINE float root(float x) { return std::sqrt(x); }
KR_INLINE double root(double x) { return std::sqrt(x); }

KR_INLINE double from_lane(double value, int lane) {
  double *values = exchanged[threadIdx.x / kLanes];
  values[threadIdx.x % kLanes] = value;
  sync_warp();
  double found = values[lane];
  sync_warp();
  return found;
}

KR_INLINE const double *fresh(const double *address) { return address; }

KR_INLINE void copy_async(double *to, const double *from, bool wanted) {
  if (threadIdx.x % 2) *to = wanted ? *from : 0.0;
  else fibers[threadIdx.x].copies.back().push_back({to, from, wanted});
}

KR_INLINE void commit_copies() { fibers[threadIdx.x].copies.emplace_back(); }

KR_INLINE void wait_for_copies() {
  auto &copies = fibers[threadIdx.x].copies;
  // The last group is open, the one before was committed last.
  for (size_t k = 0; k + 2 < copies.size(); ++k) {
    for (const Copy &c : copies[k]) *c.to = c.wanted ? *c.from : 0.0;
    copies[k].clear();
  }
}

KR_INLINE void multiply_add(double (&above)[2], double (&below)[2], const double (&upper)[4],
                            const double (&lower)[4], const double (&b)[4]) {
  Matrices &m = matrices[threadIdx.x / kLanes];
  int row = threadIdx.x % kLanes / 4, k = threadIdx.x % 4;
  for (int q = 0; q < 4; ++q) {
    m.A[row][k + 4 * q] = upper[q];
    m.A[row + 8][k + 4 * q] = lower[q];
    m.B[k + 4 * q][row] = b[q];
  }
  sync_warp();
  for (int n = 0; n < 2; ++n)
    for (int inner = 0; inner < 16; ++inner) {
      above[n] += m.A[row][inner] * m.B[inner][2 * k + n];
      below[n] += m.A[row + 8][inner] * m.B[inner][2 * k + n];
    }
  sync_warp();
}
