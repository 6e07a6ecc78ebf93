// What the head of a network sees: sigma(<w_j, x_i>) for all samples and neurons, in one pass. A
// tile's products, its activation and its way to memory follow one another while it is near.
#pragma once

#include <algorithm>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/panel_products.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

// out is (n, m); x is (n, d).
template <class T>
void network_features(const NetworkView<T>& net, Activation activation, Index n, const T* x,
                      const Team& whole_team, T* out) {
  const DefaultFloats floats;
  using S = Simd<T>;
  constexpr Index kPanel = S::kPanel;
  const Index together = panels_together(net.d);
  const Panels<T> panels(net, whole_team);
  const PanelShape<T>& shape = panels.shape;
  const Cut tiles(n, ceil_div(n, Partition<T>::samples(net.d)), kMicroBlock);
  const Index chunks = ceil_div(shape.panels(), kPanelsTogether);
  const double work = kernel_flops(n, net.d, net.m);
  const Team team = whole_team.for_work(work);
  team.monitor().stage(
      1, work * static_cast<double>(net.d) / static_cast<double>(net.d + 4) / team.threads());
  std::vector<Buffer<T>> scratch(static_cast<std::size_t>(team.threads()));
  const T offset = static_cast<T>(activation.offset);
  team.for_each(chunks * tiles.pieces(), [&](Index item, const Worker& worker) {
    const Index chunk = item / tiles.pieces();
    const Index s = item % tiles.pieces();
    const Index first = tiles.begin(s);
    const Index samples = tiles.end(s) - first;
    Buffer<T>& tile = scratch[static_cast<std::size_t>(worker.id)];
    const Index begin = chunk * kPanelsTogether;
    const Index end = std::min(shape.panels(), begin + kPanelsTogether);
    if (tile.size() == 0) tile = Buffer<T>(together * tiles.length * kPanel);
    for (Index p = begin; p < end; p += together) {
      const Index last = std::min(p + together, end);
      if (worker.stop(2.0 * static_cast<double>(samples * net.d * (last - p) * kPanel))) return;
      panel_products(shape, panels.W.data(), p, last, x + first * net.d, samples, tile.data());
      activate<T>(activation, tile.data(), tile.data(), nullptr, (last - p) * samples * kPanel);
      for (Index q = p; q < last; ++q)
        for (Index i = 0; i < samples; ++i) {
          const T* row = tile.data() + ((q - p) * samples + i) * kPanel;
          T* to = out + (first + i) * net.m + q * kPanel;
          for (Index l = 0; l < shape.neurons(q); ++l) to[l] = row[l] - offset;
        }
    }
  });
}

}  // namespace featcore
