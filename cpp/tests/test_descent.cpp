#include <algorithm>
#include <functional>

#include "check.hpp"
#include "featcore/descent.hpp"
#include "featcore/form.hpp"
#include "featcore/mini_batches.hpp"
#include "problem.hpp"

using namespace featcore;
using namespace featcore::testing;

template <class T>
static ChosenForm<T> primal_form(const Problem<T>& p, const Named& activation,
                                 const std::vector<SplitView<T>>& splits, const Team& team) {
  return choose_form<T>("primal", p.net(), activation_by_name(activation.name, activation.slope),
                        splits, false, nullptr, team, [](const std::string&, double) {});
}

// A run with nothing left out: what it recorded, how it ended, and the network it left.
template <class T>
struct Outcome {
  DescentOutcome end;
  std::vector<std::int64_t> steps;
  std::vector<double> losses;
  std::vector<T> W, a;
};

template <class T>
class HookedRecorder final : public Recorder<T> {
 public:
  using Recorder<T>::Recorder;
  std::function<void(std::int64_t step)> hook;

 protected:
  void on_row(Index, std::int64_t step, const Weights<T>&, const Team&) override {
    if (hook) hook(step);
  }
};

// Calls `before` in front of every outputs(): a place to stop in the middle of a step.
template <class T>
class HookedForm final : public Form<T> {
 public:
  HookedForm(Form<T>& inner, std::function<void()> before)
      : inner_(inner), before_(std::move(before)) {}

  const char* name() const override { return inner_.name(); }
  double flops() const override { return inner_.flops(); }
  const T* outputs(Index split, const Team& team) override {
    before_();
    return inner_.outputs(split, team);
  }
  const Signs<T>* signs(Index split, const Team& team) const override {
    return inner_.signs(split, team);
  }
  StepInfo step(const T* r, double step_size, const Rates& rates, double weight_decay, bool measure,
                const Team& team) override {
    return inner_.step(r, step_size, rates, weight_decay, measure, team);
  }
  void train_on(const SplitView<T>& split) override { inner_.train_on(split); }
  void undo() override { inner_.undo(); }
  const Weights<T>& weights() override { return inner_.weights(); }
  FormState<T> state() const override { return {}; }

 private:
  Form<T>& inner_;
  std::function<void()> before_;
};

template <class T>
struct Run {
  ObjectiveSpec spec;
  DescentOptions options;
  Named activation{"relu", 0};
  std::vector<std::int64_t> schedule;
  int threads = 1;
  Index batch = 0;  // samples of a step; 0 for all
  std::function<void(std::int64_t, Monitor&)> on_row;
  std::function<void(Monitor&)> before_outputs;

  Outcome<T> operator()(const Problem<T>& p) const {
    Monitor monitor;
    return with(p, monitor);
  }

  Outcome<T> with(const Problem<T>& p, Monitor& monitor) const {
    Outcome<T> result;
    result.steps.resize(schedule.size() + 1);
    result.losses.resize(schedule.size() + 1);
    std::vector<double> balances;
    for (Index j = 0; j < p.m; ++j) balances.push_back(balance(p.net(), j));
    Column column;
    column.request.name = "loss";
    column.splits = {0};
    column.out = result.losses.data();
    HookedRecorder<T> recorder(schedule, {column}, result.steps.data());
    if (on_row) recorder.hook = [&](std::int64_t step) { on_row(step, monitor); };
    const SplitView<T> split = p.split();
    std::vector<SplitView<T>> splits = {split};
    if (batch > 0) splits.push_back(split);
    const ChosenForm<T> chosen = primal_form(p, activation, splits, Team(1, monitor));
    Form<T>& form = *chosen.form;
    HookedForm<T> hooked(form, [&] {
      if (before_outputs) before_outputs(monitor);
    });
    const std::vector<Objective<T>> objectives = {Objective<T>(spec, split)};
    DescentOptions all = options;
    all.weight_decay = spec.weight_decay;
    const Team team(threads, monitor);
    if (batch == 0) {
      result.end = descend<T>(hooked, objectives, balances.data(), all, recorder, team);
    } else {
      MiniBatches<T> samples(objectives.front(), batch, 7);
      result.end = descend(hooked, samples, objectives, balances.data(), all, recorder, team);
    }
    result.steps.resize(at(recorder.rows()));
    result.losses.resize(at(recorder.rows()));
    const NetworkView<T> net = form.network();
    result.W.assign(net.W, net.W + p.m * p.d);
    result.a.assign(net.a, net.a + p.m);
    return result;
  }
};

