// Eigen, loaded through this header only, so that every translation unit sees the same switches.
#pragma once

// Threads are ours: Eigen must not open parallel regions inside a tile.
#ifndef EIGEN_DONT_PARALLELIZE
#define EIGEN_DONT_PARALLELIZE
#endif

#include <Eigen/Dense>

#include "featcore/types.hpp"

namespace featcore {

template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using ColMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

template <class T>
using ConstRows = Eigen::Map<const RowMatrix<T>>;
template <class T>
using Rows = Eigen::Map<RowMatrix<T>>;
template <class T>
using ConstVector = Eigen::Map<const Vector<T>>;

}  // namespace featcore
