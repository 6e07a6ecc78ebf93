// One call of the core from Python: signals, progress in percent, and what does not fit.
#pragma once

#include <new>
#include <sstream>
#include <string>
#include <utility>

#include "featcore/parallel.hpp"
#include "watch.hpp"

namespace featcore::bindings {

// What a call takes beyond the arrays that come and go, at most, and for which shape.
struct Needs {
  double bytes = 0;
  std::string shape;
};

// Runs `body(team)` without the GIL; a signal that arrives meanwhile is raised here, and so is what
// did not fit. `work` in flops.
template <class Body>
void without_gil(int num_threads, double work, const Needs& needs, Body&& body,
                 py::object progress = py::none()) {
  PythonMonitor monitor(std::move(progress), true);
  bool stopped = false;
  bool fits = true;
  {
    // safe: `body` touches buffers only, which the arguments keep alive
    const py::gil_scoped_release release;
    const DefaultFloats floats;
    try {
      Team(num_threads, monitor).for_work(work).together(body);
    } catch (const Stopped&) {
      stopped = true;
    } catch (const std::bad_alloc&) {
      fits = false;
    }
  }
  if (!fits) {
    std::ostringstream text;
    text.precision(3);
    text << "this needs up to " << needs.bytes / (1 << 30) << " GiB beyond its data ("
         << needs.shape << "), more than can be had; use fewer samples or neurons, or float32";
    py::set_error(PyExc_MemoryError, text.str().c_str());
    throw py::error_already_set();
  }
  if (stopped) {
    const py::object error = monitor.error();
    PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
    throw py::error_already_set();
  }
}

}  // namespace featcore::bindings