template <class T>
static Run<T> run_of(std::int64_t steps, double step_size) {
  Run<T> run;
  run.options.last_step = steps;
  run.options.step_size = step_size;
  return run;
}

template <class T>
static bool same_network(const Outcome<T>& one, const Outcome<T>& two) {
  return same_bits(one.W, two.W) && same_bits(one.a, two.a);
}

static const std::vector<Loss> kLosses = {Loss::logistic, Loss::exponential, Loss::hinge,
                                          Loss::squared};

// W + eta rate_W (a h - lambda W) and a + eta rate_a (g - lambda a), from the plain loop.
template <class T>
static void one_step_is_the_stated_one(double tolerance) {
  for (const Named& activation : {homogeneous_activations()[1], smooth_activations()[2]})
    for (const Loss loss : kLosses) {
      const Problem<T> p = random_problem<T>(60, 5, 9);
      Run<T> run = run_of<T>(1, 0.1);
      run.activation = activation;
      run.spec = {loss, true, 0.05, 0.2};
      run.options.rates = {1, 0.5};
      const Outcome<T> got = run(p);
      CHECK(got.end.status == Status::reached_end);

      const Naive forward(p, activation, std::vector<T>(at(p.n)));
      std::vector<T> r;
      for (Index i = 0; i < p.n; ++i) {
        const double f = forward.f[at(i)];
        const double y = static_cast<double>(p.y[at(i)]);
        r.push_back(static_cast<T>((residual(loss, f, y) - 0.2 * f) / static_cast<double>(p.n)));
      }
      const Naive sums(p, activation, r);
      std::vector<double> W, a;
      for (Index j = 0; j < p.m; ++j) {
        const double head = static_cast<double>(p.a[at(j)]);
        a.push_back(head + 0.1 * 0.5 * (sums.g[at(j)] - 0.05 * head));
        for (Index k = j * p.d; k < (j + 1) * p.d; ++k) {
          const double w = static_cast<double>(p.W[at(k)]);
          W.push_back(w + 0.1 * (head * sums.h[at(k)] - 0.05 * w));
        }
      }
      CHECK_CLOSE(error(got.W, W), 0, tolerance);
      CHECK_CLOSE(error(got.a, a), 0, tolerance);
    }
}

TEST(one_step_is_the_stated_one) {
  one_step_is_the_stated_one<double>(1e-15);
  one_step_is_the_stated_one<float>(1e-6);
}

template <class T>
static void resumed_is_one_run(Index batch) {
  for (const Named& activation : {homogeneous_activations()[0], smooth_activations()[0]}) {
    Problem<T> p = random_problem<T>(200, 10, 70);
    Run<T> run = run_of<T>(20, 0.3);
    run.batch = batch;
    run.activation = activation;
    run.spec = {Loss::logistic, true, 0.01, 0.1};
    const Outcome<T> whole = run(p);
    run.options.last_step = 7;
    const Outcome<T> first = run(p);
    CHECK(!same_network(whole, first));
    p.W = first.W;
    p.a = first.a;
    run.options.first_step = 7;
    run.options.last_step = 20;
    run.threads = 3;
    const Outcome<T> second = run(p);
    CHECK(second.end.step == 20);
    CHECK(same_network(whole, second));
  }
}

TEST(a_resumed_run_has_the_bits_of_one_run) {
  for (const Index batch : {0, 33}) {
    resumed_is_one_run<double>(batch);
    resumed_is_one_run<float>(batch);
  }
}

TEST(the_number_of_threads_does_not_change_a_run) {
  const Problem<float> p = random_problem<float>(600, 30, 130);
  Run<float> run = run_of<float>(10, 0.3);
  run.schedule = {0, 3, 10};
  for (const Index batch : {0, 170}) {
    run.batch = batch;
    run.threads = 1;
    const Outcome<float> one = run(p);
    for (const int threads : {2, 3, 5}) {
      run.threads = threads;
      const Outcome<float> many = run(p);
      CHECK(same_network(one, many));
      CHECK(same_bits(one.losses, many.losses));
    }
  }
}

