// Gradient flow: one call a run, in-place on W and a.
#include <numeric>

#include "columns.hpp"
#include "featcore/flow.hpp"
#include "kernels.hpp"
#include "python_recorder.hpp"
#include "watch.hpp"

namespace featcore::bindings {

namespace {

template <class U>
Array<U> array_of(const std::vector<U>& values) {
  return Array<U>(static_cast<Index>(values.size()), values.data());
}

template <class U>
std::vector<U> vector_of(const py::handle& object, const char* name) {
  if (!py::isinstance<Array<U>>(object))
    throw py::type_error(std::string(name) + " has the wrong type");
  const auto array = py::reinterpret_borrow<Array<U>>(object);
  return {array.data(), array.data() + array.size()};
}

// Numbers first, as one array, so that a state is a mapping of names to arrays.
template <class T>
py::dict state_dict(const EventFlowState<T>& state) {
  py::dict dict;
  dict["numbers"] = array_of(std::vector<double>{state.time, state.step, state.last_step,
                                                 state.ratio, static_cast<double>(state.trusted)});
  dict["W"] = array_of(state.W);
  dict["a"] = array_of(state.a);
  dict["sides"] = array_of(state.sides);
  dict["f"] = array_of(state.f);
  dict["legendre"] = array_of(state.legendre);
  return dict;
}

template <class T>
void read_state(const py::dict& dict, EventFlowState<T>& state) {
  const std::vector<double> numbers = vector_of<double>(dict["numbers"], "numbers");
  require(numbers.size() == 5, "the state has the wrong size");
  state.time = numbers[0];
  state.step = numbers[1];
  state.last_step = numbers[2];
  state.ratio = numbers[3];
  state.trusted = static_cast<int>(numbers[4]);
  state.W = vector_of<T>(dict["W"], "W");
  state.a = vector_of<T>(dict["a"], "a");
  state.sides = vector_of<std::int8_t>(dict["sides"], "sides");
  state.f = vector_of<T>(dict["f"], "f");
  state.legendre = vector_of<double>(dict["legendre"], "legendre");
}

template <class T>
py::dict state_dict(const RungeKuttaState<T>& state) {
  py::dict dict;
  dict["numbers"] = array_of(std::vector<double>{state.time, state.step, state.error_before,
                                                 static_cast<double>(state.taken)});
  dict["W"] = array_of(state.W);
  dict["a"] = array_of(state.a);
  return dict;
}

template <class T>
void read_state(const py::dict& dict, RungeKuttaState<T>& state) {
  const std::vector<double> numbers = vector_of<double>(dict["numbers"], "numbers");
  require(numbers.size() == 4, "the state has the wrong size");
  state.time = numbers[0];
  state.step = numbers[1];
  state.error_before = numbers[2];
  state.taken = static_cast<std::int64_t>(numbers[3]);
  state.W = vector_of<T>(dict["W"], "W");
  state.a = vector_of<T>(dict["a"], "a");
}

py::tuple event_arrays(const std::vector<FlowEvent>& events) {
  std::vector<double> times;
  std::vector<std::int64_t> neurons, samples;
  std::vector<std::int8_t> kinds;
  for (const FlowEvent& event : events) {
    times.push_back(event.time);
    neurons.push_back(event.neuron);
    samples.push_back(event.sample);
    kinds.push_back(static_cast<std::int8_t>(event.kind));
  }
  return py::make_tuple(array_of(times), array_of(neurons), array_of(samples), array_of(kinds));
}

// What a run is given besides its stepper.
template <class T>
struct Setting {
  NetworkView<T> net;
  Activation activation;
  std::vector<Objective<T>> objectives;
  const double* balance;
  std::vector<double> times;
  FlowOptions options;
  py::object state;
  int num_threads;
};

template <class T, class Stepper>
py::dict run_flow(Stepper& stepper, const Setting<T>& setting, Recorder<T>& recorder,
                  PythonMonitor& monitor, T* W_out, T* a_out) {
  if (!setting.state.is_none()) {
    auto state = stepper.state();
    read_state(setting.state.template cast<py::dict>(), state);
    stepper.resume(std::move(state));
  }
  FlowTrace<T> trace;
  FlowRun<T, Stepper> run(stepper, setting.activation, setting.objectives, setting.balance,
                          setting.times, setting.options, recorder, trace);
  std::string status;
  py::object error = py::none();
  int threads = 1;
  try {
    // safe: the core touches buffers only, which the arguments keep alive; callbacks retake the GIL
    const py::gil_scoped_release release;
    const Team team(setting.num_threads, monitor);
    threads = team.threads();
    team.together([&](const Team& gathered) { run(gathered); });
    status = status_name(trace.outcome.status);
  } catch (py::error_already_set& raised) {
    status = "observer_failed";
    error = raised.value();
  }
  if (error.is_none()) {
    monitor.listen();
    error = monitor.error();
    if (!error.is_none()) status = status_name(FlowStatus::interrupted);
  }
  if (!trace.W.empty()) {
    std::copy(trace.W.begin(), trace.W.end(), W_out);
    std::copy(trace.a.begin(), trace.a.end(), a_out);
  }
  const FlowOutcome& outcome = trace.outcome;
  py::dict result;
  result["status"] = status;
  result["time"] = outcome.time;
  result["times"] = array_of(trace.times);
  result["counts"] =
      py::make_tuple(outcome.counts.accepted, outcome.counts.rejected, outcome.counts.evaluations,
                     outcome.counts.crossings, outcome.counts.slidings);
  result["drift"] = outcome.drift;
  result["events"] = event_arrays(trace.events);
  result["state"] = state_dict(stepper.resumable(outcome.time));
  result["num_threads"] = threads;
  result["error"] = error;
  return result;
}

template <class T>
py::dict flow_in_place(Array<T> W, Array<T> a, const std::string& activation, double slope,
                       const py::list& splits, const py::tuple& objective,
                       const Array<double>& balance, const std::string& method,
                       const py::tuple& options, const Array<double>& times,
                       const py::list& column_list, const py::object& state, py::object on_row,
                       py::object progress, int num_threads) {
  const NetworkView<T> net = network_view(W, a);
  const py::list held_splits = held(splits);
  const py::list held_columns = held(column_list);
  const std::vector<SplitView<T>> views = split_views<T>(held_splits, net.d);
  const ObjectiveSpec spec{loss_by_name(objective[0].cast<std::string>()),
                           objective[1].cast<bool>(), objective[2].cast<double>(),
                           objective[3].cast<double>()};
  require(options.size() == 12, "options have the wrong size");
  require(times.ndim() == 1, "times has the wrong shape");
  Setting<T> setting{net,
                     activation_by_name(activation, slope),
                     {},
                     vector_data(balance, net.m, "balance"),
                     {times.data(), times.data() + times.size()},
                     {},
                     state,
                     num_threads};
  for (const SplitView<T>& view : views) setting.objectives.emplace_back(spec, view);
  FlowOptions& flow = setting.options;
  flow.start = options[0].cast<double>();
  flow.end = options[1].cast<double>();
  const double rtol = options[2].cast<double>();
  const double atol = options[3].cast<double>();
  const double step_size = options[4].cast<double>();
  const Rates rates{options[5].cast<double>(), options[6].cast<double>()};
  flow.stop = {options[7].cast<double>(), options[8].cast<double>(), options[9].cast<double>()};
  flow.max_steps = options[10].cast<std::int64_t>();
  flow.max_events = options[11].cast<std::int64_t>();
  std::vector<std::int64_t> positions(setting.times.size());
  std::iota(positions.begin(), positions.end(), std::int64_t{0});
  std::vector<std::int64_t> rows(setting.times.size() + 1);
  PythonRecorder<T> recorder(
      positions,
      columns<T>(held_columns, net, views, setting.activation, static_cast<Index>(rows.size())),
      rows.data(), std::move(on_row));
  PythonMonitor monitor(std::move(progress));
  T* W_out = W.mutable_data();
  T* a_out = a.mutable_data();
  const Objective<T>& descended = setting.objectives.front();
  if (method == "event") {
    EventFlow<T> stepper(net, setting.activation, descended, {rtol, atol, rates});
    return run_flow(stepper, setting, recorder, monitor, W_out, a_out);
  }
  RungeKutta<T> stepper(net, setting.activation, descended,
                        {runge_kutta_by_name(method), step_size, rtol, atol, rates});
  return run_flow(stepper, setting, recorder, monitor, W_out, a_out);
}

template <class T>
void define(py::module_& m) {
  m.def("flow", &flow_in_place<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("slope"), py::arg("splits"), py::arg("objective"),
        py::arg("balance").noconvert(), py::arg("method"), py::arg("options"),
        py::arg("times").noconvert(), py::arg("columns"), py::arg("state"), py::arg("on_row"),
        py::arg("progress"), py::arg("num_threads"));
}

}  // namespace

void bind_flow(py::module_& m) {
  define<double>(m);
  define<float>(m);
}

}  // namespace featcore::bindings
