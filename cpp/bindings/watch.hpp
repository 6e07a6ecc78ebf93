// A monitor that listens to Python: signals (Ctrl-C) and a progress callback.
#pragma once

#include <cstdint>
#include <optional>

#include "featcore/float_state.hpp"
#include "featcore/monitor.hpp"
#include "pybind11.hpp"

namespace featcore::bindings {

// Lives while the GIL is released around the core; takes it for each poll.
class PythonMonitor final : public Monitor {
 public:
  // `progress` is called with the position, or with the percentage of a call that is done.
  explicit PythonMonitor(py::object progress, bool in_percent = false)
      : progress_(std::move(progress)), in_percent_(in_percent) {}

  // Once more, with the GIL, after the core has ended: a signal of its last milliseconds is of this
  // run.
  void listen() {
    if (!error_) poll();
  }

  // What a signal handler or the progress callback raised, if anything: None otherwise.
  py::object error() const { return error_ ? error_->value() : py::none(); }

 protected:
  bool poll() override {
    const py::gil_scoped_acquire gil;
    const DefaultFloats floats;  // whatever is called sets
    try {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (!progress_.is_none())
        progress_(in_percent_ ? static_cast<std::int64_t>(100 * fraction()) : position);
    } catch (py::error_already_set& error) {
      error_.emplace(std::move(error));
      return false;
    }
    return true;
  }

 private:
  py::object progress_;
  bool in_percent_;
  std::optional<py::error_already_set> error_;
};

}  // namespace featcore::bindings
