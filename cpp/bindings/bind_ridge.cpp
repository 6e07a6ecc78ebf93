// Ridge regression on features: second moments, banded forms, products with a few vectors.
#include <string>
#include <utility>

#include "arrays.hpp"
#include "call.hpp"
#include "featcore/banded_form.hpp"
#include "featcore/feature_products.hpp"
#include "featcore/second_moments.hpp"

namespace featcore::bindings {

namespace {

template <class T>
Array<double> moments(const Array<T>& F, bool of_columns, int num_threads, py::object progress) {
  require(F.ndim() == 2 && F.size() > 0, "F must be a non-empty matrix");
  const Index n = F.shape(0);
  const Index m = F.shape(1);
  const Index size = of_columns ? m : n;
  Array<double> G({size, size});
  double* out = G.mutable_data();
  const T* features = F.data();
  const double entries = static_cast<double>(size) * static_cast<double>(size);
  without_gil(
      num_threads, entries * static_cast<double>(of_columns ? n : m),
      {sizeof(double) * entries, "n=" + std::to_string(n) + ", m=" + std::to_string(m)},
      [&](const Team& team) { second_moments(n, m, features, of_columns, team, out); },
      std::move(progress));
  return G;
}

// C F^T, or C F.
template <class T>
Array<double> feature_products(const Array<T>& F, const Array<double>& C, bool of_samples,
                               int num_threads) {
  require(F.ndim() == 2 && C.ndim() == 2, "F and C must be matrices");
  const Index n = F.shape(0);
  const Index m = F.shape(1);
  const Index k = C.shape(0);
  require(C.shape(1) == (of_samples ? n : m), "C has the wrong number of columns");
  Array<double> P({k, of_samples ? m : n});
  double* out = P.mutable_data();
  const T* features = F.data();
  const double* vectors = C.data();
  const double size = static_cast<double>(n) * static_cast<double>(m);
  without_gil(
      num_threads, 2.0 * size * static_cast<double>(k),
      {8.0 * static_cast<double>(P.size()), "n=" + std::to_string(n) + ", m=" + std::to_string(m)},
      [&](const Team& team) {
        if (of_samples)
          combinations(n, m, features, k, vectors, team, out);
        else
          predictions(n, m, features, k, vectors, team, out);
      });
  return P;
}

py::object shifted_solves(const Array<double>& G, const Array<double>& shifts,
                          const Array<double>& right, int num_threads, py::object progress) {
  const Index size = right.size();
  require(G.ndim() == 2 && G.shape(0) == size && G.shape(1) == size && size > 0,
          "G and right do not fit");
  const Index count = shifts.size();
  Array<double> solutions({count, size});
  double* out = solutions.mutable_data();
  const double* gram = G.data();
  const double* s = shifts.data();
  const double* r = right.data();
  bool positive = false;
  const double n = static_cast<double>(size);
  without_gil(
      num_threads, n * n * n,
      {BandedForm::bytes(size, num_threads), "size=" + std::to_string(size)},
      [&](const Team& team) {
        positive = BandedForm(size, gram, team).solve(count, s, r, team, out);
      },
      std::move(progress));
  if (!positive) return py::none();
  return std::move(solutions);
}

template <class T>
void define_ridge(py::module_& m) {
  m.def("second_moments", &moments<T>, py::arg("F").noconvert(), py::arg("of_columns"),
        py::arg("num_threads"), py::arg("progress") = py::none());
  m.def("feature_products", &feature_products<T>, py::arg("F").noconvert(),
        py::arg("C").noconvert(), py::arg("of_samples"), py::arg("num_threads"));
}

}  // namespace

void bind_ridge(py::module_& m) {
  define_ridge<double>(m);
  define_ridge<float>(m);
  m.def("shifted_solves", &shifted_solves, py::arg("G").noconvert(), py::arg("shifts").noconvert(),
        py::arg("right").noconvert(), py::arg("num_threads"), py::arg("progress") = py::none());
}

}  // namespace featcore::bindings
