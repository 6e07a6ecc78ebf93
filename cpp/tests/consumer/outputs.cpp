// A second file with the headers: they must not define anything twice.
#include <featcore/featcore.hpp>
#include <vector>

std::vector<double> outputs(const featcore::NetworkView<double>& net,
                            const std::vector<double>& x) {
  const auto n = static_cast<featcore::Index>(x.size()) / net.d;
  featcore::Monitor monitor;
  featcore::Kernel<double> kernel(n, net.d, net.m, x.data(),
                                  featcore::activation_by_name("relu", 0), false);
  std::vector<double> f(static_cast<std::size_t>(n));
  kernel.outputs(net.W, net.a, featcore::Team(2, monitor), f.data());
  return f;
}
