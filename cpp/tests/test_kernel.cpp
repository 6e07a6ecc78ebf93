#include <algorithm>

#include "check.hpp"
#include "featcore/gradient.hpp"
#include "featcore/kernel.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

struct Shape {
  Index n, d, m;
};

// Every remainder of samples, inputs (by blocks of 2 to 6) and neurons (by panels of 8 to 64);
// several tiles, groups of tiles, panels a chunk; sums looked up (from 1 to 8 inputs on and 16
// neurons) in blocks of inputs that fill or do not fill their vectors, over several blocks, pieces,
// groups and tiles of samples, and chunks of neurons; two inputs, by pairs and by arcs, with
// several chunks and blocks of positions.
static const std::vector<Shape> kShapes = {
    {1, 1, 1},      {2, 3, 1},     {1, 5, 70},     {7, 2, 9},      {15, 6, 24},   {16, 16, 8},
    {17, 1, 65},    {22, 4, 47},   {39, 11, 31},   {100, 20, 100}, {511, 3, 63},  {512, 4, 64},
    {513, 33, 65},  {700, 3, 300}, {1030, 7, 130}, {3000, 2, 7},   {20, 2, 4200}, {4200, 16, 16},
    {1, 64, 16},    {5, 65, 17},   {37, 150, 40},  {200, 47, 530}, {700, 70, 90}, {32, 2, 32},
    {33, 2, 65},    {31, 2, 33},   {300, 2, 500},  {100, 2, 9000}, {4095, 2, 40}, {9000, 2, 70},
    {700, 9, 1100}, {400, 5, 2300}};

// Several blocks of inputs (of 256 to 1024), whose samples several panels share: three, four, or
// four and what is left, by the instruction set and type.
static const std::vector<Shape> kManyInputs = {{120, 270, 3300}, {20, 1030, 900}, {400, 1030, 300}};

template <class T>
static std::vector<T> integer_residuals(Index n) {
  Random random(9);
  std::vector<T> r(at(n));
  for (T& value : r) value = static_cast<T>(random.integer(-3, 3));
  return r;
}

template <class T>
static std::vector<T> random_residuals(Index n) {
  Random random(9);
  std::vector<T> r(at(n));
  for (T& value : r) value = static_cast<T>(random.uniform());
  return r;
}

// On small integers every sum is exact, so kernel and loop agree to the last bit, ties at 0
// included.
template <class T>
static void integers_are_exact() {
  for (const Shape& s : kShapes)
    for (const Named& activation : homogeneous_activations()) {
      const Problem<T> p = integer_problem<T>(s.n, s.d, s.m);
      const std::vector<T> r = integer_residuals<T>(s.n);
      const Naive want(p, activation, r);
      const Computed<T> got(p, activation, r, 2);
      CHECK(error(got.f, want.f) == 0);
      CHECK(error(got.h, want.h) == 0);
      CHECK(error(got.g, want.g) == 0);
    }
}

TEST(homogeneous_networks_are_exact_on_integers) {
  integers_are_exact<double>();
  integers_are_exact<float>();
}

template <class T>
static void agrees_with_naive(const std::vector<Shape>& shapes,
                              const std::vector<Named>& activations, double tolerance) {
  for (const Shape& s : shapes)
    for (const Named& activation : activations) {
      const Problem<T> p = random_problem<T>(s.n, s.d, s.m);
      const std::vector<T> r = random_residuals<T>(s.n);
      const Naive want(p, activation, r);
      const Computed<T> got(p, activation, r, 2);
      CHECK_CLOSE(error(got.f, want.f), 0, tolerance);
      CHECK_CLOSE(error(got.h, want.h), 0, tolerance);
      CHECK_CLOSE(error(got.g, want.g), 0, tolerance);
    }
}

TEST(homogeneous_networks_agree_with_a_plain_loop) {
  agrees_with_naive<double>(kShapes, homogeneous_activations(), 1e-13);
  agrees_with_naive<float>(kShapes, homogeneous_activations(), 2e-5);
}

TEST(smooth_networks_agree_with_a_plain_loop) {
  agrees_with_naive<double>(kShapes, smooth_activations(), 1e-13);
  agrees_with_naive<float>(kShapes, smooth_activations(), 2e-5);
}

