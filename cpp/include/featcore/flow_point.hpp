// A network where a flow stands, in the coordinates that it moves in.
#pragma once

#include <cstdint>

#include "featcore/types.hpp"

namespace featcore {

template <class T>
struct FlowPoint {
  NetworkView<T> net;
  // What is left of the weights outside the coordinates, as a share of those at the start: nothing
  // but the decay moves them.
  T rest = 1;
  // Of neurons with scales of their own, which `net` has the mantissas of; see NeuronScales.
  const std::int64_t* exponents = nullptr;
};

}  // namespace featcore
