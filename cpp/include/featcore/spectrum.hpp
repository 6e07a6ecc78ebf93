// Singular values of W from the smaller of W^T W and W W^T, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "featcore/eigen.hpp"
#include "featcore/eigenvalues.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

namespace detail {

// (W/top)^T (W/top) if `by_columns`, else (W/top) (W/top)^T. Column blocks are independent, and
// each runs over W in a fixed order.
template <class T>
ColMatrix<double> gram_matrix(const NetworkView<T>& net, bool by_columns, double top,
                              const Team& team) {
  constexpr Index kBlock = 64;
  constexpr Index kDepth = 256;
  const ConstRows<T> W(net.W, net.m, net.d);
  const Index size = by_columns ? net.d : net.m;
  const Index depth = by_columns ? net.m : net.d;
  ColMatrix<double> gram(size, size);
  team.for_each(ceil_div(size, kBlock), [&](Index block, const Worker& worker) {
    const Index first = block * kBlock;
    const Index columns = std::min(kBlock, size - first);
    auto target = gram.middleCols(first, columns);
    target.setZero();
    for (Index k = 0; k < depth && !worker.stop(); k += kDepth) {
      const Index length = std::min(kDepth, depth - k);
      ColMatrix<double> part(length, size);
      if (by_columns)
        part = W.middleRows(k, length).template cast<double>() / top;
      else
        part = W.middleCols(k, length).transpose().template cast<double>() / top;
      target.noalias() += part.transpose() * part.middleCols(first, columns);
    }
  });
  return gram;
}

}  // namespace detail

// Largest `count` singular values of top * A, descending, from the smaller Gram matrix of A; zero
// past its size.
inline std::vector<double> singular_values_of_gram(const ColMatrix<double>& gram, double top,
                                                   Index count, const Team& team) {
  const Index size = gram.rows();
  const Index wanted = std::min(count, size);
  const std::vector<double> squares = largest_eigenvalues(gram, wanted, team);
  std::vector<double> result(static_cast<std::size_t>(count), 0.0);
  for (std::size_t k = 0; k < squares.size(); ++k)
    result[k] = top * std::sqrt(std::max(0.0, squares[k]));
  return result;
}

// Largest `count` singular values of W, descending, zero past the rank. `count` at least 1.
template <class T>
std::vector<double> singular_values(const NetworkView<T>& net, Index count,
                                    const Team& whole_team) {
  const Index size = std::min(net.m, net.d);
  const Team team = whole_team.for_work(static_cast<double>(net.m) * static_cast<double>(net.d) *
                                        static_cast<double>(size));
  const double top = static_cast<double>(ConstRows<T>(net.W, net.m, net.d).cwiseAbs().maxCoeff());
  if (!(top > 0) || !std::isfinite(top))
    return std::vector<double>(static_cast<std::size_t>(count), std::isfinite(top) ? 0.0 : top);
  // Scaled to order one: squares of tiny weights would underflow.
  return singular_values_of_gram(detail::gram_matrix(net, net.d <= net.m, top, team), top, count,
                                 team);
}

}  // namespace featcore