TEST(many_inputs_of_smooth_networks_agree_with_a_plain_loop) {
  agrees_with_naive<double>(kManyInputs, {smooth_activations()[0]}, 1e-13);
  agrees_with_naive<float>(kManyInputs, {smooth_activations()[0]}, 2e-5);
}

template <class T>
static void threads_do_not_change_bits(const std::vector<Shape>& shapes,
                                       const std::vector<Named>& activations) {
  for (const Shape& s : shapes)
    for (const Named& activation : activations) {
      const Problem<T> p = random_problem<T>(s.n, s.d, s.m);
      const std::vector<T> r = random_residuals<T>(s.n);
      const Computed<T> one(p, activation, r, 1);
      for (const int threads : {2, 3, 5}) {
        const Computed<T> many(p, activation, r, threads);
        CHECK(same_bits(one.f, many.f));
        CHECK(same_bits(one.h, many.h));
        CHECK(same_bits(one.g, many.g));
      }
    }
}

TEST(the_number_of_threads_does_not_change_bits) {
  std::vector<Named> activations = smooth_activations();
  activations.insert(activations.end(), homogeneous_activations().begin(),
                     homogeneous_activations().end());
  threads_do_not_change_bits<double>(kShapes, activations);
  threads_do_not_change_bits<float>(kShapes, activations);
  threads_do_not_change_bits<double>(kManyInputs, {smooth_activations()[0]});
  threads_do_not_change_bits<float>(kManyInputs, {smooth_activations()[0]});
}

// Two runs put their arrays where the allocator likes: the address may not matter.
template <class T>
static void addresses_do_not_change_bits() {
  for (const Shape& s : kShapes)
    for (const Named& activation : {homogeneous_activations()[1], smooth_activations()[0]}) {
      const Problem<T> p = random_problem<T>(s.n, s.d, s.m);
      const std::vector<T> r = random_residuals<T>(s.n);
      const Computed<T> want(p, activation, r, 1);
      const Activation which = activation_by_name(activation.name, activation.slope);
      for (Index shift = 1; shift < 16; shift = 2 * shift + 1) {
        const auto shifted = [&](const std::vector<T>& values) {
          std::vector<T> moved(at(shift));
          moved.insert(moved.end(), values.begin(), values.end());
          return moved;
        };
        const std::vector<T> x = shifted(p.x), W = shifted(p.W), a = shifted(p.a), rs = shifted(r);
        std::vector<T> f(at(s.n + shift)), h(at(s.m * s.d + shift)), g(at(s.m));
        Monitor monitor;
        const Team team(1, monitor);
        Kernel<T> kernel(s.n, s.d, s.m, x.data() + shift, which, which.homogeneous());
        const Panels<T> net(NetworkView<T>{s.m, s.d, W.data() + shift, a.data() + shift});
        Buffer<T> sums(net.W.size());
        kernel.outputs(net, team, f.data() + shift);
        kernel.gradient_sums(
            net, rs.data() + shift, team, sums.data(), [&](Index panel, const T*, const T* head) {
              const Index first = panel * PanelShape<T>::kPanel;
              std::copy_n(head, std::min(PanelShape<T>::kPanel, s.m - first), g.data() + first);
            });
        Panels<T>::rows(net.shape, sums.data(), h.data() + shift);
        CHECK(std::equal(want.f.begin(), want.f.end(), f.begin() + shift));
        CHECK(std::equal(want.h.begin(), want.h.end(), h.begin() + shift));
        CHECK(same_bits(want.g, g));
      }
    }
}

TEST(addresses_do_not_change_bits) {
  addresses_do_not_change_bits<double>();
  addresses_do_not_change_bits<float>();
}

TEST(a_kernel_can_be_used_again) {
  const Problem<double> p = random_problem<double>(300, 10, 40);
  const Problem<double> q = random_problem<double>(300, 10, 40, 2);
  Monitor monitor;
  const Team team(2, monitor);
  Kernel<double> kernel(p.n, p.d, p.m, p.x.data(), activation_by_name("relu", 0), true);
  std::vector<double> f(at(p.n)), first(at(p.n));
  kernel.outputs(Panels<double>(p.net()), team, first.data());
  kernel.outputs(Panels<double>(q.net()), team, f.data());
  CHECK(!same_bits(first, f));
  kernel.outputs(Panels<double>(p.net()), team, f.data());
  CHECK(same_bits(first, f));
}

