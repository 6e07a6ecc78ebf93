// Gradient flow: one call a run, in-place on W and a.
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>

#include "columns.hpp"
#include "featcore/event_flow.hpp"
#include "featcore/flow.hpp"
#include "featcore/flow_memory.hpp"
#include "featcore/hinge_flow.hpp"
#include "featcore/rounded_flow.hpp"
#include "featcore/runge_kutta.hpp"
#include "instances.hpp"
#include "memory.hpp"
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
  dict["numbers"] = array_of(std::vector<double>{
      state.time, state.step, state.last_step, state.ratio, static_cast<double>(state.trusted),
      static_cast<double>(state.rest), static_cast<double>(state.doublings)});
  dict["W"] = array_of(state.W);
  dict["a"] = array_of(state.a);
  dict["sides"] = array_of(state.sides);
  dict["f"] = array_of(state.f);
  dict["legendre"] = array_of(state.legendre);
  if (!state.exponents.empty()) {
    dict["exponents"] = array_of(state.exponents);
    dict["fastest"] = array_of(std::vector<double>{state.fastest});
  }
  return dict;
}

template <class T>
void read_state(const py::dict& dict, EventFlowState<T>& state) {
  const std::vector<double> numbers = vector_of<double>(dict["numbers"], "numbers");
  require(numbers.size() == 7, "the state has the wrong size");
  state.time = numbers[0];
  state.step = numbers[1];
  state.last_step = numbers[2];
  state.ratio = numbers[3];
  state.trusted = static_cast<int>(numbers[4]);
  state.rest = static_cast<T>(numbers[5]);
  state.doublings = static_cast<int>(numbers[6]);
  state.W = vector_of<T>(dict["W"], "W");
  state.a = vector_of<T>(dict["a"], "a");
  state.sides = vector_of<std::int8_t>(dict["sides"], "sides");
  state.f = vector_of<T>(dict["f"], "f");
  state.legendre = vector_of<double>(dict["legendre"], "legendre");
  if (dict.contains("exponents")) {
    state.exponents = vector_of<std::int64_t>(dict["exponents"], "exponents");
    const std::vector<double> fastest = vector_of<double>(dict["fastest"], "fastest");
    require(fastest.size() == 1, "the state has the wrong size");
    state.fastest = fastest[0];
  }
}

template <class T>
py::dict state_dict(const HingeFlowState<T>& state) {
  py::dict dict;
  dict["numbers"] = array_of(std::vector<double>{state.time, state.step});
  dict["w"] = array_of(state.w);
  dict["heads"] = array_of(state.heads);
  dict["z"] = array_of(state.z);
  dict["sides"] = array_of(state.sides);
  dict["rests"] = array_of(state.rests);
  dict["demands"] = array_of(state.demands);
  dict["eta"] = array_of(state.eta);
  dict["shifts"] = array_of(state.shifts);
  dict["balances"] = array_of(state.balances);
  dict["f"] = array_of(state.f);
  return dict;
}

template <class T>
void read_state(const py::dict& dict, HingeFlowState<T>& state) {
  const std::vector<double> numbers = vector_of<double>(dict["numbers"], "numbers");
  require(numbers.size() == 2, "the state has the wrong size");
  state.time = numbers[0];
  state.step = numbers[1];
  state.w = vector_of<double>(dict["w"], "w");
  state.heads = vector_of<double>(dict["heads"], "heads");
  state.z = vector_of<double>(dict["z"], "z");
  state.sides = vector_of<std::int8_t>(dict["sides"], "sides");
  state.rests = vector_of<std::int8_t>(dict["rests"], "rests");
  state.demands = vector_of<std::int8_t>(dict["demands"], "demands");
  state.eta = vector_of<double>(dict["eta"], "eta");
  state.shifts = vector_of<double>(dict["shifts"], "shifts");
  state.balances = vector_of<double>(dict["balances"], "balances");
  state.f = vector_of<T>(dict["f"], "f");
}

template <class T>
py::dict state_dict(const RungeKuttaState<T>& state) {
  py::dict dict;
  dict["numbers"] = array_of(std::vector<double>{state.time, state.step, state.error_before,
                                                 static_cast<double>(state.taken),
                                                 static_cast<double>(state.rest)});
  dict["W"] = array_of(state.W);
  dict["a"] = array_of(state.a);
  return dict;
}

