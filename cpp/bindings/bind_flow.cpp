// Gradient flow: one call a run, in-place on W and a.
#include <numeric>

#include "columns.hpp"
#include "featcore/flow.hpp"
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
EventFlowState<T> state_of(const py::dict& dict) {
  const std::vector<double> numbers = vector_of<double>(dict["numbers"], "numbers");
  require(numbers.size() == 5, "the state has the wrong size");
  EventFlowState<T> state;
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
  return state;
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

template <class T>
py::dict flow_in_place(Array<T> W, Array<T> a, const std::string& activation, double slope,
                       const py::list& splits, const py::tuple& objective,
                       const Array<double>& balance, const py::tuple& options,
                       const Array<double>& times, const py::list& column_list,
                       const py::object& state, py::object on_row, py::object progress,
                       int num_threads) {
  const NetworkView<T> net = network_view(W, a);
  T* W_out = W.mutable_data();
  T* a_out = a.mutable_data();
  const Activation sigma = activation_by_name(activation, slope);
  const py::list held_splits = held(splits);
  const py::list held_columns = held(column_list);
  const std::vector<SplitView<T>> views = split_views<T>(held_splits, net.d);
  const ObjectiveSpec spec{loss_by_name(objective[0].cast<std::string>()),
                           objective[1].cast<bool>(), objective[2].cast<double>(),
                           objective[3].cast<double>()};
  std::vector<Objective<T>> objectives;
  objectives.reserve(views.size());
  for (const SplitView<T>& view : views) objectives.emplace_back(spec, view);
  require(options.size() == 11, "options have the wrong size");
  FlowOptions settings;
  settings.start = options[0].cast<double>();
  settings.end = options[1].cast<double>();
  const EventFlowOptions accuracy{options[2].cast<double>(),
                                  options[3].cast<double>(),
                                  {options[4].cast<double>(), options[5].cast<double>()}};
  settings.stop = {options[6].cast<double>(), options[7].cast<double>(), options[8].cast<double>()};
  settings.max_steps = options[9].cast<std::int64_t>();
  settings.max_events = options[10].cast<std::int64_t>();
  const double* balance_data = vector_data(balance, net.m, "balance");
  require(times.ndim() == 1, "times has the wrong shape");
  const std::vector<double> schedule(times.data(), times.data() + times.size());
  std::vector<std::int64_t> positions(schedule.size());
  std::iota(positions.begin(), positions.end(), std::int64_t{0});
  std::vector<std::int64_t> rows(schedule.size() + 1);
  PythonRecorder<T> recorder(
      positions, columns<T>(held_columns, net, views, sigma, static_cast<Index>(rows.size())),
      rows.data(), std::move(on_row));
  PythonMonitor monitor(std::move(progress));
  EventFlow<T> stepper(net, sigma, objectives.front(), accuracy);
  if (!state.is_none()) stepper.resume(state_of<T>(state.cast<py::dict>()));
  FlowTrace<T> trace;
  FlowRun<T, EventFlow<T>> run(stepper, sigma, objectives, balance_data, schedule, settings,
                               recorder, trace);
  std::string status;
  py::object error = py::none();
  int threads = 1;
  try {
    // safe: the core touches buffers only, which the arguments keep alive; callbacks retake the GIL
    const py::gil_scoped_release release;
    const Team team(num_threads, monitor);
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
void define(py::module_& m) {
  m.def("flow", &flow_in_place<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("slope"), py::arg("splits"), py::arg("objective"),
        py::arg("balance").noconvert(), py::arg("options"), py::arg("times").noconvert(),
        py::arg("columns"), py::arg("state"), py::arg("on_row"), py::arg("progress"),
        py::arg("num_threads"));
}

}  // namespace

void bind_flow(py::module_& m) {
  define<double>(m);
  define<float>(m);
}

}  // namespace featcore::bindings