TEST(after_sees_every_finished_sample_once) {
  const Problem<double> p = random_problem<double>(2500, 3, 70);
  Monitor monitor;
  Kernel<double> kernel(p.n, p.d, p.m, p.x.data(), activation_by_name("tanh", 0), false);
  std::vector<double> f(at(p.n)), seen(at(p.n)), want(at(p.n));
  kernel.outputs(Panels<double>(p.net()), Team(1, monitor), want.data());
  kernel.outputs(Panels<double>(p.net()), Team(3, monitor), f.data(), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) seen[at(i)] += f[at(i)];
  });
  CHECK(same_bits(seen, want));
}

TEST(a_nan_reaches_the_outputs) {
  for (const Named& activation : homogeneous_activations()) {
    Problem<double> p = random_problem<double>(20, 2, 3);
    p.x[at(2 * 7)] = std::numeric_limits<double>::quiet_NaN();
    const Computed<double> got(p, activation, random_residuals<double>(p.n), 1);
    for (Index i = 0; i < p.n; ++i) CHECK(std::isnan(got.f[at(i)]) == (i == 7));
  }
}

// Where sums are looked up, tables may have place for samples that are not there: these must not
// meet an infinite input.
template <class T>
static void infinite_inputs_reach_what_they_should() {
  for (const Shape& s : std::vector<Shape>{{16, 14, 45}, {5, 6, 75}, {33, 9, 40}, {161, 3, 70}})
    for (const Named& activation : homogeneous_activations())
      for (Index i = s.n - 5; i < s.n; ++i) {
        Problem<T> p = random_problem<T>(s.n, s.d, s.m);
        p.x[at(i * s.d + 2)] = std::numeric_limits<T>::infinity();
        const std::vector<T> r = random_residuals<T>(s.n);
        const Naive want(p, activation, r);
        const Computed<T> got(p, activation, r, 2);
        for (std::size_t k = 0; k < want.h.size(); ++k) {
          CHECK(std::isnan(static_cast<double>(got.h[k])) == std::isnan(want.h[k]));
          CHECK(std::isinf(static_cast<double>(got.h[k])) == std::isinf(want.h[k]));
        }
      }
}

TEST(infinite_inputs_reach_what_they_should_and_nothing_else) {
  infinite_inputs_reach_what_they_should<double>();
  infinite_inputs_reach_what_they_should<float>();
}

// A padding neuron has z = 0, and derivatives that those of the network may not have.
TEST(padding_neurons_have_no_sums) {
  constexpr Index n = 40, d = 3;
  for (const Named& activation : {Named{"tanh", 0}, Named{"leaky_relu", 0.5}})
    for (const Index m : {1, 5}) {
      Problem<float> p = random_problem<float>(n, d, m);
      std::fill(p.x.begin(), p.x.end(), 1e38f);
      std::fill(p.W.begin(), p.W.end(), 1.0f);
      Monitor monitor;
      const Team team(1, monitor);
      const Activation which = activation_by_name(activation.name, activation.slope);
      Kernel<float> kernel(n, d, m, p.x.data(), which, which.homogeneous());
      const Panels<float> net(p.net());
      Buffer<float> sums(net.W.size());
      std::vector<float> f(at(n)), r(at(n), 1.0f);
      kernel.outputs(net, team, f.data());
      bool clean = true;
      kernel.gradient_sums(net, r.data(), team, sums.data(),
                           [&](Index, const float* h, const float*) {
                             for (Index k = 0; k < d; ++k)
                               for (Index l = m; l < Kernel<float>::kPanel; ++l)
                                 clean = clean && h[k * Kernel<float>::kPanel + l] == 0;
                           });
      CHECK(clean);
    }
}

