#include "featcore/observables.hpp"

#include <vector>

namespace featcore {
template const std::vector<ObservableEntry<double>>& observable_table();
template const std::vector<ObservableEntry<float>>& observable_table();
}  // namespace featcore