template <class T>
void read_state(const py::dict& dict, RungeKuttaState<T>& state) {
  const std::vector<double> numbers = vector_of<double>(dict["numbers"], "numbers");
  require(numbers.size() == 5, "the state has the wrong size");
  state.time = numbers[0];
  state.step = numbers[1];
  state.error_before = numbers[2];
  state.taken = static_cast<std::int64_t>(numbers[3]);
  state.rest = static_cast<T>(numbers[4]);
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

// A matrix of a state with as many columns as a neuron has inputs.
template <class T>
Array<T> matrix_of(const py::dict& dict, const char* name, Index columns) {
  if (!dict.contains(name) || !py::isinstance<Array<T>>(dict[name]))
    throw py::type_error(std::string("the state has no ") + name);
  auto array = py::reinterpret_borrow<Array<T>>(dict[name]);
  require(array.ndim() == 2 && array.shape(0) > 0 && array.shape(1) == columns,
          std::string("the ") + name + " of the state has the wrong shape");
  return array;
}

// What a run is given besides its stepper.
template <class T>
struct Setting {
  NetworkView<T> net;
  Activation activation;
  std::vector<SplitView<T>> views;
  ObjectiveSpec spec;
  const double* balance;
  std::optional<NeuronScales> scales;
  const double* sizes;  // with scales: a_j^2 + |w_j|^2 at the start of the run
  std::vector<double> times;
  FlowOptions options;
  std::string method;
  std::string form;
  py::object state;
  double memory;
  int num_threads;
};

// A stepper that is yet to be made, in the coordinates of a frame.
template <class T>
struct AnyStepper {
  std::function<std::unique_ptr<FlowStepper<T>>(const FlowFrame<T>&, const Objective<T>&)> make;
  std::function<py::dict(const FlowStepper<T>&, double time)> state;
};

// `make(frame, objective)` returns it new; it goes on from `state`, if that is not None.
template <class T, class Make>
AnyStepper<T> any_stepper(const py::object& state, Make make) {
  using Made = decltype(make(std::declval<const FlowFrame<T>&>(), std::declval<Objective<T>&>()));
  using Stepper = typename Made::element_type;
  std::optional<std::decay_t<decltype(std::declval<Stepper>().state())>> old;
  if (!state.is_none()) read_state(state.cast<py::dict>(), old.emplace());
  return {[make, old = std::move(old)](const FlowFrame<T>& frame,
                                       const Objective<T>& objective) mutable {
            Made stepper = make(frame, objective);
            if (old) stepper->resume(std::move(*old));
            return stepper;
          },
          [](const FlowStepper<T>& stepper, double time) {
            return state_dict(static_cast<const Stepper&>(stepper).resumable(time));
          }};
}

// Carried in double: roundings of float32 would decide on events, and make thousands of one.
template <class T>
auto event_flow(const Setting<T>& setting, const EventFlowOptions& options,
                const FlowFrame<T>& frame, const Objective<T>& descended) {
  const SplitView<T>& given = setting.views.front();
  if constexpr (std::is_same_v<T, double>) {
    return std::make_unique<EventFlow<double>>(frame.start(), setting.activation, descended,
                                               options, &given);
  } else {
    return std::make_unique<RoundedFlow<T, EventFlow<double>>>(
        frame.start(), descended, given,
        [&](const NetworkView<double>& net, const Objective<double>& objective,
            const SplitView<double>& in_double) {
          return std::make_unique<EventFlow<double>>(net, setting.activation, objective, options,
                                                     &in_double);
        });
  }
}

template <class T>
py::dict run_flow(const Setting<T>& setting, const AnyStepper<T>& kind, Recorder<T>& recorder,
                  PythonMonitor& monitor, T* W_out, T* a_out) {
  const NetworkView<T>& net = setting.net;
  NetworkView<T> start = net;
  std::vector<T> old_basis;
  std::optional<Array<T>> old_start;
  if (!setting.state.is_none() && setting.form == "projected") {
    const auto dict = setting.state.template cast<py::dict>();
    old_start = matrix_of<T>(dict, "start", net.d);
    require(old_start->shape(0) == net.m, "the start of the state has the wrong shape");
    start.W = old_start->data();
    const Array<T> basis = matrix_of<T>(dict, "basis", net.d);
    old_basis.assign(basis.data(), basis.data() + basis.size());
  }
  std::vector<Objective<T>> objectives;
  objectives.reserve(setting.views.size());
  for (const SplitView<T>& view : setting.views) objectives.emplace_back(setting.spec, view);
  std::unique_ptr<FlowFrame<T>> frame;
  std::optional<Objective<T>> descended;
  std::unique_ptr<FlowStepper<T>> stepper;
  FlowTrace<T> trace;
  trace.outcome.time = setting.options.start;
  std::string status = status_name(FlowStatus::interrupted);
  py::object error = py::none();
  int threads = 1;
  try {
    // safe: the core touches buffers only, which the arguments keep alive; callbacks retake the GIL
    const py::gil_scoped_release release;
    const DefaultFloats floats;
    const Team team(setting.num_threads, monitor);
    threads = team.threads();
    try {
      frame = choose_frame(
          setting.form, start, setting.activation, setting.views, recorder.needs_signs(),
          std::move(old_basis), team, [&](const std::string& form, Index coordinates) {
            const double bytes =
                flow_memory(form, setting.method, net, setting.views, coordinates, threads);
            if (bytes > setting.memory) throw DoesNotFit{form, bytes};
          });
      if (setting.scales)
        frame = scale_frame(std::move(frame), *setting.scales, setting.sizes, setting.activation,
                            setting.views, recorder.needs_signs(), team);
      descended.emplace(setting.spec, frame->samples());
      stepper = kind.make(*frame, *descended);
      FlowRun<T> run(*stepper, *frame, objectives, setting.balance, setting.times, setting.options,
                     recorder, trace);
      team.together([&](const Team& gathered) { run(gathered); });
      status = status_name(trace.outcome.status);
    } catch (const Stopped&) {  // before the first step
      status = status_name(FlowStatus::interrupted);
    }
  } catch (py::error_already_set& raised) {
    status = "observer_failed";
    error = raised.value();
  } catch (const DoesNotFit& much) {
    raise_does_not_fit(much, net, setting.views.front().n, setting.memory);
  }
  if (error.is_none()) {
    monitor.listen();
    error = monitor.error();
    if (!error.is_none()) status = status_name(FlowStatus::interrupted);
  }
  const FlowOutcome& outcome = trace.outcome;
  py::dict state;
  if (stepper) {  // before W, which the frame may start from, is written to
    state = kind.state(*stepper, outcome.time);
    if (const std::vector<T>& basis = frame->basis(); !basis.empty()) {
      state["start"] = old_start ? *old_start : Array<T>({net.m, net.d}, start.W);
      state["basis"] = Array<T>({frame->start().d, net.d}, basis.data());
    }
  }
  if (!trace.W.empty()) {
    const py::gil_scoped_release release;
    const DefaultFloats floats;
    Monitor quiet;  // a stop was answered: what was computed is not lost
    const NetworkView<T> last{net.m, frame->start().d, trace.W.data(), trace.a.data()};
    frame->write({last, trace.rest, trace.exponents.data()}, Team(setting.num_threads, quiet),
                 W_out);
    std::copy(trace.a.begin(), trace.a.end(), a_out);
  }
  py::dict result;
  result["status"] = status;
  result["time"] = outcome.time;
  result["times"] = array_of(trace.times);
  result["counts"] =
      py::make_tuple(outcome.counts.accepted, outcome.counts.rejected, outcome.counts.evaluations,
                     outcome.counts.crossings, outcome.counts.slidings);
  result["drift"] = outcome.drift;
  result["events"] = event_arrays(trace.events);
  result["exponents"] = trace.exponents.empty() || trace.W.empty()
                            ? py::object(py::none())
                            : py::object(array_of(trace.exponents));
  result["state"] = state;
  result["form"] = frame ? frame->name() : setting.form;
  result["num_threads"] = threads;
  result["error"] = error;
  return result;
}

template <class T>
py::dict flow_in_place(Array<T> W, Array<T> a, const py::tuple& activation, const py::list& splits,
                       const py::tuple& objective, const Array<double>& balance,
                       const std::string& method, const py::tuple& options,
                       const Array<double>& times, const py::list& column_list,
                       const py::object& state, py::object on_row, py::object progress,
                       int num_threads, const std::string& form, double memory,
                       const py::object& scales) {
  const NetworkView<T> net = network_view(W, a);
  const ActivationSpec given(activation);
  const py::list held_splits = held(splits);
  const py::list held_columns = held(column_list);
  require(options.size() == 12, "options have the wrong size");
  require(times.ndim() == 1, "times has the wrong shape");
  const ObjectiveSpec spec{loss_by_name(objective[0].cast<std::string>()),
                           objective[1].cast<bool>(), objective[2].cast<double>(),
                           objective[3].cast<double>()};
  const bool exact_hinge = method == "event" && spec.loss == Loss::hinge;
  std::optional<NeuronScales> neuron_scales;
  const double* sizes = nullptr;
  if (!scales.is_none()) {
    require(method == "event", "only method 'event' takes scales");
    const auto pair = scales.cast<py::tuple>();
    require(pair.size() == 2, "scales are (log_scale, sizes)");
    if (!py::isinstance<Array<double>>(pair[0]) || !py::isinstance<Array<double>>(pair[1]))
      throw py::type_error("scales have the wrong type");
    neuron_scales.emplace(
        vector_data(py::reinterpret_borrow<Array<double>>(pair[0]), net.m, "log_scale"), net.m);
    sizes = vector_data(py::reinterpret_borrow<Array<double>>(pair[1]), net.m, "sizes");
  }
  Setting<T> setting{net,
                     given.sigma(),
                     split_views<T>(held_splits, net.d),
                     spec,
                     vector_data(balance, net.m, "balance"),
                     std::move(neuron_scales),
                     sizes,
                     {times.data(), times.data() + times.size()},
                     {},
                     exact_hinge ? "hinge" : method,
                     form,
                     state,
                     memory,
                     num_threads};
  FlowOptions& flow = setting.options;
  flow.start = options[0].cast<double>();
  flow.end = options[1].cast<double>();
  const double rtol = options[2].cast<double>();
  const double atol = options[3].cast<double>();
  const double step_size = options[4].cast<double>();
  const Rates rates{options[5].cast<double>(), options[6].cast<double>()};
  flow.moves_W = rates.W != 0;
  flow.stop = {options[7].cast<double>(), options[8].cast<double>(), options[9].cast<double>()};
  flow.max_steps = options[10].cast<std::int64_t>();
  flow.max_events = options[11].cast<std::int64_t>();
  std::vector<std::int64_t> positions(setting.times.size());
  std::iota(positions.begin(), positions.end(), std::int64_t{0});
  std::vector<std::int64_t> rows(setting.times.size() + 1);
  PythonRecorder<T> recorder(positions,
                             columns<T>(held_columns, net, setting.views, setting.activation,
                                        static_cast<Index>(rows.size())),
                             rows.data(), std::move(on_row));
  PythonMonitor monitor(std::move(progress));
  AnyStepper<T> kind;
  if (exact_hinge) {
    kind = any_stepper<T>(state, [&](const FlowFrame<T>& frame, const Objective<T>& descended) {
      return std::make_unique<HingeFlow<T>>(frame.start(), setting.activation, descended,
                                            HingeFlowOptions{rates, frame.zero()},
                                            &setting.views.front());
    });
  } else if (method == "event") {
    kind = any_stepper<T>(state, [&](const FlowFrame<T>& frame, const Objective<T>& descended) {
      const NeuronScales* scaled = setting.scales ? &*setting.scales : nullptr;
      return event_flow(setting, {rtol, atol, rates, frame.zero(), scaled}, frame, descended);
    });
  } else {
    const RungeKuttaMethod named = runge_kutta_by_name(method);
    kind =
        any_stepper<T>(state, [&, named](const FlowFrame<T>& frame, const Objective<T>& descended) {
          return std::make_unique<RungeKutta<T>>(
              frame.start(), setting.activation, descended,
              RungeKuttaOptions{named, step_size, rtol, atol, rates});
        });
  }
  return run_flow(setting, kind, recorder, monitor, W.mutable_data(), a.mutable_data());
}

template <class T>
void define_flow(py::module_& m) {
  m.def("flow", &flow_in_place<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("splits"), py::arg("objective"),
        py::arg("balance").noconvert(), py::arg("method"), py::arg("options"),
        py::arg("times").noconvert(), py::arg("columns"), py::arg("state"), py::arg("on_row"),
        py::arg("progress"), py::arg("num_threads"), py::arg("form") = "primal",
        py::arg("memory") = std::numeric_limits<double>::infinity(),
        py::arg("scales") = py::none());
}

}  // namespace

void bind_flow(py::module_& m) {
  define_flow<double>(m);
  define_flow<float>(m);
}

}  // namespace featcore::bindings
