// Outputs, and the objective with its gradient, of one network on one split.
#include <new>
#include <sstream>

#include "arrays.hpp"
#include "featcore/gradient.hpp"
#include "instances.hpp"
#include "watch.hpp"

namespace featcore::bindings {

namespace {

// What is taken beyond the arrays that come and go, at most, in bytes.
template <class T>
double memory(const NetworkView<T>& net, Index n) {
  constexpr double kTiles = 64.0 * 1024 * 1024;
  const double m = static_cast<double>(net.m);
  return kTiles + static_cast<double>(n) * m / 8 + 2 * sizeof(T) * m * static_cast<double>(net.d);
}

// Runs `body(team)` without the GIL; a signal that arrives meanwhile is raised here, and so is what
// did not fit.
template <class T, class Body>
void without_gil(int num_threads, const NetworkView<T>& net, Index n, Body&& body) {
  PythonMonitor monitor{py::none()};
  bool stopped = false;
  bool fits = true;
  {
    // safe: `body` touches buffers only, which the arguments keep alive
    const py::gil_scoped_release release;
    const DefaultFloats floats;
    try {
      Team(num_threads, monitor).for_work(kernel_flops(n, net.d, net.m)).together(body);
    } catch (const Stopped&) {
      stopped = true;
    } catch (const std::bad_alloc&) {
      fits = false;
    }
  }
  if (!fits) {
    std::ostringstream text;
    text.precision(3);
    text << "this needs up to " << memory(net, n) / (1 << 30) << " GiB beyond its data (n=" << n
         << ", d=" << net.d << ", m=" << net.m << "), more than can be had; use fewer samples or "
         << "neurons, or float32";
    py::set_error(PyExc_MemoryError, text.str().c_str());
    throw py::error_already_set();
  }
  if (stopped) {
    const py::object error = monitor.error();
    PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
    throw py::error_already_set();
  }
}

template <class T>
Array<T> outputs(const Array<T>& W, const Array<T>& a, const std::string& activation, double slope,
                 const Array<T>& x, int num_threads) {
  const NetworkView<T> net = network_view(W, a);
  require(x.ndim() == 2 && x.shape(1) == net.d, "x has the wrong shape");
  Array<T> f(x.shape(0));
  T* out = f.mutable_data();
  const Index n = x.shape(0);
  const T* samples = x.data();
  const Activation sigma = activation_by_name(activation, slope);
  if (n == 0) return f;
  without_gil(num_threads, net, n,
              [&](const Team& team) { network_outputs(net, sigma, n, samples, team, out); });
  return f;
}

template <class T>
py::tuple loss_and_grad(const Array<T>& W, const Array<T>& a, const std::string& activation,
                        double slope, const py::tuple& split, const std::string& loss, bool mean,
                        double weight_decay, double output_penalty, int num_threads) {
  const NetworkView<T> net = network_view(W, a);
  const SplitView<T> view = split_view<T>(split, net.d);
  const Objective<T> objective({loss_by_name(loss), mean, weight_decay, output_penalty}, view);
  const Activation sigma = activation_by_name(activation, slope);
  Array<T> grad_W({net.m, net.d});
  Array<T> grad_a(net.m);
  T* gW = grad_W.mutable_data();
  T* ga = grad_a.mutable_data();
  double value = 0;
  without_gil(num_threads, net, view.n, [&](const Team& team) {
    value = loss_and_gradient(net, sigma, objective, team, gW, ga);
  });
  return py::make_tuple(value, grad_W, grad_a);
}

template <class T>
void define(py::module_& m) {
  m.def("outputs", &outputs<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("slope"), py::arg("x").noconvert(), py::arg("num_threads"));
  m.def("loss_and_grad", &loss_and_grad<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("slope"), py::arg("split"), py::arg("loss"), py::arg("mean"),
        py::arg("weight_decay"), py::arg("output_penalty"), py::arg("num_threads"));
}

}  // namespace

void bind_gradient(py::module_& m) {
  define<double>(m);
  define<float>(m);
}

}  // namespace featcore::bindings
