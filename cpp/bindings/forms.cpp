#include "featcore/forms.hpp"
#include "featcore/flow_frames.hpp"
#include "instances.hpp"

namespace featcore {

using Fits = std::function<void(const std::string&, double)>;
using FrameFits = std::function<void(const std::string&, Index)>;

#define FEATCORE_FORMS(T)                                                                         \
  template ChosenForm<T> choose_form(const std::string&, const NetworkView<T>&, Activation,       \
                                     const std::vector<SplitView<T>>&, bool, const FormState<T>*, \
                                     const Team&, const Fits&);                                   \
  template std::unique_ptr<FlowFrame<T>> choose_frame(                                            \
      const std::string&, const NetworkView<T>&, Activation, const std::vector<SplitView<T>>&,    \
      bool, std::vector<T>, const Team&, const FrameFits&);                                       \
  template std::unique_ptr<FlowFrame<T>> scale_frame(                                             \
      std::unique_ptr<FlowFrame<T>>, const NeuronScales&, const double*, Activation,              \
      const std::vector<SplitView<T>>&, bool, const Team&);

FEATCORE_FORMS(double)
FEATCORE_FORMS(float)

}  // namespace featcore
