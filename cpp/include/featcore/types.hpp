// Views of arrays that somebody else owns: row-major, contiguous, null only where empty.
#pragma once

#include <cstddef>
#include <cstdint>

namespace featcore {

using Index = std::ptrdiff_t;

// f(x) = sum_j a_j sigma(<w_j, x>); W is (m, d), a neuron a row.
template <class T>
struct NetworkView {
  Index m = 0;
  Index d = 0;
  const T* W = nullptr;
  const T* a = nullptr;
};

// n samples x (n, d) with labels y. clean_y and weights may be null: unknown, and equal.
template <class T>
struct SplitView {
  Index n = 0;
  Index d = 0;
  const T* x = nullptr;
  const T* y = nullptr;
  const T* clean_y = nullptr;
  const T* weights = nullptr;
};

}  // namespace featcore