// z = w . x + scale * base is that of a network with more inputs; and z may be given whole.
template <class T>
static void z_may_come_from_elsewhere(double tolerance) {
  constexpr Index kPanel = PanelShape<T>::kPanel;
  for (const Shape& s : kManyInputs)
    for (const char* name : {"tanh", "leaky_relu"}) {
      const Index more = 9;
      const T scale = T(0.5);
      const Problem<T> p = random_problem<T>(s.n, s.d, s.m);
      const Problem<T> q = random_problem<T>(s.n, more, s.m, 2);
      Problem<T> both = p;
      both.d = s.d + more;
      both.x.clear();
      both.W.clear();
      const auto join = [&](const std::vector<T>& here, const std::vector<T>& there, Index row,
                            T factor, std::vector<T>& out) {
        for (Index k = 0; k < s.d; ++k) out.push_back(here[at(row * s.d + k)]);
        for (Index k = 0; k < more; ++k) out.push_back(factor * there[at(row * more + k)]);
      };
      for (Index i = 0; i < s.n; ++i) join(p.x, q.x, i, T(1), both.x);
      for (Index j = 0; j < s.m; ++j) join(p.W, q.W, j, scale, both.W);
      const std::vector<T> r = random_residuals<T>(s.n);
      const Named activation = {name, 0.25};
      const Naive want(both, activation, r);

      const Panels<T> net(p.net());
      Buffer<T> base(net.shape.panels() * s.n * kPanel), whole(base.size());
      for (Index j = 0; j < s.m; ++j)
        for (Index i = 0; i < s.n; ++i) {
          const Index place = (j / kPanel * s.n + i) * kPanel + j % kPanel;
          double z = 0;
          for (Index k = 0; k < more; ++k)
            z += double{q.W[at(j * more + k)]} * double{q.x[at(i * more + k)]};
          base.data()[place] = static_cast<T>(z);
          z = 0;
          for (Index k = 0; k < both.d; ++k)
            z += double{both.W[at(j * both.d + k)]} * double{both.x[at(i * both.d + k)]};
          whole.data()[place] = static_cast<T>(z);
        }
      for (const bool given : {false, true}) {
        Monitor monitor;
        const Team team(2, monitor);
        const Activation which = activation_by_name(name, activation.slope);
        Kernel<T> kernel(s.n, s.d, s.m, p.x.data(), which, which.by_sign());
        if (given)
          kernel.give(whole.data());
        else
          kernel.shift(base.data(), scale);
        std::vector<T> f(at(s.n)), h(at(s.m * s.d));
        auto sums = Buffer<T>::unset(net.W.size());
        kernel.outputs(net, team, f.data());
        kernel.gradient_sums(net, r.data(), team, sums.data(), [](Index, const T*, const T*) {});
        Panels<T>::rows(net.shape, sums.data(), h.data());
        std::vector<double> first;
        for (Index j = 0; j < s.m; ++j)
          for (Index k = 0; k < s.d; ++k) first.push_back(want.h[at(j * both.d + k)]);
        CHECK_CLOSE(error(f, want.f), 0, tolerance);
        CHECK_CLOSE(error(h, first), 0, tolerance);
      }
    }
}

TEST(pre_activations_may_come_from_elsewhere) {
  z_may_come_from_elsewhere<double>(1e-13);
  z_may_come_from_elsewhere<float>(2e-5);
}

// Splits that are evaluated in turns share the memory in which outputs are summed.
TEST(kernels_may_share_memory) {
  const Problem<double> p = random_problem<double>(300, 7, 90),
                        q = random_problem<double>(500, 7, 90, 2);
  Monitor monitor;
  const Team team(2, monitor);
  const Activation relu = activation_by_name("relu", 0);
  const Panels<double> net(p.net());
  Kernel<double> one(p.n, 7, 90, p.x.data(), relu, false),
      other(q.n, 7, 90, q.x.data(), relu, false);
  std::vector<double> f(at(p.n)), g(at(q.n)), again(at(p.n));
  one.outputs(net, team, f.data());
  other.outputs(net, team, g.data());
  other.share_memory(one);
  std::vector<double> shared(at(q.n));
  other.outputs(net, team, shared.data());
  CHECK(same_bits(shared, g));
  one.outputs(net, team, again.data());
  CHECK(same_bits(again, f));
}
