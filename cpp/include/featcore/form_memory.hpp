// What a form takes in memory, before it begins.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "featcore/arcs.hpp"
#include "featcore/types.hpp"

namespace featcore {

// What a form takes beyond the samples and the weights that come and go, in bytes; where it is
// largest, when the state is handed over.
template <class T>
double form_memory(const std::string& form, const NetworkView<T>& net,
                   const std::vector<SplitView<T>>& splits, Index rank) {
  constexpr double kTiles = 64.0 * 1024 * 1024;
  constexpr double kSize = sizeof(T);
  const double n = static_cast<double>(splits[0].n);
  const double m = static_cast<double>(net.m);
  const double weights = kSize * m * static_cast<double>(net.d);
  // Other splits add up their outputs in turns, in one place.
  constexpr double kTurns = 16.0 * 1024 * 1024;
  double all = 0, most = 0, others_tiles = 0;
  for (std::size_t s = 0; s < splits.size(); ++s) {
    const double samples = static_cast<double>(splits[s].n);
    all += samples;
    if (s == 0) continue;
    most = std::max(most, samples);
    others_tiles += kSize * samples;  // the outputs themselves
    if (form == "primal" && Arcs<T>::pays(splits[s].n, net.d, net.m))
      others_tiles += Arcs<T>::bytes(splits[s].n, net.m);
  }
  others_tiles += std::min(kTurns, kSize * 64 * most);
  if (form == "primal") return kTiles + all * m / 8 + 3 * weights + others_tiles;
  const double k = form == "gram" ? n : static_cast<double>(rank);
  const double others = kSize * ((all - n) * (m + k) + most * m);
  const double own = form == "gram"
                         ? kSize * (7 * n * m + n * n)
                         : kSize * (6 * k * m + k * (2 * static_cast<double>(net.d) + n));
  return kTiles + all * m / 8 + 3 * weights + own + others + others_tiles;
}

}  // namespace featcore