TEST(an_epoch_has_every_sample_once) {
  for (const Index n : {1, 2, 3, 63, 64, 65, 1000})
    for (const std::int64_t epoch : {0, 1, 1000000}) {
      std::vector<Index> order = epoch_order(n, 5, epoch);
      CHECK(n < 60 || order != epoch_order(n, 5, epoch + 1));
      CHECK(n < 60 || order != epoch_order(n, 6, epoch));
      std::sort(order.begin(), order.end());
      for (Index i = 0; i < n; ++i) CHECK(order[at(i)] == i);
    }
}

TEST(other_forms_keep_their_samples) {
  const Problem<double> p = random_problem<double>(20, 5, 5);
  Monitor monitor;
  const Team team(1, monitor);
  const ChosenForm<double> chosen =
      choose_form<double>("gram", p.net(), activation_by_name("relu", 0), {p.split()}, false,
                          nullptr, team, [](const std::string&, double) {});
  CHECK_THROWS(std::logic_error, chosen.form->train_on(p.split()));
}

TEST(a_batch_stands_for_all_samples) {
  const Problem<double> p = random_problem<double>(50, 3, 5);
  const Objective<double> whole({Loss::logistic, true, 0, 0.2}, p.weighted());
  Monitor monitor;
  const Team team(2, monitor);
  const ChosenForm<double> chosen = primal_form(p, {"relu", 0}, {p.split(), p.split()}, team);
  Form<double>& form = *chosen.form;
  MiniBatches<double> samples(whole, 12, 3);
  CHECK(samples.per_epoch() == 5);
  double total = 0;
  std::vector<double> r(12), all(50);
  const std::vector<double> f = [&] {
    const double* outputs = form.outputs(1, team);
    return std::vector<double>(outputs, outputs + 50);
  }();
  whole.residuals(0, 50, f.data(), all.data());
  double expected = 0;
  for (Index i = 0; i < 50; ++i) expected += all[at(i)] * f[at(i)];
  for (std::int64_t step = 0; step < 5; ++step) {  // the last has 2 samples, times 25
    const Objective<double>& part = samples.go_to(step, form, team);
    const Index n = part.split().n;
    CHECK(n == (step < 4 ? 12 : 2));
    const double* outputs = form.outputs(0, team);
    part.residuals(0, n, outputs, r.data());
    for (Index b = 0; b < n; ++b) total += r[at(b)] * outputs[b] * static_cast<double>(n) / 50;
  }
  CHECK_CLOSE(total, expected, 1e-14);
}

TEST(undo_is_exact) {
  const Problem<double> p = random_problem<double>(50, 4, 10);
  Monitor monitor;
  const Team team(2, monitor);
  const ChosenForm<double> chosen = primal_form(p, {"relu", 0}, {p.split()}, team);
  Form<double>& form = *chosen.form;
  const double* f = form.outputs(0, team);
  const std::vector<double> before(f, f + p.n);
  form.step(p.y.data(), 0.7, {}, 0, false, team);
  CHECK(std::memcmp(form.network().W, p.W.data(), p.W.size() * sizeof(double)) != 0);
  form.undo();
  CHECK(std::memcmp(form.network().W, p.W.data(), p.W.size() * sizeof(double)) == 0);
  CHECK(std::memcmp(form.network().a, p.a.data(), p.a.size() * sizeof(double)) == 0);
  f = form.outputs(0, team);
  CHECK(same_bits(before, std::vector<double>(f, f + p.n)));
}

TEST(a_rate_of_zero_freezes_a_layer) {
  const Problem<double> p = random_problem<double>(50, 4, 10);
  Run<double> run = run_of<double>(5, 0.1);
  run.spec.weight_decay = 0.1;
  run.options.rates = {1, 0};
  Outcome<double> got = run(p);
  CHECK(same_bits(got.a, p.a) && !same_bits(got.W, p.W));
  run.options.rates = {0, 1};
  got = run(p);
  CHECK(!same_bits(got.a, p.a) && same_bits(got.W, p.W));
}

