// What a flow tells of on its way.
#pragma once

#include <cstdint>

#include "featcore/types.hpp"

namespace featcore {

// What happened to a pair. To a neuron and a line also: it came to rest on the hyperplane (none),
// or left from there to the side where x is active (near) or -x (far).
enum class EventKind : std::int8_t { far = -2, off = -1, held = 0, on = 1, near = 2, none = 3 };

// What an event of a line is to x, or to -x. None if it is nothing.
inline EventKind event_of(EventKind line, bool mirrored) {
  switch (line) {
    case EventKind::none:
      return EventKind::off;
    case EventKind::near:
      return mirrored ? EventKind::none : EventKind::on;
    case EventKind::far:
      return mirrored ? EventKind::on : EventKind::none;
    default:
      return static_cast<EventKind>((mirrored ? -1 : 1) * static_cast<int>(line));
  }
}

struct FlowEvent {
  double time;
  Index neuron;
  Index sample;
  EventKind kind;
};

}  // namespace featcore
