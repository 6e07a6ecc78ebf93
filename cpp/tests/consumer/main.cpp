// Trains a tiny network on XOR with gradient descent.
#include <cstdio>
#include <featcore/featcore.hpp>
#include <vector>

using namespace featcore;

std::vector<double> outputs(const NetworkView<double>& net, const std::vector<double>& x);

int main() {
  const std::vector<double> x = {1, 0, -1, 0, 0, 1, 0, -1};
  const std::vector<double> y = {1, 1, -1, -1};
  const std::vector<double> W = {0.3, 0.1, -0.3, 0.1, 0.1, 0.3, 0.1, -0.3};
  const std::vector<double> a = {0.3, 0.3, -0.3, -0.3};
  const SplitView<double> data{4, 2, x.data(), y.data(), nullptr, nullptr};
  const NetworkView<double> start{4, 2, W.data(), a.data()};

  Monitor monitor;
  const Team team(2, monitor);
  PrimalForm<double> form(start, activation_by_name("relu", 0), {data}, false, team);
  const std::vector<Objective<double>> objectives = {Objective<double>({}, data)};
  const std::vector<double> balances(4);
  std::vector<double> losses(3);
  std::vector<std::int64_t> steps(3);
  Column loss;
  loss.request.name = "loss";
  loss.splits = {0};
  loss.out = losses.data();
  Recorder<double> recorder({0, 200}, {loss}, steps.data());
  DescentOptions options;
  options.last_step = 200;
  const DescentOutcome outcome =
      descend<double>(form, objectives, balances.data(), options, recorder, team);

  const std::vector<double> f = outputs(form.network(), x);
  std::printf("%s after %lld steps: loss %.3g -> %.3g\n", status_name(outcome.status),
              static_cast<long long>(outcome.step), losses[0], losses[1]);
  for (std::size_t i = 0; i < 4; ++i)
    if (f[i] * y[i] <= 0) return 1;
  return losses[1] < losses[0] ? 0 : 1;
}
