#include "featcore/forms.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "featcore/flow_frames.hpp"
#include "instances.hpp"

namespace featcore {

using Fits = std::function<void(const std::string&, double)>;
using FrameFits = std::function<void(const std::string&, Index)>;
using std::string;
using std::unique_ptr;
template <class T>
using Splits = std::vector<SplitView<T>>;

template ChosenForm<double> choose_form(const string&, const NetworkView<double>&, Activation,
                                        const Splits<double>&, bool, const FormState<double>*,
                                        const Team&, const Fits&);
template ChosenForm<float> choose_form(const string&, const NetworkView<float>&, Activation,
                                       const Splits<float>&, bool, const FormState<float>*,
                                       const Team&, const Fits&);

template unique_ptr<FlowFrame<double>> choose_frame(const string&, const NetworkView<double>&,
                                                    Activation, const Splits<double>&, bool,
                                                    std::vector<double>, const Team&,
                                                    const FrameFits&);
template unique_ptr<FlowFrame<float>> choose_frame(const string&, const NetworkView<float>&,
                                                   Activation, const Splits<float>&, bool,
                                                   std::vector<float>, const Team&,
                                                   const FrameFits&);

template unique_ptr<FlowFrame<double>> scale_frame(unique_ptr<FlowFrame<double>>,
                                                   const NeuronScales&, const double*, Activation,
                                                   const Splits<double>&, bool, const Team&);
template unique_ptr<FlowFrame<float>> scale_frame(unique_ptr<FlowFrame<float>>, const NeuronScales&,
                                                  const double*, Activation, const Splits<float>&,
                                                  bool, const Team&);

}  // namespace featcore