TEST(start_schedule_and_end_are_recorded) {
  const Problem<double> p = random_problem<double>(50, 4, 10);
  Run<double> run = run_of<double>(9, 0.1);
  run.schedule = {0, 2, 5, 9};
  CHECK((run(p).steps == std::vector<std::int64_t>{0, 2, 5, 9}));
  run.schedule = {0, 2};
  CHECK((run(p).steps == std::vector<std::int64_t>{0, 2, 9}));  // an end that was not planned
  run.options.last_step = 0;
  CHECK((run(p).steps == std::vector<std::int64_t>{0}));
  const Outcome<double> nothing = run(p);
  CHECK(same_bits(nothing.W, p.W) && nothing.end.status == Status::reached_end);
}

TEST(the_loss_falls) {
  const Problem<double> p = random_problem<double>(50, 4, 10);
  for (const Loss loss : kLosses) {
    Run<double> run = run_of<double>(20, 0.02);
    run.spec.loss = loss;
    for (std::int64_t step = 0; step <= 20; ++step) run.schedule.push_back(step);
    const std::vector<double> losses = run(p).losses;
    for (std::size_t k = 1; k < losses.size(); ++k) CHECK(losses[k] < losses[k - 1]);
  }
}

template <class T>
static void non_finite_keeps_the_last_finite_network(const Run<T>& run, const Problem<T>& p) {
  const Outcome<T> got = run(p);
  CHECK(got.end.status == Status::non_finite);
  CHECK(got.end.step < run.options.last_step);
  CHECK(got.steps.back() == got.end.step);
  for (const T w : got.W) CHECK(std::isfinite(w));
  for (const double loss : got.losses) CHECK(std::isfinite(loss));
  Run<T> again = run;
  again.options.last_step = got.end.step;
  const Outcome<T> want = again(p);
  CHECK(want.end.status == Status::reached_end);
  CHECK(same_network(want, got));
  CHECK(same_bits(want.losses, got.losses));
}

TEST(non_finite_keeps_the_last_finite_network) {
  for (const int threads : {1, 3}) {
    Run<double> blown = run_of<double>(500, 40);  // a few steps of growth, then overflow
    blown.spec.loss = Loss::squared;
    blown.schedule = {0, 1, 2};
    blown.threads = threads;
    non_finite_keeps_the_last_finite_network(blown, random_problem<double>(300, 10, 80));
    Run<float> at_once = run_of<float>(500, 1e30);
    at_once.spec.loss = Loss::exponential;
    at_once.schedule = {0};
    at_once.threads = threads;
    non_finite_keeps_the_last_finite_network(at_once, random_problem<float>(300, 10, 80));
  }
}

TEST(a_start_that_is_not_finite_is_reported_and_recorded) {
  Problem<double> p = random_problem<double>(20, 2, 3);
  for (double& value : p.W) value *= 1e300;
  for (double& value : p.a) value *= 1e300;
  const Outcome<double> got = run_of<double>(5, 0.1)(p);
  CHECK(got.end.status == Status::non_finite && got.end.step == 0);
  CHECK(got.steps.size() == 1 && same_bits(got.W, p.W));
}

// Whatever happens, the network is that of a run that ended at `end.step` by itself.
template <class T>
static void check_whole(const Run<T>& run, const Problem<T>& p, const Outcome<T>& got) {
  CHECK(got.end.status == Status::interrupted);
  CHECK(got.end.step < run.options.last_step);
  Run<T> again = run;
  again.options.last_step = got.end.step;
  again.on_row = {};
  again.before_outputs = {};
  const Outcome<T> want = again(p);
  CHECK(same_network(want, got));
  for (std::size_t row = 0; row < got.steps.size(); ++row) {
    CHECK(got.steps[row] == want.steps[row]);
    CHECK(got.losses[row] == want.losses[row]);
  }
}

TEST(a_stop_within_a_step_drops_the_step) {
  const Problem<double> p = random_problem<double>(700, 20, 130);
  for (const int threads : {1, 3})
    for (const int calls : {0, 1, 2, 6}) {  // 0 is the evaluation of the start
      Run<double> run = run_of<double>(50, 0.1);
      run.schedule = {0, 2, 4};
      run.threads = threads;
      int left = calls;
      run.before_outputs = [&](Monitor& monitor) {
        if (left-- == 0) monitor.request_stop();
      };
      const Outcome<double> got = run(p);
      CHECK(got.end.step == std::max(0, calls - 1));
      check_whole(run, p, got);
    }
}

