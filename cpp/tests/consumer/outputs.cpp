// A second file with the headers: they must not define anything twice.
#include <featcore/featcore.hpp>
#include <vector>

std::vector<double> outputs(const featcore::NetworkView<double>& net,
                            const std::vector<double>& x) {
  const auto n = static_cast<featcore::Index>(x.size()) / net.d;
  featcore::Monitor monitor;
  std::vector<double> f(static_cast<std::size_t>(n));
  featcore::network_outputs(net, featcore::activation_by_name("relu", 0), n, x.data(),
                            featcore::Team(2, monitor), f.data());
  return f;
}
