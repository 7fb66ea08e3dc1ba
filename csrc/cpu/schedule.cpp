#include "schedule.h"

#include <omp.h>
#include <sched.h>

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

namespace contrastive_ops {
namespace {

struct Task {
  int row_group, col_group;
  int row_turn, col_turn;  // how many calls of that group must have finished before
};

// Latin square: in round r, row group a meets column group (a + r) % n. No group twice in a round.
std::vector<std::pair<int, int>> rectangle_rounds(int n) {
  std::vector<std::pair<int, int>> pairs;
  for (int round = 0; round < n; ++round)
    for (int a = 0; a < n; ++a) pairs.emplace_back(a, (a + round) % n);
  return pairs;
}

// Round-robin tournament (circle method) after the round in which everyone meets himself.
std::vector<std::pair<int, int>> tournament_rounds(int n) {
  std::vector<std::pair<int, int>> pairs;
  for (int a = 0; a < n; ++a) pairs.emplace_back(a, a);
  const int seats = n + n % 2;  // an odd group out rests opposite the empty seat
  for (int round = 0; round < seats - 1; ++round)
    for (int k = 0; k < seats / 2; ++k) {
      const auto seated = [&](int seat) { return seat == 0 ? 0 : 1 + (seat - 1 + round) % (seats - 1); };
      const int a = seated(k), b = seated(seats - 1 - k);
      if (a < n && b < n) pairs.emplace_back(a < b ? a : b, a < b ? b : a);
    }
  return pairs;
}

std::vector<Task> plan(int groups, bool self_similarity) {
  std::vector<Task> tasks;
  std::vector<int> row_calls(groups, 0), col_calls(groups, 0);
  std::vector<int>& second_calls = self_similarity ? row_calls : col_calls;
  for (auto [a, b] : self_similarity ? tournament_rounds(groups) : rectangle_rounds(groups)) {
    tasks.push_back({a, b, row_calls[a], second_calls[b]});
    ++row_calls[a];
    if (!self_similarity || a != b) ++second_calls[b];
  }
  return tasks;
}

void wait_for(const std::atomic<int>& calls, int turn) {
  for (int spins = 0; calls.load(std::memory_order_acquire) != turn; ++spins) {
#if defined(__x86_64__)
    if (spins < 4096) {
      __builtin_ia32_pause();
      continue;
    }
#endif
    sched_yield();
  }
}

}  // namespace

void parallel_for(int threads, int64_t count, void (*body)(void*, int64_t, int), void* context) {
  if (threads > count) threads = static_cast<int>(count);
  if (threads <= 1) {
    for (int64_t i = 0; i < count; ++i) body(context, i, 0);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t i = 0; i < count; ++i) body(context, i, omp_get_thread_num());
}

void for_each_group_pair(const Params& p, void (*body)(void*, int64_t, int, int, int), void* context) {
  const std::vector<Task> tasks = plan(p.groups, p.self_similarity);
  const int64_t total = p.batch * static_cast<int64_t>(tasks.size());
  if (total == 0) return;
  const int64_t counters = p.batch * p.groups;
  const std::unique_ptr<std::atomic<int>[]> row_calls(new std::atomic<int>[counters]()),
      col_calls(new std::atomic<int>[counters]());
  std::atomic<int64_t> next{0};
  // Tickets are drawn in plan order, so whoever a ticket waits for holds an earlier one and is running: no deadlock.
  const auto work = [&](int thread) {
    for (int64_t ticket; (ticket = next.fetch_add(1, std::memory_order_relaxed)) < total;) {
      const int64_t batch = ticket / static_cast<int64_t>(tasks.size());
      const Task& task = tasks[ticket % tasks.size()];
      std::atomic<int>& row = row_calls[batch * p.groups + task.row_group];
      std::atomic<int>& col = (p.self_similarity ? row_calls : col_calls)[batch * p.groups + task.col_group];
      wait_for(row, task.row_turn);
      wait_for(col, task.col_turn);
      body(context, batch, task.row_group, task.col_group, thread);
      row.fetch_add(1, std::memory_order_release);
      if (&row != &col) col.fetch_add(1, std::memory_order_release);
    }
  };
  if (p.threads <= 1 || total == 1) {
    work(0);
    return;
  }
#pragma omp parallel num_threads(p.threads)
  work(omp_get_thread_num());
}

}  // namespace contrastive_ops