TEST(a_stop_while_recording_keeps_the_row_and_the_network) {
  const Problem<double> p = random_problem<double>(700, 20, 130);
  for (const int threads : {1, 3}) {
    Run<double> run = run_of<double>(50, 0.1);
    run.schedule = {0, 2, 4};
    run.threads = threads;
    run.on_row = [](std::int64_t step, Monitor& monitor) {
      if (step == 4) monitor.request_stop();
    };
    const Outcome<double> got = run(p);
    CHECK(got.end.step == 4 && got.steps.back() == 4);
    check_whole(run, p, got);
  }
}

class StopAfter final : public Monitor {
 public:
  explicit StopAfter(int polls) : left_(polls) {}

 protected:
  bool poll() override { return left_-- > 0; }

 private:
  int left_;
};

TEST(a_stop_from_a_poll_leaves_the_network_whole) {
  const Problem<float> p = random_problem<float>(500, 20, 130);
  for (const Index batch : {0, 130})
    for (const int threads : {1, 3})
      for (const int polls : {0, 1, 3}) {
        Run<float> run = run_of<float>(100000000, 1e-3);
        run.batch = batch;
        run.schedule = {0, 1};
        run.threads = threads;
        StopAfter monitor(polls);
        check_whole(run, p, run.with(p, monitor));
      }
}

TEST(what_a_recorder_throws_reaches_the_caller) {
  const Problem<double> p = random_problem<double>(700, 20, 130);
  for (const int threads : {1, 3}) {
    Run<double> run = run_of<double>(10, 0.1);
    run.schedule = {0, 2};
    run.threads = threads;
    run.on_row = [](std::int64_t step, Monitor&) {
      if (step == 2) throw std::domain_error("observer");
    };
    Monitor monitor;
    CHECK_THROWS(std::domain_error, run.with(p, monitor));
    CHECK(monitor.position == 2);
  }
}

TEST(a_run_stops_where_it_was_told_to) {
  const Problem<double> p = random_problem<double>(50, 4, 10);
  Run<double> run = run_of<double>(1000, 0.1);
  run.schedule = {0};
  const double start = run(p).losses[0];

  run.options.stop.loss_at_most = 0.9 * start;
  Outcome<double> got = run(p);
  CHECK(got.end.status == Status::loss_target && got.end.step > 0 && got.end.step < 1000);
  CHECK(got.steps.back() == got.end.step && got.losses.back() <= 0.9 * start);
  Run<double> before = run;
  before.options.last_step = got.end.step - 1;
  CHECK(before(p).end.status == Status::reached_end);  // not a step earlier

  run.options.stop = {};
  run.options.stop.gradient_at_most = 1e9;
  got = run(p);
  CHECK(got.end.status == Status::stationary && got.end.step == 0 && same_bits(got.W, p.W));

  run.options.stop = {};
  run.options.stop.seconds = 0;
  got = run(p);
  CHECK(got.end.status == Status::wall_time && got.end.step == 0 && got.steps.size() == 1);
}

TEST(dead_networks_are_stationary) {
  Problem<double> p = random_problem<double>(50, 4, 10);
  for (double& x : p.x) x = std::abs(x) + 0.1;
  for (double& w : p.W) w = -std::abs(w) - 0.1;
  Run<double> run = run_of<double>(10, 0.1);
  run.options.stop.gradient_at_most = 0;
  const Outcome<double> got = run(p);
  CHECK(got.end.status == Status::stationary && got.end.step == 0);
}

TEST(senseless_options_are_refused) {
  const Problem<double> p = random_problem<double>(5, 2, 3);
  CHECK_THROWS(std::invalid_argument, run_of<double>(1, 0)(p));
  CHECK_THROWS(std::invalid_argument, run_of<double>(1, std::nan(""))(p));
  CHECK_THROWS(std::invalid_argument, run_of<double>(-1, 0.1)(p));
}
