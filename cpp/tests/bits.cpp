// Prints what kernels compute, bit by bit. The serial and the parallel build must print the same.
#include <cstdio>

#include "featcore/spectrum.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

template <class T>
static std::uint64_t digest(const std::vector<T>& values) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (std::size_t k = 0; k < values.size() * sizeof(T); ++k)
    hash = (hash ^ bytes[k]) * 0x100000001b3u;
  return hash;
}

template <class T>
static void print_bits() {
  for (const Named& activation : {homogeneous_activations()[1], smooth_activations()[2]})
    for (const Index n : {1, 100, 513, 1030})
      for (const Index d : {1, 3, 33})
        for (const Index m : {1, 65, 300}) {
          const Problem<T> p = random_problem<T>(n, d, m);
          const Computed<T> got(p, activation, p.y, 3);
          Monitor monitor;
          const std::vector<double> values = singular_values(p.net(), 3, Team(3, monitor));
          std::printf("%s %zu (%td, %td, %td): %016llx %016llx %016llx %016llx\n",
                      activation.name.c_str(), sizeof(T), n, d, m,
                      static_cast<unsigned long long>(digest(got.f)),
                      static_cast<unsigned long long>(digest(got.h)),
                      static_cast<unsigned long long>(digest(got.g)),
                      static_cast<unsigned long long>(digest(values)));
        }
}

int main() {
  print_bits<double>();
  print_bits<float>();
}
