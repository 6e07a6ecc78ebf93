// How the largest eigenvalues are found: by a dense solver, or by block Krylov. Included where they
// are compiled: whoever uses them needs eigenvalues.hpp only.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <future>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "featcore/eigenvalues.hpp"
#include "featcore/float_state.hpp"

namespace featcore {

namespace detail {

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

template <class S>
ColMatrix<S> orthonormal_against(ColMatrix<S> block, const ColMatrix<S>& basis) {
  for (int pass = 0; pass < 2; ++pass) {  // twice is enough (Kahan)
    block -= basis * (basis.transpose() * block);
    block = Eigen::HouseholderQR<ColMatrix<S>>(block).householderQ() *
            ColMatrix<S>::Identity(block.rows(), block.cols());
  }
  return block;
}

// Largest `count` eigenvalues of a symmetric positive semidefinite matrix, descending, by block
// Krylov: a dense solver needs half a second at size 800, and could not be interrupted.
template <class S>
std::vector<S> krylov_eigenvalues(const ColMatrix<S>& gram, Index count, const Team& team) {
  const Index size = gram.rows();
  const Index width = std::min(size, count + 2);
  ColMatrix<S> block(size, width);
  std::uint64_t word = 0x9e3779b97f4a7c15u;  // any fixed start: the same bits every time
  for (Index i = 0; i < block.size(); ++i) {
    word ^= word << 13, word ^= word >> 7, word ^= word << 17;
    block.data()[i] = static_cast<S>(word >> 11) * S(0x1p-53) - S(0.5);
  }
  ColMatrix<S> basis(size, 0);
  ColMatrix<S> image(size, 0);   // gram * basis
  ColMatrix<S> projected(0, 0);  // basis^T * image
  Index look = 0;                // at as many vectors
  struct Ritz {
    ColMatrix<S> vectors;
    Vector<S> values;
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
    const ColMatrix<S> part = basis.transpose() * image.rightCols(has - had);
    projected.conservativeResize(has, has);
    projected.rightCols(has - had) = part;
    projected.bottomRows(has - had) = part.transpose();
    block = image.rightCols(std::min(width, size - has));
    if (has < look && has < size) continue;
    look = has + has / 8;  // a look costs the cube of what there is
    const Ritz ritz = left_behind(
        has,
        [projected, count] {
          const Eigen::SelfAdjointEigenSolver<ColMatrix<S>> solver(projected);
          return Ritz{solver.eigenvectors().rightCols(count), solver.eigenvalues().tail(count)};
        },
        team);
    const ColMatrix<S>& vectors = ritz.vectors;
    const Vector<S>& values = ritz.values;
    const ColMatrix<S> residual = image * vectors - basis * (vectors * values.asDiagonal());
    // A residual of 1e-8 of a value leaves an error of 1e-16 of it; but no value of `gram` is known
    // better than to the rounding of the largest.
    const auto tolerance = (1e-8 * values.array()).max(4e-15 * values(count - 1));
    const bool converged = (residual.colwise().norm().transpose().array() <= tolerance).all();
    if (converged || has == size) {
      std::vector<S> result(static_cast<std::size_t>(count));
      for (Index k = 0; k < count; ++k) result[static_cast<std::size_t>(k)] = values(count - 1 - k);
      return result;
    }
  }
}

// The same by a dense solver.
template <class S>
std::vector<S> dense_eigenvalues(const ColMatrix<S>& gram, Index count, const Team& team) {
  return left_behind(
      gram.rows(),
      [gram, count] {
        const Eigen::SelfAdjointEigenSolver<ColMatrix<S>> solver(gram, Eigen::EigenvaluesOnly);
        std::vector<S> values;
        values.reserve(static_cast<std::size_t>(count));
        for (Index k = 0; k < count; ++k)
          values.push_back(solver.eigenvalues()(gram.rows() - 1 - k));
        return values;
      },
      team);
}

}  // namespace detail

template <class S>
std::vector<S> largest_eigenvalues(const ColMatrix<S>& matrix, Index count, const Team& team) {
  static_assert(std::is_same_v<S, double>, "tolerances are those of double");
  constexpr Index kDense = 128;
  const Index size = matrix.rows();
  return size <= kDense || count > size / 8 ? detail::dense_eigenvalues(matrix, count, team)
                                            : detail::krylov_eigenvalues(matrix, count, team);
}

}  // namespace featcore
