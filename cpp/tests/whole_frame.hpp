// The frame of a flow in the coordinates given.
#pragma once

#include <memory>

#include "featcore/flow_frame.hpp"
#include "problem.hpp"

namespace featcore::testing {

// The problem must outlive it.
template <class T>
std::unique_ptr<FlowFrame<T>> whole_frame(const Problem<T>& p, Activation activation) {
  Monitor monitor;
  return choose_frame<T>("primal", p.net(), activation, {p.split()}, false, {}, Team(1, monitor),
                         [](const std::string&, Index) {});
}

}  // namespace featcore::testing
