// Singular values of W from the smaller of W^T W and W W^T, in double.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "featcore/eigen.hpp"
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

// solve(), which cannot be interrupted where `size` is large: then it runs on a thread of its own,
// which a stop leaves behind, with all it needs.
template <class Solve>
auto left_behind(Index size, Solve solve, const Team& team) {
  using Result = decltype(solve());
  constexpr Index kPrompt = 256;
  if (size <= kPrompt) return solve();
  std::packaged_task<Result()> task([solve = std::move(solve)] {
    const DefaultFloats floats;
    return solve();
  });
  std::future<Result> result = task.get_future();
  std::thread(std::move(task)).detach();
  const Worker worker(0, team.monitor());
  while (result.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready)
    if (worker.stop()) throw Stopped{};
  return result.get();
}

inline ColMatrix<double> orthonormal_against(ColMatrix<double> block,
                                             const ColMatrix<double>& basis) {
  for (int pass = 0; pass < 2; ++pass) {  // twice is enough (Kahan)
    block -= basis * (basis.transpose() * block);
    block = Eigen::HouseholderQR<ColMatrix<double>>(block).householderQ() *
            ColMatrix<double>::Identity(block.rows(), block.cols());
  }
  return block;
}

// Largest `count` eigenvalues of a symmetric positive semidefinite matrix, descending, by block
// Krylov: a dense solver needs half a second at size 800, and could not be interrupted.
inline std::vector<double> krylov_eigenvalues(const ColMatrix<double>& gram, Index count,
                                              const Team& team) {
  const Index size = gram.rows();
  const Index width = std::min(size, count + 2);
  ColMatrix<double> block(size, width);
  std::uint64_t word = 0x9e3779b97f4a7c15u;  // any fixed start: the same bits every time
  for (Index i = 0; i < block.size(); ++i) {
    word ^= word << 13, word ^= word >> 7, word ^= word << 17;
    block.data()[i] = static_cast<double>(word >> 11) * 0x1p-53 - 0.5;
  }
  ColMatrix<double> basis(size, 0);
  ColMatrix<double> image(size, 0);   // gram * basis
  ColMatrix<double> projected(0, 0);  // basis^T * image
  Index look = 0;                     // at as many vectors
  struct Ritz {
    ColMatrix<double> vectors;
    Vector<double> values;
  };
  const Worker worker(0, team.monitor());
  while (true) {
    if (worker.stop()) throw Stopped{};
    block = orthonormal_against(block, basis);
    const Index had = basis.cols();
    basis.conservativeResize(Eigen::NoChange, had + block.cols());
    image.conservativeResize(Eigen::NoChange, had + block.cols());
    basis.rightCols(block.cols()) = block;
    image.rightCols(block.cols()).noalias() = gram * block;
    const Index has = basis.cols();
    const ColMatrix<double> part = basis.transpose() * image.rightCols(has - had);
    projected.conservativeResize(has, has);
    projected.rightCols(has - had) = part;
    projected.bottomRows(has - had) = part.transpose();
    block = image.rightCols(std::min(width, size - has));
    if (has < look && has < size) continue;
    look = has + has / 8;  // a look costs the cube of what there is
    const Ritz ritz = left_behind(
        has,
        [projected, count] {
          const Eigen::SelfAdjointEigenSolver<ColMatrix<double>> solver(projected);
          return Ritz{solver.eigenvectors().rightCols(count), solver.eigenvalues().tail(count)};
        },
        team);
    const ColMatrix<double>& vectors = ritz.vectors;
    const Vector<double>& values = ritz.values;
    const ColMatrix<double> residual = image * vectors - basis * (vectors * values.asDiagonal());
    // A residual of 1e-8 of a value leaves an error of 1e-16 of it; but no value of `gram` is known
    // better than to the rounding of the largest.
    const auto tolerance = (1e-8 * values.array()).max(4e-15 * values(count - 1));
    const bool converged = (residual.colwise().norm().transpose().array() <= tolerance).all();
    if (converged || has == size) {
      std::vector<double> result(static_cast<std::size_t>(count));
      for (Index k = 0; k < count; ++k) result[static_cast<std::size_t>(k)] = values(count - 1 - k);
      return result;
    }
  }
}

// The same by a dense solver.
inline std::vector<double> dense_eigenvalues(const ColMatrix<double>& gram, Index count,
                                             const Team& team) {
  return left_behind(
      gram.rows(),
      [gram, count] {
        const Eigen::SelfAdjointEigenSolver<ColMatrix<double>> solver(gram, Eigen::EigenvaluesOnly);
        std::vector<double> values;
        values.reserve(static_cast<std::size_t>(count));
        for (Index k = 0; k < count; ++k)
          values.push_back(solver.eigenvalues()(gram.rows() - 1 - k));
        return values;
      },
      team);
}

}  // namespace detail

// Largest `count` singular values of top * A, descending, from the smaller Gram matrix of A; zero
// past its size.
inline std::vector<double> singular_values_of_gram(const ColMatrix<double>& gram, double top,
                                                   Index count, const Team& team) {
  const Index size = gram.rows();
  const Index wanted = std::min(count, size);
  constexpr Index kDense = 128;
  const std::vector<double> squares = size <= kDense || wanted > size / 8
                                          ? detail::dense_eigenvalues(gram, wanted, team)
                                          : detail::krylov_eigenvalues(gram, wanted, team);
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
