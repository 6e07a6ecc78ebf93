// Outputs, features, the objective with its gradient, and one step, of one network on one split.
#include <string>
#include <utility>

#include "arrays.hpp"
#include "call.hpp"
#include "featcore/features.hpp"
#include "featcore/gradient.hpp"
#include "instances.hpp"

namespace featcore::bindings {

namespace {

template <class T>
Needs needs(const NetworkView<T>& net, Index n) {
  constexpr double kTiles = 64.0 * 1024 * 1024;
  const double m = static_cast<double>(net.m);
  return {
      kTiles + static_cast<double>(n) * m / 8 + 2 * sizeof(T) * m * static_cast<double>(net.d),
      "n=" + std::to_string(n) + ", d=" + std::to_string(net.d) + ", m=" + std::to_string(net.m)};
}

template <class T, class Body>
void for_network(int num_threads, const NetworkView<T>& net, Index n, Body&& body,
                 py::object progress = py::none()) {
  without_gil(num_threads, kernel_flops(n, net.d, net.m), needs(net, n), body, std::move(progress));
}

template <class T>
Array<T> outputs(const Array<T>& W, const Array<T>& a, const py::tuple& activation,
                 const Array<T>& x, int num_threads) {
  const NetworkView<T> net = network_view(W, a);
  require(x.ndim() == 2 && x.shape(1) == net.d, "x has the wrong shape");
  Array<T> f(x.shape(0));
  T* out = f.mutable_data();
  const Index n = x.shape(0);
  const T* samples = x.data();
  const ActivationSpec given(activation);
  const Activation sigma = given.sigma();
  if (n == 0) return f;
  for_network(num_threads, net, n,
              [&](const Team& team) { network_outputs(net, sigma, n, samples, team, out); });
  return f;
}

template <class T>
py::tuple loss_and_grad(const Array<T>& W, const Array<T>& a, const py::tuple& activation,
                        const py::tuple& split, const std::string& loss, bool mean,
                        double weight_decay, double output_penalty, int num_threads) {
  const NetworkView<T> net = network_view(W, a);
  const SplitView<T> view = split_view<T>(split, net.d);
  const Objective<T> objective({loss_by_name(loss), mean, weight_decay, output_penalty}, view);
  const ActivationSpec given(activation);
  const Activation sigma = given.sigma();
  Array<T> grad_W({net.m, net.d});
  Array<T> grad_a(net.m);
  T* gW = grad_W.mutable_data();
  T* ga = grad_a.mutable_data();
  double value = 0;
  for_network(num_threads, net, view.n, [&](const Team& team) {
    value = loss_and_gradient(net, sigma, objective, team, gW, ga);
  });
  return py::make_tuple(value, grad_W, grad_a);
}

template <class T>
Array<T> features(const Array<T>& W, const Array<T>& a, const py::tuple& activation,
                  const Array<T>& x, int num_threads, py::object progress) {
  const NetworkView<T> net = network_view(W, a);
  require(x.ndim() == 2 && x.shape(1) == net.d, "x has the wrong shape");
  const Index n = x.shape(0);
  const ActivationSpec given(activation);
  Array<T> F({n, net.m});
  if (n == 0) return F;
  T* out = F.mutable_data();
  const T* samples = x.data();
  for_network(
      num_threads, net, n,
      [&](const Team& team) { network_features(net, given.sigma(), n, samples, team, out); },
      std::move(progress));
  return F;
}

template <class T>
Array<T> one_step(const Array<T>& W, const Array<T>& a, const py::tuple& activation,
                  const py::tuple& split, bool full, double step_size, int num_threads,
                  py::object progress) {
  const NetworkView<T> net = network_view(W, a);
  const SplitView<T> view = split_view<T>(split, net.d);
  const ActivationSpec given(activation);
  Array<T> after({net.m, net.d});
  T* out = after.mutable_data();
  for_network(
      num_threads, net, view.n,
      [&](const Team& team) {
        first_layer_step(net, given.sigma(), view, full, step_size, team, out);
      },
      std::move(progress));
  return after;
}

template <class T>
void define_gradient(py::module_& m) {
  m.def("outputs", &outputs<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("x").noconvert(), py::arg("num_threads"));
  m.def("features", &features<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("x").noconvert(), py::arg("num_threads"),
        py::arg("progress") = py::none());
  m.def("one_step", &one_step<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("split"), py::arg("full"), py::arg("step_size"),
        py::arg("num_threads"), py::arg("progress") = py::none());
  m.def("loss_and_grad", &loss_and_grad<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("split"), py::arg("loss"), py::arg("mean"),
        py::arg("weight_decay"), py::arg("output_penalty"), py::arg("num_threads"));
}

}  // namespace

void bind_gradient(py::module_& m) {
  define_gradient<double>(m);
  define_gradient<float>(m);
}

}  // namespace featcore::bindings
