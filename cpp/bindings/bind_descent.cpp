// Gradient descent: one call a run, in-place on W and a.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "columns.hpp"
#include "featcore/descent.hpp"
#include "featcore/form.hpp"
#include "instances.hpp"
#include "memory.hpp"
#include "python_recorder.hpp"
#include "watch.hpp"

namespace featcore::bindings {

namespace {

// A form's state from a dict of arrays, and back.
template <class T>
FormState<T> form_state(const py::dict& dict) {
  FormState<T> state;
  for (const auto& [name, value] : dict) {
    if (!py::isinstance<Array<T>>(value)) throw py::type_error("a state array has the wrong type");
    const auto array = py::reinterpret_borrow<Array<T>>(value);
    require(array.ndim() == 2, "a state array must be a matrix");
    state.push_back({name.template cast<std::string>(),
                     array.shape(0),
                     array.shape(1),
                     {array.data(), array.data() + array.size()}});
  }
  return state;
}

template <class T>
py::dict state_dict(FormState<T>&& state) {
  py::dict dict;
  for (FormArray<T>& array : state) {
    dict[py::str(array.name)] = Array<T>({array.rows, array.columns}, array.values.data());
    array.values = std::vector<T>();
  }
  return dict;
}

template <class T>
py::tuple descend_in_place(Array<T> W, Array<T> a, const py::tuple& activation,
                           const py::list& splits, const py::tuple& objective,
                           const Array<double>& balance, const py::tuple& options,
                           const Array<std::int64_t>& schedule, const py::list& column_list,
                           Array<std::int64_t> steps, py::object on_row, py::object progress,
                           int num_threads, const std::string& form_name, const py::dict& state,
                           double memory, const py::tuple& batches) {
  const NetworkView<T> net = network_view(W, a);
  T* W_out = W.mutable_data();
  T* a_out = a.mutable_data();
  const ActivationSpec given(activation);
  const Activation sigma = given.sigma();
  const py::list held_splits = held(splits);
  const py::list held_columns = held(column_list);
  const std::vector<SplitView<T>> views = split_views<T>(held_splits, net.d);
  const ObjectiveSpec spec{loss_by_name(objective[0].cast<std::string>()),
                           objective[1].cast<bool>(), objective[2].cast<double>(),
                           objective[3].cast<double>()};
  std::vector<Objective<T>> objectives;
  objectives.reserve(views.size());
  for (const SplitView<T>& view : views) objectives.emplace_back(spec, view);
  require(options.size() == 8, "options have the wrong size");
  DescentOptions settings;
  settings.step_size = options[0].cast<double>();
  settings.first_step = options[1].cast<std::int64_t>();
  settings.last_step = options[2].cast<std::int64_t>();
  settings.rates = {options[3].cast<double>(), options[4].cast<double>()};
  settings.weight_decay = spec.weight_decay;
  settings.stop = {options[5].cast<double>(), options[6].cast<double>(), options[7].cast<double>()};
  const Index batch_size = batches[0].cast<Index>();  // 0: all samples
  const std::uint64_t batch_seed = batches[1].cast<std::uint64_t>();
  require(batch_size == 0 || form_name == "primal", "mini-batches need the primal form");
  const double* balance_data = vector_data(balance, net.m, "balance");
  require(schedule.ndim() == 1 && steps.ndim() == 1 && steps.shape(0) == schedule.shape(0) + 1,
          "steps has the wrong shape");
  PythonRecorder<T> recorder({schedule.data(), schedule.data() + schedule.size()},
                             columns<T>(held_columns, net, views, sigma, steps.shape(0)),
                             steps.mutable_data(), std::move(on_row));
  PythonMonitor monitor(std::move(progress));
  FormState<T> old_state = form_state<T>(state);
  const std::vector<T>* start_W = nullptr;
  for (const FormArray<T>& array : old_state)
    if (array.name == "start") start_W = &array.values;
  require(start_W == nullptr || static_cast<Index>(start_W->size()) == net.m * net.d,
          "the state belongs to another network");
  const NetworkView<T> start{net.m, net.d, start_W ? start_W->data() : net.W, net.a};
  ChosenForm<T> chosen;
  DescentOutcome outcome;
  outcome.step = settings.first_step;
  std::string status;
  py::object error = py::none();
  int threads = 1;
  FormState<T> new_state;
  try {
    // safe: the core touches buffers only, which the arguments keep alive; callbacks retake the GIL
    const py::gil_scoped_release release;
    const DefaultFloats floats;
    const Team whole_team(num_threads, monitor);
    try {
      std::vector<SplitView<T>> splits_of_form = views;
      double more = 0;
      if (batch_size >
          0) {  // what is observed follows the batch, whose place the first samples hold
        SplitView<T> batch = views.front();
        batch.n = std::min(batch_size, batch.n);
        splits_of_form.insert(splits_of_form.begin(), batch);
        more = static_cast<double>(sizeof(T)) * static_cast<double>(batch.n * (batch.d + 2)) +
               static_cast<double>(sizeof(Index)) * static_cast<double>(views.front().n);
      }
      chosen = choose_form(form_name, start, sigma, splits_of_form, recorder.needs_signs(),
                           old_state.empty() ? nullptr : &old_state, whole_team,
                           [&](const std::string& name, double bytes) {
                             if (bytes + more > memory) throw DoesNotFit{name, bytes + more};
                           });
      for (FormArray<T>& array : old_state)
        if (array.name != "start") array.values = std::vector<T>();  // the form has its own
      Form<T>& form = *chosen.form;
      const Team team = whole_team.for_work(form.flops());
      threads = team.threads();
      team.together([&](const Team& gathered) {
        if (batch_size == 0) {
          outcome = descend(form, objectives, balance_data, settings, recorder, gathered);
        } else {
          MiniBatches<T> samples(objectives.front(), batch_size, batch_seed);
          outcome = descend(form, samples, objectives, balance_data, settings, recorder, gathered);
        }
      });
      status = status_name(outcome.status);
    } catch (const Stopped&) {  // before the first step
      status = status_name(Status::interrupted);
    }
  } catch (py::error_already_set& raised) {
    outcome.step = monitor.position;
    status = "observer_failed";
    error = raised.value();
  } catch (const DoesNotFit& much) {
    raise_does_not_fit(much, net, views[0].n, memory);
  }
  if (error.is_none()) {
    monitor.listen();
    error = monitor.error();
    if (!error.is_none()) status = status_name(Status::interrupted);
  }
  std::string form_used = form_name;
  if (chosen.form) {
    const py::gil_scoped_release release;
    const DefaultFloats floats;
    Monitor quiet;  // a stop was answered: what was computed is not lost
    new_state = chosen.form->state();
    const Weights<T>& last = chosen.form->weights();
    std::copy_n(last.head(), net.m, a_out);
    last.write(Team(num_threads, quiet), W_out);
    form_used = chosen.form->name();
    chosen.form.reset();  // before its state is copied once more
  }
  return py::make_tuple(status, outcome.step, recorder.rows(), form_used, threads, error,
                        state_dict(std::move(new_state)));
}

template <class T>
void define_descent(py::module_& m) {
  m.def("descend", &descend_in_place<T>, py::arg("W").noconvert(), py::arg("a").noconvert(),
        py::arg("activation"), py::arg("splits"), py::arg("objective"),
        py::arg("balance").noconvert(), py::arg("options"), py::arg("schedule").noconvert(),
        py::arg("columns"), py::arg("steps").noconvert(), py::arg("on_row"), py::arg("progress"),
        py::arg("num_threads"), py::arg("form") = "primal", py::arg("state") = py::dict(),
        py::arg("memory") = std::numeric_limits<double>::infinity(),
        py::arg("batches") = py::make_tuple(0, 0));
}

}  // namespace

void bind_descent(py::module_& m) {
  define_descent<double>(m);
  define_descent<float>(m);
}

}  // namespace featcore::bindings
