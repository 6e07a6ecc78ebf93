// The coordinates in which a flow moves a network: all weights, or their part in the span of the
// samples. The field turns with the coordinates and has no part outside the span, so that the same
// steppers serve in either; what lies outside decays, if anything, as a whole.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/flow_point.hpp"
#include "featcore/form.hpp"
#include "featcore/neuron_scales.hpp"

namespace featcore {

template <class T>
class FlowFrame {
 public:
  FlowFrame() = default;
  FlowFrame(const FlowFrame&) = delete;
  FlowFrame& operator=(const FlowFrame&) = delete;
  virtual ~FlowFrame() = default;

  virtual const char* name() const = 0;

  // The network at the start of the whole run with the present head, and the training samples, in
  // the coordinates.
  virtual NetworkView<T> start() const = 0;
  virtual SplitView<T> samples() const = 0;
  // What rounding may have left of a z that is zero, over |w| |x|: nothing where the coordinates
  // are those given.
  virtual double zero() const = 0;

  // Calls body(form, weights) with the network at a point, for its outputs, over the weights'
  // squared unit, and its weights.
  using Body = std::function<void(Form<T>&, const Weights<T>&)>;
  virtual void visit(const FlowPoint<T>& point, const Team& team, const Body& body) = 0;

  // W at a point, (m, d).
  virtual void write(const FlowPoint<T>& point, const Team& team, T* W) = 0;

  // Largest change of a_j^2 - |w_j|^2 from `balance`.
  virtual double drift(const FlowPoint<T>& point, const double* balance, const Team& team) = 0;

  // a_j^2 - |w_j|^2 at the start of the run, from that of the mantissas.
  virtual const double* plain(const double* balance) = 0;

  // |W|^2 outside the coordinates.
  virtual double squared_rest(T rest, const Team& team) = 0;

  // Orthonormal rows of the coordinates, one after the other; none where they are those given. With
  // the weights at the start of the run, all that a run needs to go on besides its stepper.
  virtual const std::vector<T>& basis() const = 0;
};

// `wanted`: primal, projected, or auto. A flow that goes on has the `basis` of before, and `start`
// the weights at the start of the run with the present head. Everything that the arguments point to
// must outlive the frame. `fits(name, coordinates)` is asked before anything large is made; 0
// coordinates: for looking at the span. Defined in flow_frames.hpp.
template <class T>
std::unique_ptr<FlowFrame<T>> choose_frame(
    const std::string& wanted, const NetworkView<T>& start, Activation activation,
    const std::vector<SplitView<T>>& splits, bool signs_of_all_splits, std::vector<T> basis,
    const Team& team, const std::function<void(const std::string&, Index)>& fits);

// The same coordinates for neurons with scales of their own: those of their mantissas. `sizes`:
// a_j^2 + |w_j|^2 of the mantissas at the start of the run. Defined in flow_frames.hpp.
template <class T>
std::unique_ptr<FlowFrame<T>> scale_frame(std::unique_ptr<FlowFrame<T>> inner,
                                          const NeuronScales& scales, const double* sizes,
                                          Activation activation,
                                          const std::vector<SplitView<T>>& splits,
                                          bool signs_of_all_splits, const Team& team);

}  // namespace featcore
