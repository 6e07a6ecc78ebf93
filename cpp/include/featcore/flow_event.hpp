// What a flow tells of on its way.
#pragma once

#include <cstdint>

#include "featcore/types.hpp"

namespace featcore {

// What happened to a pair.
enum class EventKind : std::int8_t { off = -1, held = 0, on = 1 };

struct FlowEvent {
  double time;
  Index neuron;
  Index sample;
  EventKind kind;
};

}  // namespace featcore
