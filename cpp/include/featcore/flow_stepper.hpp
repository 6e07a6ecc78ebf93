// What carries a flow: it takes steps as long as its error allows and can be looked at anywhere
// within the last one.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "featcore/flow_event.hpp"
#include "featcore/flow_point.hpp"
#include "featcore/parallel.hpp"

namespace featcore {

struct FlowCounts {
  std::int64_t accepted = 0;
  std::int64_t rejected = 0;
  std::int64_t evaluations = 0;  // of the field, or sweeps over all neurons
  std::int64_t crossings = 0;
  std::int64_t slidings = 0;  // times a sample was caught
};

// A neuron that did get on over a whole step does not over a part of it: rounding decides among
// many events at once.
struct Unrepeatable : std::runtime_error {
  Unrepeatable() : std::runtime_error("a step cannot be repeated") {}
};

// `underflow`: no step is short enough; `non_finite`: nor does any give finite numbers.
enum class FlowStep { taken, underflow, non_finite };

template <class T>
class FlowStepper {
 public:
  FlowStepper() = default;
  FlowStepper(const FlowStepper&) = delete;
  FlowStepper& operator=(const FlowStepper&) = delete;
  virtual ~FlowStepper() = default;

  // The first outputs. False if these are not finite.
  virtual bool begin(const Team& team) = 0;

  // Takes one step. After Stopped nothing has moved.
  using Step = FlowStep;
  virtual Step step(const Team& team) = 0;

  // At the end of the last step: time, network, outputs on the training samples.
  virtual double time() const = 0;
  virtual FlowPoint<T> here() const = 0;
  virtual const T* outputs() const = 0;
  // Squared norm of the objective's gradient there, over the layers that move.
  virtual double squared_gradient(const Team& team) = 0;
  // Whether it is known that nothing moves any more.
  virtual bool at_rest(const Team&) { return false; }

  // Where the flow was at `time` within the last step, and its outputs there. May be Unrepeatable.
  virtual FlowPoint<T> look(double time, const Team& team) = 0;
  virtual void look_at_outputs(double time, const Team& team, T* f) = 0;
  // How many times the loss is looked at within a step under penalties, where it may pass its
  // target and be back above it at the end. Without penalties the flow has it fall.
  virtual int looks() const { return 1; }

  // From where a run that was at `time` goes on with the same steps: the end of the last step, or,
  // within it, its start.
  struct Standing {
    double time;
    FlowPoint<T> point;
  };
  virtual Standing resumes_from(double time) const = 0;

  virtual const FlowCounts& counts() const = 0;
  // Of the last step, in order.
  virtual const std::vector<FlowEvent>& events() const = 0;
};

}  // namespace featcore
