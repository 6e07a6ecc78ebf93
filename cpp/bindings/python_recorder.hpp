// A recorder that calls a Python function for every row.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "featcore/float_state.hpp"
#include "featcore/recorder.hpp"

namespace featcore::bindings {

// Hands every row to a Python callable (row, step, W, a, exponents) with copies of the weights;
// exponents is None but for neurons with scales of their own.
template <class T>
class PythonRecorder final : public Recorder<T> {
 public:
  PythonRecorder(std::vector<std::int64_t> schedule, std::vector<Column> columns,
                 std::int64_t* steps, py::object callback)
      : Recorder<T>(std::move(schedule), std::move(columns), steps),
        callback_(std::move(callback)),
        calls_(!callback_.is_none()) {}

 protected:
  void on_row(Index row, std::int64_t step, const Weights<T>& weights, const Team& team) override {
    if (!calls_) return;
    const NetworkView<T> net = weights.rows(team);
    const py::gil_scoped_acquire gil;
    const DefaultFloats floats;  // whatever is called sets
    const std::int64_t* const k = weights.exponents();
    const py::object exponents = k ? py::object(Array<std::int64_t>(net.m, k)) : py::none();
    callback_(row, step, Array<T>({net.m, net.d}, net.W), Array<T>(net.m, net.a), exponents);
  }

 private:
  py::object callback_;
  bool calls_;  // asked without the GIL
};

}  // namespace featcore::bindings
